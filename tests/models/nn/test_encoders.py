import dataclasses

import numpy as np
import pytest
import torch

from models.data.packed import pack
from models.data.sequences import open_sequences
from models.nn.encoders import ENCODERS
from models.probing.head_inputs import even_pooling
from tests.builders.models import FIELDS, small_model

CAUSAL = [("bert4rec", {"causal": True}), ("rotary", {"causal": True})]
SIZES = {"item": 43, "action": 5, "category": 7}


def model_of(encoder: str, fields: tuple[str, ...] = FIELDS, **options):
    return small_model(SIZES, encoder, fields, 32, **options)


def windows(sequences, users, lengths):
    return pack(sequences.windows(np.array(users), np.zeros(len(users), int), np.array(lengths)))


@pytest.fixture
def sequences(make_sequences):
    return open_sequences(make_sequences([30, 4, 17, 1, 29, 12, 30]))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
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
    changed = dataclasses.replace(packed, **{f"{field}_T": torch.full_like(packed.item_T, 4)})
    # An encoder may lay events out by their position, whether or not it is embedded.
    laid_out = packed if field == "position" else changed
    after = model.encoder(model.behavior(changed), laid_out)
    assert torch.equal(before, after) == (field not in fields)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_half_precision_gives_nearly_the_same_vectors(sequences, encoder, pooling):
    model = model_of(encoder, pooling=pooling).eval()
    packed = windows(sequences, [0, 1, 3, 5], [30, 4, 1, 12])
    exact = model(packed)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(packed)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05 * float(exact.detach().std()))


@pytest.mark.parametrize(("encoder", "options"), [(name, {}) for name in ENCODERS] + CAUSAL)
def test_an_encoder_that_says_so_sees_nothing_later_and_the_others_do(sequences, encoder, options):
    model = model_of(encoder, **options).eval()
    packed = windows(sequences, [0, 4], [20, 17])
    early = packed.position_T < 10
    first = model.encoder.states(model.behavior(packed), packed)[early]
    packed.item_T[~early] = 3 + (packed.item_T[~early] - 2) % 40
    second = model.encoder.states(model.behavior(packed), packed)[early]
    alone = encoder in ("bag", "nativectr")  # there no event sees another one
    assert torch.equal(first, second) == (model.config.encoder.is_causal or alone)
    assert model.config.encoder.is_causal == (encoder in ("gru4rec", "hstu") or bool(options))


@pytest.mark.parametrize(("encoder", "options"), [(name, {}) for name in ENCODERS] + CAUSAL)
def test_states_of_some_events_are_those_among_all_states(sequences, encoder, options):
    model = model_of(encoder, **options).eval()
    packed = windows(sequences, [0, 1, 3, 5], [30, 4, 1, 12])
    x_TD, some = model.behavior(packed), torch.tensor([0, 3, 40, 46])
    every = model.encoder.states(x_TD, packed)
    torch.testing.assert_close(model.encoder.states_at(x_TD, packed, some), every[some])
    none = model.encoder.states_at(x_TD, packed, some[:0])
    assert none.shape == (0, model.config.dim)


def test_even_pooling_averages_the_states_and_leaves_the_model_alone(sequences):
    model = model_of("nativectr").eval()
    packed = windows(sequences, [0, 1, 3], [30, 4, 12])
    with torch.no_grad():
        model.encoder.pool.score.weight.mul_(1e3)  # a fresh one is nearly even
    before = model(packed)
    even = even_pooling(model)
    states = model.encoder.states(model.behavior(packed), packed)
    means = [states[packed.sequence_T == user].mean(0) for user in range(3)]
    torch.testing.assert_close(even(packed), torch.stack(means))
    assert torch.equal(model(packed), before)
    assert even_pooling(model_of("bert4rec")) is None


