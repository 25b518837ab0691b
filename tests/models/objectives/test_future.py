"""Pre-training on the future: targets against plain counting, and nothing of later in the input."""

import dataclasses

import numpy as np
import pytest
import torch

from contracts.recipes.recipe import Recipe
from models.data.packed import pack
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.data.summary import DAY
from models.nn.user_model import ModelConfig, build_model
from models.objectives import OBJECTIVES

LENGTHS = [60, 30, 45, 2]
CUTOFF = 1_769_904_000  # of the built sequences


@pytest.fixture
def sequences(make_sequences):
    rng = np.random.default_rng(5)
    begin = CUTOFF - 60 * DAY
    time = [np.sort(rng.integers(begin, CUTOFF, n)) for n in LENGTHS]
    value = rng.random(sum(LENGTHS)).astype(np.float32)
    return open_sequences(make_sequences(LENGTHS, time=np.concatenate(time), value=value))


def pair(sequences, encoder="bag", **options):
    settings = {"method": {"name": "future", "cuts": 6} | options, "encoder": encoder}
    settings |= {"dim": 16, "max_length": 20}
    recipe = Recipe.model_validate(settings)
    torch.manual_seed(0)
    model = build_model(ModelConfig.of(recipe, sequences.sizes))
    objective = OBJECTIVES["future"](model.config, recipe.method)
    objective.prepare(sequences)
    return model, objective


def instants(sequences, objective, draw):
    """User, end and second of each instant of a draw, as the objective draws them."""
    lengths = sequences.lengths[draw.users_B]
    taken = np.minimum(lengths, 20)
    start = draw.integers("window", lengths - taken + 1)[:, 0]
    of, now, ends = objective._instants(sequences, draw, start, taken)
    return draw.users_B[of], ends, now


def test_targets_are_what_plain_counting_gives_and_no_window_passes_the_end(sequences):
    _, objective = pair(sequences, days=[3.0, 14.0])
    draw = Draw(0, 1, np.arange(len(LENGTHS)))
    sample = objective.read(sequences, draw)
    users, ends, now = instants(sequences, objective, draw)
    assert len(users) == len(sample.at_N) > 10
    assert (now <= CUTOFF - 3 * DAY).all()
    for nth, (user, end, at) in enumerate(zip(users, ends, now, strict=True)):
        first, last = sequences.offsets[user : user + 2]
        time = sequences.time[first:last]
        assert end == (time < at).sum()
        for window, days in enumerate((3, 14)):
            ahead = slice(first + end, first + (time < at + days * DAY).sum())
            assert bool(sample.known_NH[nth, window]) == (at + days * DAY <= CUTOFF)
            count = ahead.stop - ahead.start
            happens, amounts = sample.happens_NHP[nth, window], sample.amount_NHQ[nth, window]
            assert bool(happens[0]) == (count > 0)
            assert float(amounts[0]) == pytest.approx(np.log1p(count), rel=1e-5)
            purchases = (sequences.action[ahead] == 4).sum()
            assert bool(happens[3]) == (purchases > 0)
            value = float(sequences.value[ahead].sum())
            assert float(amounts[-1]) == pytest.approx(np.log1p(value), rel=1e-4, abs=1e-5)
            seen = set(sequences.item[first : first + end].tolist())
            new = set(sequences.item[ahead].tolist()) - seen
            assert bool(happens[1]) == bool(new)


def test_the_vector_of_an_instant_is_that_of_the_history_up_to_it(sequences):
    """What training learns at a past instant is what an embedding of that instant is made by."""
    for encoder in ("bag", "gru4rec", {"name": "rotary", "causal": True, "pooling": "last"}):
        model, objective = pair(sequences, encoder)
        model.eval()
        short = np.flatnonzero(sequences.lengths <= 20)  # one window is all of the history
        draw = Draw(0, 2, short)
        sample = objective.read(sequences, draw)
        users, ends, now = instants(sequences, objective, draw)
        vectors = model.beginnings(sample.events, sample.at_N, sample.summary_NF)
        reading = model.config.reading(sequences)
        expected = model(pack(reading.windows(users, ends * 0, ends, now)))
        torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)


def test_what_comes_after_an_instant_does_not_reach_its_vector(sequences):
    model, objective = pair(sequences, "gru4rec")
    model.eval()
    draw = Draw(0, 3, np.array([0]))
    sample = objective.read(sequences, draw)
    _, ends, _ = instants(sequences, objective, draw)
    first = int(ends.min())
    later = np.arange(len(sequences.item)) >= first
    changed = dataclasses.replace(sequences, item=np.where(later, 9, sequences.item))
    other = objective.read(changed, draw)
    nth = int(ends.argmin())
    one, two = (
        model.beginnings(each.events, each.at_N, each.summary_NF)[nth] for each in (sample, other)
    )
    torch.testing.assert_close(one, two)


def test_without_days_the_windows_follow_from_the_length_of_the_log(sequences):
    _, objective = pair(sequences)
    log = CUTOFF - int(sequences.time.min())
    assert objective.seconds_H.tolist() == [round(log / part) for part in (24, 8, 4)]


def test_a_user_whose_history_leaves_no_window_trains_nothing_and_harms_nothing(make_sequences):
    time = np.array([CUTOFF - 100 * DAY, CUTOFF - 90 * DAY, CUTOFF - 60, CUTOFF - 30])
    sequences = open_sequences(make_sequences([2, 2], time=time))
    model, objective = pair(sequences)
    sample = objective.read(sequences, Draw(0, 0, np.array([1])))
    assert len(sample.at_N) == 0
    outcome = objective(model, sample)
    assert float(outcome.loss.detach()) == 0.0
    assert torch.isfinite(
        objective(model, objective.read(sequences, Draw(0, 0, np.arange(2)))).loss
    )


def test_where_last_events_are_held_out_nothing_is_known_after_those_that_are_there(
    make_sequences,
):
    rng = np.random.default_rng(5)
    time = np.concatenate([np.sort(rng.integers(CUTOFF - 60 * DAY, CUTOFF, n)) for n in LENGTHS])
    whole = open_sequences(make_sequences(LENGTHS, time=time))
    sequences = dataclasses.replace(whole, pointer=whole.pointer | {"holdout": 1})
    _, objective = pair(sequences, days=[3.0, 14.0])
    draw = Draw(0, 1, np.arange(len(LENGTHS)))
    sample = objective.read(sequences, draw)
    users, _, now = instants(sequences, objective, draw)
    last = time[np.cumsum(LENGTHS) - 1][users]
    assert len(now) > 10
    for window, days in enumerate((3, 14)):
        assert (sample.known_NH[:, window].numpy() == (now + days * DAY <= last)).all()
