import numpy as np
import pytest
import torch

from contracts.errors import FootpathError
from models.data import open_sequences
from models.encoders import ENCODERS
from models.packed import pack
from models.user_model import ModelConfig, build_model

FIELDS = ("item", "action", "category", "gap", "position")
SIZES = {"item": 43, "action": 5, "category": 7}


def model_of(encoder: str, fields: tuple[str, ...] = FIELDS, **options):
    torch.manual_seed(0)
    return build_model(ModelConfig(encoder, 16, 32, fields, options, SIZES))


def windows(sequences, users, lengths):
    return pack(sequences.windows(np.array(users), np.zeros(len(users), int), np.array(lengths)))


@pytest.fixture
def sequences(make_sequences):
    return open_sequences(make_sequences([30, 4, 17, 1, 29, 12, 30]))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_user_vector_does_not_depend_on_the_rest_of_the_batch(sequences, encoder, pooling):
    model = model_of(encoder, pooling=pooling).eval()
    users, lengths = [0, 1, 2, 3, 4, 5], [30, 4, 17, 1, 29, 12]
    together = model(windows(sequences, users, lengths))
    assert together.shape == (6, 16)
    for row, (user, length) in enumerate(zip(users, lengths, strict=True)):
        alone = model(windows(sequences, [user], [length]))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_weight_gets_a_gradient(sequences, encoder):
    model = model_of(encoder).train()
    model(windows(sequences, [0, 2, 5], [30, 17, 12])).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_left_out_is_not_seen(sequences, encoder, field):
    fields = tuple(f for f in FIELDS if f != field or f == "item")
    model = model_of(encoder, fields).eval()
    packed = windows(sequences, [0, 2], [20, 17])
    before = model(packed)
    getattr(packed, f"{field}_T").fill_(4)
    assert torch.equal(before, model(packed)) == (field not in fields)


def test_gru_sees_the_past_only_and_bert_sees_both_ways(sequences):
    for encoder, sees_future in (("gru4rec", False), ("bert4rec", True)):
        model = model_of(encoder).eval()
        packed = windows(sequences, [0], [20])
        first = model.encoder.states(model.behaviour(packed), packed)[:19]
        packed.item_T[19] = 3 + (packed.item_T[19] - 2) % 40
        second = model.encoder.states(model.behaviour(packed), packed)[:19]
        assert torch.equal(first, second) != sees_future


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (("lstm", 16, 32, FIELDS, {}, SIZES), "no encoder 'lstm'"),
        (("bert4rec", 16, 32, ("item", "colour"), {}, SIZES), "expected 'item'"),
        (("bert4rec", 15, 32, FIELDS, {}, SIZES), "does not divide among 2 heads"),
        (("bert4rec", 16, 32, FIELDS, {"layer": 3}, SIZES), "did you mean 'layers'"),
        (("gru4rec", 16, 32, FIELDS, {"dropout": 1.5}, SIZES), "dropout 1.5 is not a share"),
        (("gru4rec", 16, 32, FIELDS, {"pooling": "max"}, SIZES), "pooling 'max' is none of"),
    ],
)
def test_wrong_configurations_are_sentences(config, sentence):
    with pytest.raises(FootpathError, match=sentence):
        build_model(ModelConfig(*config))


def test_dropout_keeps_the_mean_and_its_gradient_matches():
    from models.layers import Dropout

    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.ones(400, 100, requires_grad=True)
    y = layer(x)
    assert abs(float(y.detach().mean()) - 1) < 0.01
    assert abs(float((y.detach() == 0).float().mean()) - 0.25) < 0.01
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # of ones, the gradient is the scale itself
    assert layer.eval()(x) is x
