"""What a model knows of "now": never more than what was known then."""

import dataclasses
import datetime as dt

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from contracts.recipes.encoders import ENCODERS
from contracts.recipes.jobs import TaskSpec
from contracts.recipes.recipe import Recipe
from models.data.examples import Labeled, last_windows, random_windows
from models.data.labels import load_tasks
from models.data.packed import AGE_BUCKETS, MASK, Clock, Events, age_buckets, join, pack
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.embed import embed
from models.nn.user_model import ModelConfig, build_model
from models.nn.vectors import user_vectors
from models.objectives.views import cut_in_two, hidden, reordered, slices
from models.probing.head_inputs import embeddings
from models.ranking.zero_shot import _with_hidden
from models.runtime.report import Reporter
from tests.builders.jobs import embed_job, pretrain
from tests.builders.models import small_model
from tests.builders.sequences import CUTOFF, START, user_names, write_labels, write_sequences

LENGTHS = [12, 3, 1, 9, 30]
USERS = np.arange(len(LENGTHS))
DAY = 86_400


@pytest.fixture
def sequences(make_sequences):
    time = np.concatenate([START + np.arange(n) * DAY // 2 for n in LENGTHS]).astype(np.int64)
    return open_sequences(make_sequences(LENGTHS, time=time)).with_clock()


def model_of(sequences, fields=("item", "age"), max_length=20):
    return small_model(sequences.sizes, "bag", fields, max_length, dim=8, dropout=0.0).eval()


@given(st.lists(st.integers(-5, 2**40), min_size=2, max_size=30))
def test_older_events_lie_in_later_buckets_of_a_quarter_octave(seconds):
    ages = torch.tensor(sorted(seconds))
    found = age_buckets(ages)
    assert (found.diff() >= 0).all()
    assert int(found.min()) >= 2
    assert int(found.max()) < AGE_BUCKETS
    assert age_buckets(torch.tensor([0, 1, 3, 7, 15])).tolist() == [2, 6, 10, 14, 18]
    assert (age_buckets(2 * ages + 1) - age_buckets(ages) <= 4).all()


def now_of(events: Events) -> torch.Tensor:
    assert events.clock is not None
    return events.clock.now_B


def ages_of(events: Events) -> torch.Tensor:
    assert events.age_T is not None
    return events.age_T


def test_now_lies_after_the_last_event_and_before_the_next_one_or_the_cutoff(sequences):
    nows = set()
    for epoch in range(40):
        draw = Draw(0, epoch, USERS)
        windows = sequences.random_windows(draw, 5)
        ends = windows.starts_B + windows.lengths_B
        for user, end in enumerate(ends.tolist()):
            last = int(windows.time_T[end - 1])
            own = sequences.time[sequences.offsets[user] : sequences.offsets[user + 1]]
            later = own[own > last]
            until = int(later[0]) if len(later) else int(CUTOFF.timestamp())
            now = int(now_of(windows)[user])
            assert last <= now < until
            nows.add((user, now))
        alone = sequences.random_windows(Draw(0, epoch, USERS[[3]]), 5)
        assert now_of(alone)[0] == now_of(windows)[3]  # whoever else is in the batch
    assert len(nows) > 150


def test_parts_of_a_window_are_looked_at_before_what_came_after_them(sequences):
    for epoch in range(20):
        draw = Draw(0, epoch, USERS[[0, 1, 3, 4]])
        windows = sequences.random_windows(draw, 30)
        past, cut = cut_in_two(windows, draw, 20)
        first_ahead = windows.time_T[windows.starts_B + cut]
        last = past.time_T[past.starts_B + past.lengths_B - 1]
        assert (now_of(past) >= last).all()
        assert (now_of(past) < first_ahead).all()
        whole = windows.cut(torch.arange(4), torch.zeros(4).long(), windows.lengths_B)
        assert torch.equal(now_of(whole), now_of(windows))
        view = slices(windows, draw, "a", 2, 6)
        assert (ages_of(view) >= 2).all()
        shuffled = reordered(view, draw, "a", 1.0)
        assert torch.equal(now_of(shuffled), now_of(view))
        assert now_of(join([view, shuffled])).tolist() == 2 * now_of(view).tolist()


def test_what_comes_later_changes_nothing_that_a_part_says(sequences):
    """Events behind the one that follows a part may move at will."""
    draw = Draw(0, 0, USERS[[0, 3, 4]])
    windows = sequences.random_windows(draw, 30)
    cut = torch.tensor([4, 2, 7])
    later = windows.position_T > cut[windows.sequence_T]
    moved = dataclasses.replace(windows, time_T=windows.time_T + later * 5 * DAY)
    zero = torch.zeros(3).long()
    told, other = (w.cut(torch.arange(3), zero, cut) for w in (windows, moved))
    assert torch.equal(ages_of(told), ages_of(other))


def test_a_hidden_event_hides_its_age(sequences):
    draw = Draw(0, 0, USERS)
    windows = sequences.random_windows(draw, 20)
    view = hidden(windows, draw, "view", 0.5)
    is_hidden = view.item_T == MASK
    assert 5 < int(is_hidden.sum()) < len(is_hidden)
    assert (ages_of(view)[is_hidden] == MASK).all()
    assert torch.equal(ages_of(view)[~is_hidden], ages_of(windows)[~is_hidden])
    asked = _with_hidden(windows, 20)
    last = asked.starts_B + asked.lengths_B - 1
    assert (ages_of(asked)[last] == MASK).all()
    assert torch.equal(now_of(asked), now_of(windows))


def test_packing_keeps_ages_with_their_events(sequences):
    windows = sequences.random_windows(Draw(0, 0, USERS), 20)
    packed = pack(windows)
    first = windows.starts_B[packed.sequence_T]
    assert packed.age_T is not None
    assert torch.equal(packed.age_T, ages_of(windows)[first + packed.position_T])


def test_held_out_events_may_have_come_any_time_before_the_cutoff(sequences):
    """That nothing came after a window's last event is not known where events are left out."""
    held = dataclasses.replace(sequences, pointer=sequences.pointer | {"holdout": 1})
    for source, is_known in ((sequences, True), (held, False)):
        windows = source.random_windows(Draw(0, 0, USERS), 40)
        last = (windows.starts_B + windows.lengths_B - 1).numpy()
        assert bool((ages_of(windows)[last] > age_buckets(torch.tensor(0))).any()) == is_known


def test_nobody_who_does_not_ask_pays_for_ages(sequences):
    plain = sequences.with_clock(False)
    windows = plain.random_windows(Draw(0, 0, USERS), 20)
    assert windows.clock is None
    assert pack(windows).age_T is None
    model_of(sequences, ("item", "gap"))(pack(windows))
    with pytest.raises(FootpathError, match="with_clock"):
        model_of(sequences)(pack(windows))


def labeled(folder, as_ofs):
    split = ["train", "train", "valid", "test", "test"]
    rows = [
        {"user_id": user, "task": "half", "value": float(n % 2), "split": split[n % 5]}
        | {"label": "lr"[n % 2], "as_of": dt.datetime.fromtimestamp(int(as_of), dt.UTC)}
        for n, (user, as_of) in enumerate(zip(user_names(20), as_ofs, strict=True))
    ]
    return write_labels(folder / "labels.parquet", rows)


def cut_log(folder, shift):
    """Twenty users of six events; the last comes `shift` seconds later than it might."""
    time = START + 1000 * np.arange(6) + np.zeros((20, 1), np.int64)
    time[:, 5] += shift + np.arange(20)
    pointer = write_sequences(
        folder, [6] * 20, time=time.ravel(), train_cutoff="2026-01-01T00:00:00+00:00"
    )
    return open_sequences(pointer).with_clock(), time[:, 5]


def test_an_example_that_ends_where_its_event_comes_does_not_tell_when_that_was(tmp_path):
    """As of the second of the event that is predicted: the gap to it stays unknown."""
    said = []
    for shift in (0, 3 * DAY):
        folder = tmp_path / str(shift)
        sequences, as_ofs = cut_log(folder, shift)
        task = load_tasks(labeled(folder, as_ofs), sequences, (TaskSpec(name="half"),))[0]
        assert task.splits["train"].ends_n.tolist() == [5] * len(task.splits["train"].ends_n)
        said.append(embeddings(model_of(sequences), sequences, task).x["test"])
    assert torch.equal(*said)


def test_an_example_of_the_calendar_is_looked_at_in_its_as_of(tmp_path):
    sequences, _ = cut_log(tmp_path, 0)
    as_of = START + 40 * DAY
    task = load_tasks(labeled(tmp_path, [as_of] * 20), sequences, (TaskSpec(name="half"),))[0]
    part = task.splits["test"]
    assert part.now_n is not None
    assert set(part.now_n.tolist()) == {as_of}
    draw = Draw(0, 0, part.users_n)
    for windows in (
        last_windows(sequences, part, 4),
        random_windows(sequences, part.pick(np.arange(len(part.users_n))), draw, 4),
    ):
        assert torch.equal(ages_of(windows), age_buckets(as_of - windows.time_T))


def test_chunks_of_a_long_history_are_looked_at_together(sequences):
    model, now = model_of(sequences, max_length=10), START + 60 * DAY
    whole = user_vectors(model, sequences, USERS[[4]], now_U=np.array([now]))
    chunks = sequences.windows(USERS[[4, 4, 4]], np.array([0, 10, 20]), np.array([10, 10, 10]))
    expected = model(pack(chunks.seen_at(torch.full((3,), now)))).mean(0, keepdim=True)
    torch.testing.assert_close(whole, expected)
    later = user_vectors(model, sequences, USERS[[4]], now_U=np.array([now + 90 * DAY]))
    assert not torch.allclose(whole, later)


def test_without_a_now_a_window_is_looked_at_in_the_second_of_its_last_event(sequences):
    windows = sequences.windows(USERS[[0, 4]], np.array([2, 0]), np.array([4, 9]))
    assert now_of(windows).tolist() == sequences.time[[5, 16 + 9 + 8]].tolist()
    examples = Labeled(USERS[[0, 4]], np.array([6, 9]), np.zeros(2))
    last = last_windows(sequences, examples, 4)
    assert torch.equal(now_of(last), now_of(windows))


def test_an_instant_between_never_passes_the_horizon():
    last = torch.tensor([100, 100, 100])
    clock = Clock.between(last, torch.tensor([100, 50, 101]), torch.full((3,), 0.999999).double())
    assert clock.now_B.tolist() == [100, 100, 100]


def embedded(folder, pointer, at, fields):
    made = pretrain(
        pointer, folder / "none_bag_v1", "none_bag", dim=8, max_length=10, fields=fields
    )
    out = folder / f"{at.date()}.parquet"
    said = {"sequences": str(pointer), "checkpoint": str(made), "out": str(out)}
    said |= {"event_timestamp": at.isoformat(), "created": at.isoformat()}
    embed(embed_job(said | {"model_version": "none_bag_v1"}), Reporter())
    return np.stack(pq.read_table(out)["embedding"].to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("fields", [["item", "age"], ["item", "gap"]])
def test_an_embedding_is_looked_at_in_its_event_timestamp(tmp_path, fields):
    pointer = write_sequences(tmp_path, [12, 7])
    later = CUTOFF + dt.timedelta(days=30)
    one, other = (embedded(tmp_path, pointer, at, fields) for at in (CUTOFF, later))
    assert np.allclose(one, other) == ("age" not in fields)


READS = [({}, False), ({"fields": ["item", "age"]}, True), ({"summary": True}, True)]
QUERY_TIME = {"encoder": {"query_time": True, "pooling": "last"}}


@pytest.mark.parametrize(
    ("encoder", "change", "looks"),
    [(name, *reads) for name in ENCODERS for reads in READS] + [("hstu", QUERY_TIME, True)],
)
def test_a_recipe_says_whether_its_vectors_change_without_a_new_event(
    make_sequences, encoder, change, looks
):
    sequences = open_sequences(make_sequences([12, 7]))
    recipe = Recipe.named(f"none_{encoder}", {"dim": 16, "max_length": 5} | change)
    assert recipe.looks_at_now == looks
    torch.manual_seed(0)
    model = build_model(ModelConfig.of(recipe, sequences.sizes))
    read = model.config.reading(sequences)
    now = [np.full(2, sequences.cutoff + n * DAY) for n in (0, 100)]  # beyond windows of 90 days
    one, other = (user_vectors(model, read, np.arange(2), now_U=at) for at in now)
    assert torch.equal(one, other) != looks
