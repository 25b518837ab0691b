"""An example ends where it says: what comes after it changes nothing that is said of it."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from contracts.base.errors import FootpathError
from contracts.lake.schemas import HOLDOUT
from contracts.recipes.jobs import TaskSpec
from contracts.recipes.methods import METHODS
from models.baselines.measure import baselines
from models.checkpoint import load_checkpoint
from models.data.examples import Labeled, last_windows, random_windows
from models.data.labels import Model, load_tasks
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.finetune import finetune
from models.nn.vectors import user_vectors, window_vectors
from models.ranking.zero_shot import native
from models.runtime.report import Reporter
from models.training.fit import tune
from tests.builders.jobs import baselines_job, evaluation_job, pretrain
from tests.builders.sequences import (
    ITEMS,
    START,
    planted_labels,
    user_names,
    write_labels,
    write_sequences,
)

USERS, LENGTH = 60, 12
CUT = 8  # events that are seen
TIMES = np.tile(START + 100 * np.arange(LENGTH), USERS).astype(np.int64)
SIDES = np.arange(USERS) // 6 % 2  # nothing that is seen tells them
AS_OF = dt.datetime.fromtimestamp(START + 100 * CUT, dt.UTC)  # the second of event CUT
SOURCES = {
    "classes": {"name": "half", "metric": "auc"},
    "next item": {"name": "next", "kind": "ranking", "metric": "recall@10"},
    "lists": {
        "name": "click",
        "kind": "ranking",
        "candidates": True,
        "numbers": ["place"],
        "metric": "auc",
    },
}


def give_away(item: np.ndarray) -> np.ndarray:
    """Puts the user's class and next item into every event from the cut on."""
    told = item.reshape(USERS, LENGTH).copy()
    told[:, CUT:] = np.where(SIDES, 3, 20)[:, None]
    return told.reshape(-1)


def write(folder: Path, *, leaks: bool) -> Path:
    plain = write_sequences(folder / "plain", [LENGTH] * USERS, time=TIMES)
    item = np.load(plain.parent / "2026-01-31-0123abcd" / "item.npy")
    same = {"time": TIMES, "train_cutoff": AS_OF.isoformat(), "fingerprint": "same"}
    if leaks:
        same["item"] = give_away(item)
    return write_sequences(folder / "run", [LENGTH] * USERS, **same)


def labels(folder: Path) -> Path:
    rng, rows = np.random.default_rng(3), []
    for n, user in enumerate(user_names(USERS)):
        common = {"user_id": user, "as_of": AS_OF, "split": ("train", "valid", "test")[n % 3]}
        side = int(SIDES[n])
        rows.append(common | {"task": "half", "value": float(side), "label": "lr"[side]})
        right = f"item-{rng.integers(ITEMS)}"
        rows.append(common | {"task": "next", "value": 1.0, "label": right})
        for place in range(4):
            row = {"label": f"item-{rng.integers(ITEMS)}", "numbers": [float(place)]}
            rows.append(common | {"task": "click", "value": float(place == n % 4)} | row)
    return write_labels(folder / "labels.parquet", rows)


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[bool, Path]:
    """The same log without and with later events that give every answer away."""
    folder = tmp_path_factory.mktemp("leaks")
    return {leaks: write(folder / str(leaks), leaks=leaks) for leaks in (False, True)}


