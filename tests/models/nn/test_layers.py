"""Dropout on a CPU: its share, its mean, its way back."""

import torch

from models.nn.layers import Dropout, dropout_scale


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = Dropout(0.25)(torch.ones(200_000))
    assert abs(float((dropped == 0).float().mean()) - 0.25) < 0.01
    assert abs(float(dropped.mean()) - 1) < 0.01


def test_dropout_scales_each_byte_as_it_compares_to_the_level():
    drawn = torch.arange(256, dtype=torch.uint8)
    scale = dropout_scale(drawn, 64, torch.float32)
    torch.testing.assert_close(scale, (drawn >= 64).float() * 256 / 192)


def test_the_gradient_of_dropout_goes_where_the_values_went():
    torch.manual_seed(0)
    x = torch.randn(1000, requires_grad=True)
    dropped = Dropout(0.3)(x)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach() / x.detach())


def test_a_rate_next_to_one_leaves_finite_values():
    torch.manual_seed(0)
    assert torch.isfinite(Dropout(0.999)(torch.ones(100_000))).all()
