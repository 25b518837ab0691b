"""HSTU's attention against a plain recomputation, and what its biases read."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contracts.base.errors import FootpathError
from models.data.packed import pack
from models.data.sequences import open_sequences
from models.nn.encoders import pointwise
from models.nn.encoders.pointwise import TIMES, pointwise_attention, time_buckets
from tests.builders.models import small_model

DAY = 86400


def dense(qkv, heads, near, when, time):
    """The formula of the module, one sequence, query and head at a time."""
    b, length, width = qkv.shape
    q, k, v = (x.unflatten(2, (heads, -1)) for x in qkv.chunk(3, dim=2))
    rows = []
    for s in range(b):
        for i in range(length):
            for h in range(heads):
                out = torch.zeros(width // 3 // heads, dtype=qkv.dtype)
                for j in range(i + 1):
                    score = q[s, i, h] @ k[s, j, h] + near[min(i - j, len(near) - 1)]
                    score = score if when is None else score + when[int(time[s, i, j])]
                    out = out + F.silu(score) * v[s, j, h]
                rows.append(out / (i + 1))
    return torch.stack(rows).view(b, length, width // 3)


@pytest.mark.parametrize(("heads", "timed"), [(1, True), (2, True), (2, False)])
def test_attention_and_its_gradients_are_those_of_the_plain_formula(monkeypatch, heads, timed):
    monkeypatch.setattr(pointwise, "ROWS", 4)  # so that there are blocks of both kinds
    monkeypatch.setattr(pointwise, "SCORES", 2 * heads * 4 * 8)
    torch.manual_seed(0)
    time = torch.randint(TIMES, (3, 11, 11), dtype=torch.uint8) if timed else None
    shapes = [(3, 11, 24), (7,), (TIMES,)]  # distances of more than the 7 that are told apart
    told = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    plain = [x.detach().clone().requires_grad_() for x in told]
    weights = torch.randn(3, 11, 8, dtype=torch.float64)
    given = told[2] if timed else None
    fast = pointwise_attention(told[0], heads, told[1], given, time)
    slow = dense(plain[0], heads, plain[1], plain[2] if timed else None, time)
    torch.testing.assert_close(fast, slow)
    (fast * weights).sum().backward()
    (slow * weights).sum().backward()
    for one, other in zip(told[: 2 + timed], plain, strict=False):
        # Gradients of biases are added up in single precision.
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-5)


def test_buckets_of_time_are_the_published_ones():
    asked = torch.tensor([[100, 101, 102 + DAY, 1 << 31]])
    found = time_buckets(asked, torch.tensor([[100, 100, 102, 103 + DAY]]))
    for i in range(4):
        for j in range(i + 1):
            seconds = int(asked[0, i]) - [100, 100, 102, 103 + DAY][j]
            assert int(found[0, i, j]) == int(np.log(max(1, seconds)) / 0.301)
    assert int(found.max()) < TIMES


LENGTHS = [30, 4, 17, 1, 29, 12, 30]


@pytest.fixture
def sequences(make_sequences):
    return open_sequences(make_sequences(LENGTHS))


def states(model, packed):
    return model.encoder.states(model.behavior(packed), packed)


def windows(sequences, users, lengths, now=None):
    users, lengths = np.array(users), np.array(lengths)
    return pack(sequences.windows(users, np.zeros(len(users), int), lengths, now))


def test_a_later_event_or_its_time_changes_no_earlier_state(sequences):
    model = small_model(sequences.sizes, "hstu", ("item",), 32).eval()
    packed = windows(sequences, [0, 4], [20, 17])
    early = packed.position_T < 10
    other = dataclasses.replace(
        packed,
        item_T=torch.where(early, packed.item_T, 3 + packed.item_T % 40),
        time_T=torch.where(early, packed.time_T, packed.time_T + 9 * DAY),
    )
    assert torch.equal(states(model, packed)[early], states(model, other)[early])
    assert not torch.equal(states(model, packed)[~early], states(model, other)[~early])


def test_a_shorter_window_gives_the_states_of_its_events(sequences):
    """Division is by the events that are seen, not by those that there are."""
    model = small_model(sequences.sizes, "hstu", ("item",), 32).eval()
    whole, part = windows(sequences, [0], [20]), windows(sequences, [0], [9])
    torch.testing.assert_close(states(model, whole)[:9], states(model, part))


def test_time_is_seen_where_it_is_asked_for_and_only_there(sequences):
    for asked in (True, False):
        model = small_model(sequences.sizes, "hstu", ("item",), 32, time=asked).eval()
        packed = windows(sequences, [0], [20])
        slower = dataclasses.replace(packed, time_T=packed.time_T * 50)
        assert torch.equal(model(packed), model(slower)) != asked


def test_query_time_reads_the_next_event_s_time_and_now_after_the_last(sequences):
    model = small_model(sequences.sizes, "hstu", ("item",), 32, query_time=True).eval()
    reading = model.config.reading(sequences)
    assert reading.has_clock
    now = reading.time[reading.offsets[[0]] + 9] + 3 * DAY
    packed = windows(reading, [0], [10], now)
    time = packed.time_T
    assert torch.equal(packed.asked_T, torch.cat([time[1:], torch.from_numpy(now)]))
    before = states(model, packed)
    # Another now moves the last state alone, another last event's time the one before it as well.
    later = dataclasses.replace(packed, now_B=packed.now_B + 90 * DAY)
    moved = (states(model, later) - before).abs().sum(1) > 0
    assert moved.tolist() == 9 * [False] + [True]
    last = torch.arange(10) == 9
    sooner = dataclasses.replace(packed, time_T=torch.where(last, time + 2 * DAY, time))
    moved = (states(model, sooner) - before).abs().sum(1) > 0
    assert moved.tolist() == 8 * [False] + [True, True]


def test_the_states_with_query_time_equal_those_asked_one_by_one(sequences):
    """What training teaches in one pass is what a question is answered by."""
    model = small_model(sequences.sizes, "hstu", ("item",), 32, query_time=True).eval()
    reading = model.config.reading(sequences)
    together = states(model, windows(reading, [0], [20]))
    for length in (1, 7, 19):
        now = reading.time[reading.offsets[[0]] + length]
        alone = states(model, windows(reading, [0], [length], now))
        torch.testing.assert_close(together[length - 1], alone[-1])


def test_query_time_without_a_clock_is_one_sentence(sequences):
    model = small_model(sequences.sizes, "hstu", ("item",), 32, query_time=True)
    with pytest.raises(FootpathError, match="with_clock"):
        model(windows(sequences, [0], [10]))