@pytest.fixture(scope="module")
def checkpoint(logs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("model") / "none_gru4rec_v1"
    return pretrain(logs[False], out, "none_gru4rec", dim=8, max_length=6)


@pytest.mark.parametrize("source", SOURCES)
def test_events_after_the_end_change_no_figure(logs, checkpoint, tmp_path, source):
    said = []
    for leaks, pointer in logs.items():
        out = tmp_path / str(leaks)
        settings = {"sequences": str(pointer), "labels": str(labels(tmp_path)), "threads": 1}
        settings |= {"tasks": [SOURCES[source]], "out": str(out / "baselines.parquet")}
        baselines(baselines_job(settings | {"lsa_dim": 4}), Reporter())
        settings |= {"checkpoint": str(checkpoint), "out": str(out / "model.parquet"), "epochs": 1}
        protocols = ["frozen", "scratch", "native"]
        finetune(evaluation_job(settings | {"protocols": protocols}), Reporter())
        tables = [pq.read_table(out / f"{name}.parquet") for name in ("baselines", "model")]
        said.append(pa.concat_tables(tables).drop_columns("seconds"))
    assert said[0].num_rows > 4
    assert said[0].equals(said[1])


def test_a_model_that_learns_items_by_row_and_from_a_sample_has_every_protocol(logs, tmp_path):
    changes = {"lazy_items": True, "sampled_items": 8, "dim": 8, "max_length": 6, "epochs": 2}
    folder = pretrain(logs[False], tmp_path / "m_v1", "manymask_gru4rec", **changes)
    assert load_checkpoint(folder).model.config.is_lazy
    settings = {"sequences": str(logs[False]), "labels": str(labels(tmp_path)), "threads": 1}
    settings |= {"checkpoint": str(folder), "out": str(tmp_path / "model.parquet"), "epochs": 2}
    protocols = ["frozen", "finetuned", "native"]
    settings |= {"tasks": [SOURCES["classes"], SOURCES["next item"]], "protocols": protocols}
    finetune(evaluation_job(settings), Reporter())
    rows = pq.read_table(tmp_path / "model.parquet").to_pylist()
    assert {r["protocol"] for r in rows if r["task"] == "next"} == set(protocols)
    assert {r["protocol"] for r in rows if r["task"] == "half"} >= set(protocols[:2])
    assert np.isfinite([r["value"] for r in rows]).all()


def test_a_method_that_scores_no_items_by_itself_has_no_row_and_no_fault(
    logs, checkpoint, tmp_path
):
    settings = {"sequences": str(logs[False]), "labels": str(labels(tmp_path)), "threads": 1}
    settings |= {"checkpoint": str(checkpoint), "out": str(tmp_path / "model.parquet")}
    settings |= {"tasks": [SOURCES["next item"]], "protocols": ["native"]}
    finetune(evaluation_job(settings), Reporter())
    assert pq.read_table(tmp_path / "model.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("source", "fitted_in"), [("next item", "item_head"), ("lists", "candidates")]
)
def test_every_seed_fits_its_own_head(logs, checkpoint, tmp_path, monkeypatch, source, fitted_in):
    seeds = []

    def watched(*args):
        seeds.append(args[-1].seed)
        return tune(*args)

    monkeypatch.setattr(f"models.ranking.{fitted_in}.tune", watched)
    settings = {"sequences": str(logs[False]), "labels": str(labels(tmp_path)), "threads": 1}
    settings |= {"checkpoint": str(checkpoint), "out": str(tmp_path / "model.parquet")}
    settings |= {"tasks": [SOURCES[source]], "seeds": [0, 1], "protocols": ["frozen"]}
    finetune(evaluation_job(settings), Reporter())
    assert sorted(set(seeds)) == [0, 1]


@pytest.mark.parametrize("method", ["ptum", "manymask"])
def test_without_negatives_a_user_vector_is_compared_with_the_items_alone(logs, checkpoint, method):
    model, sequences = load_checkpoint(checkpoint).model, open_sequences(logs[False])
    scorer = native(METHODS[method].model_validate({"negatives": 0}), model, sequences)
    examples = Labeled(np.arange(5), np.full(5, CUT), np.zeros(5))
    assert scorer is not None
    scores_nV = scorer(last_windows(sequences, examples, 6))
    expected = window_vectors(model, sequences, examples) @ model.behavior.items().detach().T
    torch.testing.assert_close(scores_nV, expected)


def test_the_planted_leak_would_be_seen(logs, checkpoint, tmp_path):
    """The same figures do change where examples are allowed to look past their end."""
    said = []
    late = AS_OF + dt.timedelta(seconds=200)
    for leaks, pointer in logs.items():
        path = labels(tmp_path)
        table = pq.read_table(path)
        later = pa.array([late] * table.num_rows, table.schema.field("as_of").type)
        at = table.schema.get_field_index("as_of")
        pq.write_table(table.set_column(at, table.schema.field("as_of"), later), path)
        settings = {"sequences": str(pointer), "labels": str(path), "tasks": [SOURCES["classes"]]}
        settings |= {"out": str(tmp_path / f"{leaks}.parquet"), "lsa_dim": 4, "threads": 1}
        baselines(baselines_job(settings), Reporter())
        said.append(pq.read_table(tmp_path / f"{leaks}.parquet").drop_columns("seconds"))
    assert not said[0].equals(said[1])


def test_an_example_ends_before_the_second_of_its_as_of(make_sequences):
    time = np.array([10, 10, 20, 20, 30, 5, 20], np.int64)
    sequences = open_sequences(make_sequences([5, 2], time=time))
    users = np.array([0, 0, 0, 0, 1, 1])
    seconds = np.array([10, 11, 20, 99, 20, 21])
    assert sequences.events_before(users, seconds).tolist() == [0, 2, 2, 5, 1, 2]


def test_windows_stay_within_what_is_seen(make_sequences):
    sequences = open_sequences(make_sequences([30, 30]))
    examples = Labeled(np.array([0, 1, 1]), np.array([20, 7, 25]), np.zeros(3), np.array([5, 0, 3]))
    first, last = sequences.offsets[examples.users_n] + examples.starts_n, None
    for epoch in range(20):
        seen = random_windows(sequences, examples, Draw(0, epoch, examples.users_n), 6)
        parts = seen.time_T.split(seen.lengths_B.tolist())
        for n, times in enumerate(parts):
            ends = sequences.offsets[examples.users_n[n]] + examples.ends_n[n]
            allowed = sequences.time[first[n] : ends]
            assert set(times.tolist()) <= set(allowed.tolist())
    last = last_windows(sequences, examples, 6)
    for n, times in enumerate(last.time_T.split(last.lengths_B.tolist())):
        end = sequences.offsets[examples.users_n[n]] + examples.ends_n[n]
        assert times.tolist() == sequences.time[end - 6 : end].tolist()


def test_vectors_of_cut_histories_are_those_of_shorter_users(logs, checkpoint, tmp_path):
    model, whole = load_checkpoint(checkpoint).model, open_sequences(logs[False])
    keep = np.concatenate([np.arange(LENGTH * n, LENGTH * n + CUT) for n in range(USERS)])
    arrays = {f: getattr(whole, f)[keep] for f in ("item", "action", "category", "value", "time")}
    short = open_sequences(write_sequences(tmp_path, [CUT] * USERS, **arrays))
    users = np.arange(USERS)
    cut = user_vectors(model, whole, users, np.full(USERS, CUT))
    torch.testing.assert_close(cut, user_vectors(model, short, users))
    examples = Labeled(users, np.full(USERS, CUT), np.zeros(USERS))
    recent = window_vectors(model, whole, examples)
    assert recent.shape == cut.shape
    torch.testing.assert_close(window_vectors(model, short, examples), recent)


def test_examples_without_a_past_are_left_out_and_counted(make_sequences, make_labels):
    sequences = open_sequences(make_sequences([5] * 40, train_cutoff="2026-01-01T00:00:00+00:00"))
    early = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    rows = [row | ({"as_of": early} if n < 3 else {}) for n, row in enumerate(planted_labels(40))]
    task = load_tasks(make_labels(rows), sequences, (TaskSpec(name="half"),))[0]
    assert task.left_out == 3
    assert sum(len(part.y_n) for part in task.splits.values()) == 37


def test_several_examples_of_a_user_are_kept_apart(make_sequences, make_labels):
    sequences = open_sequences(make_sequences([30] * 40, train_cutoff="2026-01-01T00:00:00+00:00"))
    rows = planted_labels(40)
    again = [row | {"as_of": dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)} for row in rows]
    task = load_tasks(make_labels(rows + again), sequences, (TaskSpec(name="half"),))[0]
    part = task.splits["train"]
    both = part.users_n[:-1] == part.users_n[1:]
    assert both.any()
    assert (part.ends_n[:-1][both] < part.ends_n[1:][both]).all()
    assert len(task.share_index(0.5, 0)) == round(len(part.y_n) / 2)


