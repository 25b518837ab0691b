import numpy as np
import pytest
import torch

from contracts.base.errors import FootpathError
from models.data.packed import pack
from models.data.sequences import open_sequences
from models.nn.attention_map import attention_by_distance
from tests.builders.models import small_model

SELF = [("bert4rec", {}), ("hsa", {}), ("rotary", {}), ("rotary", {"causal": True})]
SELF += [("bert4rec", {"causal": True})]
POOLED = ["bag", "gru4rec", "han", "hura", "nativectr"]
SIZES = {"item": 43, "action": 5, "category": 7}
LENGTHS = [12, 12, 5, 1]


@pytest.fixture
def packed(make_sequences):
    sequences = open_sequences(make_sequences(LENGTHS))
    lengths = np.array(LENGTHS)
    return pack(sequences.windows(np.arange(4), np.zeros(4, int), lengths))


def model_of(encoder, **options):
    return small_model(SIZES, encoder, ("item", "position"), 32, **options).eval()


@pytest.mark.parametrize(("encoder", "options"), SELF)
def test_weights_are_those_that_mix_the_values(packed, encoder, options):
    model = model_of(encoder, **options)
    x = model.behavior(packed)
    with torch.no_grad():
        layer = model.encoder.attention(x, packed)[0]
    pairs = sum(n * (n + 1) // 2 if options else n * n for n in LENGTHS)
    assert len(layer.weight_P) == len(layer.distance_P) == pairs
    torch.testing.assert_close(layer.weight_P.sum(), torch.tensor(float(sum(LENGTHS))))
    assert int(layer.distance_P.min()) == (0 if options else -11)
    assert int(layer.distance_P.max()) == 11


def test_the_mean_weight_of_a_distance_is_over_all_pairs_so_far_apart(packed):
    model = model_of("hsa", heads=1)
    with torch.no_grad():
        model.encoder.qkv.weight[:32].zero_()  # every event looks at all of its sequence alike
    distance, weight = attention_by_distance(model, packed)
    assert distance.tolist() == list(range(-11, 12))
    np.testing.assert_allclose(weight[distance == 11], 1 / 12, rtol=1e-5)
    alone = 2 * 12 / 12 + 5 / 5 + 1  # distance 0: each event and itself
    np.testing.assert_allclose(weight[distance == 0], alone / sum(LENGTHS), rtol=1e-5)


def test_self_attention_s_weights_give_the_encoder_s_own_states(packed):
    model = model_of("hsa", heads=1)
    x = model.behavior(packed)
    with torch.no_grad():
        weights = model.encoder.attention(x, packed)[0].weight_P
        states, values = model.encoder.states(x, packed), model.encoder.qkv(x)[:, 32:]
    # The two longest sequences come first, 12 x 12 pairs each, row by row.
    torch.testing.assert_close(weights[:144].view(12, 12) @ values[:12], states[:12])
    torch.testing.assert_close(weights[144:288].view(12, 12) @ values[12:24], states[12:24])


@pytest.mark.parametrize("encoder", POOLED)
def test_attention_of_the_pooling_counts_from_the_last_event(packed, encoder):
    distance, weight = attention_by_distance(model_of(encoder, pooling="attention"), packed)
    assert distance.tolist() == list(range(12))
    counts = [sum(n > d for n in LENGTHS) for d in range(12)]
    np.testing.assert_allclose((weight * counts).sum(), len(LENGTHS), rtol=1e-5)


def test_an_encoder_without_attention_says_so(packed):
    with pytest.raises(FootpathError, match="gru4rec has no attention to look at"):
        attention_by_distance(model_of("gru4rec"), packed)