@pytest.mark.parametrize("encoder", ["gru4rec", "han", "hstu", "hura", "rotary"])
def test_the_order_of_events_is_seen_without_a_position_field(sequences, encoder):
    model = model_of(encoder, ("item",)).eval()
    packed = windows(sequences, [0], [20])
    before = model(packed)
    packed.item_T.copy_(packed.item_T.flip(0))
    assert not torch.allclose(before, model(packed), atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_vectors_follow_the_order_of_the_sequences(sequences, encoder):
    model = model_of(encoder).eval()
    one = model(windows(sequences, [0, 1, 3, 5], [30, 4, 1, 12]))
    other = model(windows(sequences, [5, 3, 0, 1], [12, 1, 30, 4]))
    torch.testing.assert_close(one, other[[2, 3, 1, 0]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_two_runs_of_one_seed_are_equal_bit_for_bit(sequences, encoder):
    vectors, gradients = [], []
    for _ in range(2):
        model = model_of(encoder, pooling="attention").train()
        torch.manual_seed(1)  # of dropout
        vectors.append(model(windows(sequences, [0, 2, 5], [30, 17, 12])))
        vectors[-1].square().sum().backward()
        gradients.append(model.behavior.items().grad)
    assert torch.equal(*vectors)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_a_batch_of_one_event_users_has_finite_vectors_and_gradients(sequences, encoder, pooling):
    model = model_of(encoder, pooling=pooling).train()
    vectors = model(windows(sequences, [0, 1, 3], [1, 1, 1]))
    vectors.square().sum().backward()
    assert torch.isfinite(vectors).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("encoder", "options"), [("han", {"cell": "lstm"}), ("hura", {"window": 4})]
)
def test_other_cells_and_windows_depend_on_their_sequence_alone(sequences, encoder, options):
    model = model_of(encoder, **options).eval()
    together = model(windows(sequences, [0, 1, 3, 5], [30, 4, 1, 12]))
    for row, (user, length) in enumerate([(0, 30), (1, 4), (3, 1), (5, 12)]):
        alone = model(windows(sequences, [user], [length]))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)


def test_one_half_of_han_sees_what_was_before_the_other_what_comes_after(sequences):
    model = model_of("han").eval()
    packed = windows(sequences, [0, 4], [20, 17])
    early = packed.position_T < 10
    first = model.encoder.states(model.behavior(packed), packed)
    packed.item_T[early] = 3 + (packed.item_T[early] - 2) % 40
    second = model.encoder.states(model.behavior(packed), packed)
    assert not torch.isclose(first[~early, :8], second[~early, :8], rtol=0, atol=1e-7).all()
    torch.testing.assert_close(first[~early, 8:], second[~early, 8:])


def test_attention_pooling_is_the_softmax_of_its_scores(sequences):
    model = model_of("nativectr").eval()
    packed = windows(sequences, [0, 1, 3], [20, 4, 1])
    states, pool = torch.randn(25, 16), model.encoder.pool
    scores = pool.score(torch.tanh(pool.project(states)))[:, 0]
    for row in range(3):
        own = packed.sequence_T == row
        expected = scores[own].softmax(0) @ states[own]
        torch.testing.assert_close(pool(states, packed)[row], expected)


def test_convolution_is_that_of_torch_on_each_sequence(sequences):
    from models.nn.encoders.convolution import Convolution

    layer, packed = Convolution(16, 3), windows(sequences, [0, 1, 3], [20, 4, 1])
    x = torch.randn(25, 16)
    kernel = layer.mix.weight.unflatten(1, (3, 16)).transpose(1, 2)
    for row in range(3):
        own = packed.sequence_T == row
        plain = torch.nn.functional.conv1d(x[own].T[None], kernel, layer.mix.bias, padding=1)
        torch.testing.assert_close(layer(x, packed)[own], plain[0].T)


def test_rotary_positions_tell_distances_not_places(sequences):
    model = model_of("rotary", ("item",)).eval()
    packed = windows(sequences, [0], [20])
    later = dataclasses.replace(packed, position_T=packed.position_T + 7)
    torch.testing.assert_close(model(packed), model(later))


def test_dropout_keeps_the_mean_and_its_gradient_matches():
    from models.nn.layers import Dropout

    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.ones(400, 100, requires_grad=True)
    y = layer(x)
    assert abs(float(y.detach().mean()) - 1) < 0.01
    assert abs(float((y.detach() == 0).float().mean()) - 0.25) < 0.01
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # of ones, the gradient is the scale itself
    assert layer.eval()(x) is x


def test_a_bag_that_counts_tells_two_equal_events_from_one(make_sequences):
    """A mean does not: it is the same of one event and of any number of them."""
    lengths = [1, 2, 8]
    same = np.full(sum(lengths), 5, np.int32)
    sequences = open_sequences(make_sequences(lengths, item=same))
    events = windows(sequences, [0, 1, 2], lengths)
    plain, counting = (model_of("bag", ("item",), count=count).eval() for count in (False, True))
    one, two, eight = plain(events)
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one, eight)
    one, two, eight = counting(events)
    assert float((one - two).norm()) > 1e-3
    assert float((one - eight).norm()) > float((one - two).norm())


def test_a_model_that_reads_values_tells_a_dear_event_from_a_cheap_one(make_sequences):
    same = {"item": np.full(2, 5, np.int32), "value": np.array([1.0, 900.0], np.float32)}
    events = windows(open_sequences(make_sequences([1, 1], **same)), [0, 1], [1, 1])
    for fields, told in ((("item",), False), (("item", "value"), True)):
        one, other = model_of("bag", fields).eval()(events)
        assert torch.allclose(one, other) != told
