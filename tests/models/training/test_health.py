import pytest
import torch

from models.training.health import effective_rank, spread


def test_health_figures_show_collapse():
    torch.manual_seed(0)
    healthy = torch.randn(500, 16)
    assert effective_rank(healthy) > 14
    assert spread(healthy) == pytest.approx(1, abs=0.05)
    collapsed = torch.randn(500, 1) * torch.randn(1, 16)
    assert effective_rank(collapsed) == pytest.approx(1, abs=0.01)
    assert spread(torch.ones(500, 16)) == 0
    assert effective_rank(torch.ones(500, 16)) == pytest.approx(1)