def test_what_is_known_of_candidates_is_read_row_by_row(make_sequences, make_labels):
    sequences = open_sequences(make_sequences([LENGTH] * 3))
    known = {"user-0002": [1.0, None], "user-0000": [None, 4.0], "user-0001": [5.0, 6.0]}
    splits = {"user-0002": "train", "user-0000": "valid", "user-0001": "test"}
    rows = [
        {"user_id": user, "task": "click", "value": float(n), "label": "item-1", "numbers": numbers}
        | {"split": splits[user], "as_of": dt.datetime.fromtimestamp(START + 10**7, dt.UTC)}
        for user, numbers in known.items()
        for n in range(2)
    ]
    config = TaskSpec(name="click", kind="ranking", candidates=True, numbers=("a", "b"))
    (task,) = load_tasks(make_labels(rows), sequences, (config,))
    for user, numbers in known.items():
        split = splits[user]
        assert task.splits[split].users_n.tolist() == [int(user[-1])]
        expected = np.array([numbers, numbers], dtype=float)
        np.testing.assert_array_equal(task.lists[split].numbers_MK, expected)
    rows[3]["numbers"] = [1.0]
    with pytest.raises(FootpathError, match="must have 2 numbers for each candidate"):
        load_tasks(make_labels(rows), sequences, (config,))


def test_held_out_labels_want_inputs_without_them(make_sequences, make_labels):
    path = make_labels(planted_labels(20))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({HOLDOUT: b"2"}), path)
    chosen = (TaskSpec(name="half"),)
    whole = open_sequences(make_sequences([5] * 20))
    with pytest.raises(FootpathError, match="build the sequences with holdout=2"):
        load_tasks(path, whole, chosen)
    without = type(whole)(**{**vars(whole), "pointer": whole.pointer | {"holdout": 2}})
    load_tasks(path, without, chosen, Model("", without.pointer["fingerprint"]))
    with pytest.raises(FootpathError, match="trained on other sequences"):
        load_tasks(path, without, chosen, Model("", "another"))
