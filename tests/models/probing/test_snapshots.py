"""Examples of training users at earlier days: who is chosen, what they see, and what they count."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.sparse import csr_matrix

from contracts.base.errors import FootpathError
from contracts.recipes.jobs import TaskSpec
from models.baselines.measure import baselines
from models.data.examples import HALF_LIFE
from models.data.labels import Model, Task, load_tasks
from models.data.sequences import open_sequences
from models.finetune import finetune
from models.metrics.predictions import read_predictions
from models.probing.bags import ItemBags
from models.probing.folds import Labels, deal_folds
from models.probing.heads import load_head_features
from models.probing.members import Examples, Member, bag, linear
from models.probing.probe import head_path
from models.probing.stack import Choice, by_validation, crossfit
from models.runtime.report import Reporter
from tests.builders.jobs import baselines_job, evaluation_job, pretrain
from tests.builders.sequences import (
    CUTOFF,
    START,
    planted_labels,
    user_names,
    write_labels,
    write_sequences,
)

USERS = 120
SPECS = (TaskSpec(name="half"), TaskSpec(name="number", kind="regression", metric="mae"))
HOUR = dt.timedelta(hours=1)
DAYS = [dt.datetime.fromtimestamp(START, dt.UTC) + hours * HOUR for hours in (8, 5)]
RNG = np.random.default_rng(7)


def earlier_rows(rows: list[dict], days=DAYS, wrong: bool = False) -> list[dict]:
    """What training users would have been labeled at earlier instants, or the contrary of it."""
    return [
        row
        | {"as_of": day, "label_end": day + HOUR}
        | ({"value": 200 - row["value"] if row["task"] == "number" else 1 - row["value"]} if wrong
           else {})
        for row in rows
        if row["split"] == "train"
        for day in days
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Users whose labels follow from their items: alone, with earlier ones, with wrong ones."""
    folder = tmp_path_factory.mktemp("snapshots")
    write_sequences(folder, np.random.default_rng(1).integers(8, 30, USERS).tolist())
    rows = planted_labels(USERS)
    write_labels(folder / "alone.parquet", rows)
    write_labels(folder / "earlier.parquet", rows + earlier_rows(rows))
    write_labels(folder / "wrong.parquet", rows + earlier_rows(rows, wrong=True))
    pretrain(pointer_of(folder), folder / "coles_bag_v1", "coles_bag")
    return folder


def pointer_of(folder: Path) -> Path:
    return folder / "sequences" / "2026-01-31.json"


def tasks_of(folder: Path, name: str) -> tuple[Task, ...]:
    return tuple(load_tasks(folder / f"{name}.parquet", open_sequences(pointer_of(folder)), SPECS))


def test_each_example_sees_its_own_past_and_counts_by_its_age(folder):
    sequences, task = open_sequences(pointer_of(folder)), tasks_of(folder, "earlier")[0]
    train = task.splits["train"]
    assert len(train.users_n) == 3 * len(set(train.users_n.tolist()))
    assert train.weights_n is not None
    assert train.now_n is not None
    for user, end, now, weight in zip(
        train.users_n, train.ends_n, train.now_n, train.weights_n, strict=True
    ):
        first, last = sequences.offsets[user : user + 2]
        assert end == np.count_nonzero(sequences.time[first:last] < now)
        age = (CUTOFF.timestamp() - now) / 3600  # in windows, which are of an hour
        assert weight == 0.5 ** (age / HALF_LIFE)
    order = np.lexsort((train.now_n, train.users_n))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    assert set(train.now_n[train.is_newest_n]) == {CUTOFF.timestamp()}
    for split in ("valid", "test"):
        assert task.splits[split].weights_n is None


@pytest.mark.parametrize("place", [0, 1])
def test_users_of_a_share_are_the_same_with_and_without_earlier_days(folder, place):
    alone, both = tasks_of(folder, "alone")[place], tasks_of(folder, "wrong")[place]
    for share in (0.05, 0.2, 0.61, 1.0):
        for seed in range(4):
            kept = both.train_share(share, seed)
            expected = alone.train_share(share, seed)
            np.testing.assert_array_equal(kept.newest().users_n, expected.users_n)
            np.testing.assert_array_equal(kept.newest().y_n, expected.y_n)
            assert kept.newest().weights_n is None
            users, counts = np.unique(kept.users_n, return_counts=True)
            assert users.tolist() == expected.users_n.tolist()
            assert set(counts) == {3}
    for split in ("valid", "test"):
        for field in ("users_n", "ends_n", "y_n", "now_n"):
            one, other = (getattr(task.splits[split], field) for task in (alone, both))
            np.testing.assert_array_equal(one, other)


def test_earlier_labels_may_lie_before_what_models_saw_and_those_of_others_may_not(folder):
    sequences, rows = open_sequences(pointer_of(folder)), planted_labels(USERS)
    labels = folder / "earlier.parquet"
    assert load_tasks(labels, sequences, SPECS, Model(CUTOFF.isoformat(), ""))
    late = Model((CUTOFF + HOUR).isoformat(), "")
    with pytest.raises(FootpathError, match="the checkpoint saw events until"):
        load_tasks(labels, sequences, SPECS, late)
    valid = next(row for row in rows if row["split"] == "valid")
    for fault in (
        valid | {"as_of": DAYS[0], "label_end": DAYS[0]},
        earlier_rows(rows)[0] | {"as_of": DAYS[0] + HOUR, "label_end": CUTOFF + HOUR},
    ):
        wrong = write_labels(folder / "fault.parquet", [*rows, fault])
        with pytest.raises(FootpathError, match="saw events until"):
            load_tasks(wrong, sequences, SPECS)


def write_features(path: Path, days: list[dt.datetime], users: list[str]) -> Path:
    columns = {
        "user_id": [user for _ in days for user in users],
        "as_of": pa.array([day for day in days for _ in users], pa.timestamp("us", "UTC")),
        "hour": [day.timestamp() / 3600 for day in days for _ in users],
        "user": [float(user[-4:]) for _ in days for user in users],
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_features_of_an_example_are_those_of_its_day(folder, tmp_path):
    sequences, train = open_sequences(pointer_of(folder)), None
    known = [name for name in user_names(USERS) if name != "user-0004"]
    path = write_features(tmp_path / "f.parquet", [DAYS[0], CUTOFF, DAYS[1]], known)
    features = load_head_features(path, sequences)
    assert features.names == ("hour", "user")
    train = tasks_of(folder, "earlier")[0].splits["train"]
    expected = np.stack([train.now_n / 3600, train.users_n], axis=1)
    expected[train.users_n == 4] = np.nan
    assert (train.users_n == 4).sum() == 3
    np.testing.assert_array_equal(features.of(train), expected)
    alone = tasks_of(folder, "alone")[0].splits["train"]
    np.testing.assert_array_equal(features.of(alone), expected[train.is_newest_n])


@pytest.mark.parametrize("days", [[CUTOFF], [CUTOFF, DAYS[0]], [*DAYS, CUTOFF + HOUR]])
def test_features_of_another_day_than_the_example_are_refused(folder, tmp_path, days):
    path = write_features(tmp_path / "f.parquet", days, user_names(USERS))
    features = load_head_features(path, open_sequences(pointer_of(folder)))
    with pytest.raises(FootpathError, match=r"know nothing as of 20.*write head_features anew"):
        features.of(tasks_of(folder, "earlier")[0].splits["train"])


def test_a_user_may_be_named_once_a_day(folder, tmp_path):
    sequences = open_sequences(pointer_of(folder))
    path = write_features(tmp_path / "f.parquet", [CUTOFF, CUTOFF], user_names(USERS))
    with pytest.raises(FootpathError, match="names a user twice"):
        load_head_features(path, sequences)
    table = pq.read_table(path)
    named = table.set_column(1, "as_of", pa.array(["today"] * len(table)))
    pq.write_table(named, path)
    with pytest.raises(FootpathError, match="column as_of is no instant"):
        load_head_features(path, sequences)


def test_the_weights_of_items_are_those_of_everybody_all_the_same(folder):
    sequences = open_sequences(pointer_of(folder))
    alone, both = (
        ItemBags.of(sequences, tasks_of(folder, name)[0]) for name in ("alone", "earlier")
    )
    np.testing.assert_array_equal(alone.weights.idf_, both.weights.idf_)


X = RNG.normal(size=(90, 3))
COUNTS_N = RNG.integers(1, 4, len(X))
TWICE = np.repeat(np.arange(len(X)), COUNTS_N)
KINDS = {
    "two": ((X[:, 0] + RNG.normal(size=90) > 0).astype(np.int64), 2),
    "three": (np.digitize(X[:, 0] + RNG.normal(size=90), [-0.5, 0.5]), 3),
    "number": (X[:, 0] + RNG.normal(size=90), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_that_counts_twice_is_as_good_as_two(kind):
    y_n, classes = KINDS[kind]
    x, y = torch.from_numpy(X), torch.from_numpy(y_n)
    weighted = head_path(x, y, classes, weights_n=COUNTS_N.astype(float))
    repeated = head_path(x[TWICE], y[TWICE], classes)
    for one, other in zip(weighted, repeated, strict=True):
        torch.testing.assert_close(one(x), other(x), rtol=0, atol=2e-2)
    unweighted = head_path(x, y, classes)
    assert (unweighted[0](x) - weighted[0](x)).abs().max() > 0.01

    rows = csr_matrix(np.maximum(X, 0))
    member = bag("bag", {}, classes)
    one = member.fit(Examples(rows, y_n, COUNTS_N.astype(float)), member.choices)(rows)
    other = member.fit(Examples(rows[TWICE], y_n[TWICE]), member.choices)(rows)
    np.testing.assert_allclose(one, other, atol=1e-3)


def planted(flips: bool) -> tuple[Member, Labels]:
    """Forty users with nine earlier examples each, of which the first column tells the label."""
    sizes = {"train": 400, "valid": 300, "test": 500}
    x = {split: RNG.normal(size=(n, 12)).astype(np.float32) for split, n in sizes.items()}
    y = {s: (rows[:, 0] + RNG.normal(size=len(rows)) > 0).astype(int) for s, rows in x.items()}
    weights_n = np.tile([*[0.5] * 9, 1.0], 40)
    y["train"] = np.where((weights_n < 1) & flips, 1 - y["train"], y["train"])
    folds_n = deal_folds(np.repeat(np.arange(40), 10), y["train"], 2, weights_n)
    return linear("m", x, 2), Labels(y["train"], y["valid"], folds_n, 2, weights_n)


def test_earlier_examples_are_used_where_validation_users_say_that_they_help():
    member, labels = planted(flips=False)
    found = crossfit(member, labels)
    assert found.choice.with_earlier
    assert len(found.judged) == 40 + 300
    assert len(labels.judged_n) == 40 + 300


def test_where_they_mislead_everything_is_as_without_them():
    member, labels = planted(flips=True)
    found, newest = crossfit(member, labels), np.flatnonzero(labels.is_newest_n)
    alone = Member(member.name, member.x | {"train": member.x["train"][newest]}, member.choices,
                   member.fit)  # fmt: skip
    folds_n = labels.folds_n[newest]
    expected = crossfit(alone, Labels(labels.train_n[newest], labels.valid_n, folds_n, 2))
    assert found.choice == expected.choice == Choice(found.choice.value)
    np.testing.assert_array_equal(found.judged, expected.judged)
    for split in ("valid", "test"):
        np.testing.assert_array_equal(found.held_out[split], expected.held_out[split])
    said = by_validation(member, labels.train_n, labels.valid_n, 2, labels.weights_n)
    np.testing.assert_array_equal(said["test"], expected.held_out["test"])


def test_what_reads_vectors_is_fitted_and_judged_on_the_as_of_day_alone():
    member, labels = planted(flips=False)
    newest = np.flatnonzero(labels.is_newest_n)
    rows = member.x | {"train": member.x["train"][newest]}
    found = crossfit(replace(member, x=rows, on_newest=True), labels)
    assert not found.choice.with_earlier
    assert len(found.judged) == len(labels.judged_n) == 40 + 300


def test_folds_keep_a_user_together_and_are_those_of_the_newest_examples_alone():
    users_n = np.repeat(np.arange(200), 3)
    weights_n, y_n = np.tile([0.3, 0.6, 1.0], 200), RNG.integers(0, 2, 600)
    newest = weights_n == 1
    folds_n = deal_folds(users_n, y_n, 2, weights_n)
    np.testing.assert_array_equal(folds_n, np.repeat(folds_n[newest], 3))
    np.testing.assert_array_equal(folds_n[newest], deal_folds(users_n[newest], y_n[newest], 2))


def figures(folder: Path, name: str, out: Path, **changes) -> dict:
    """What every program predicts by the labels of a name."""
    settings = {"sequences": str(pointer_of(folder)), "labels": str(folder / f"{name}.parquet")}
    settings |= {"tasks": [spec.model_dump() for spec in SPECS], "label_shares": [0.3]}
    settings |= {"predictions": str(out / f"{name}-p.parquet"), "trees": 5}
    days = [CUTOFF] if name == "alone" else [CUTOFF, *DAYS]
    features = write_features(out / f"{name}-f.parquet", days, user_names(USERS))
    settings |= {"head_features": str(features), "out": str(out / f"{name}.parquet")}
    baselines(baselines_job(settings), Reporter())
    found = read_predictions([Path(settings["predictions"])])
    own = {"checkpoint": str(folder / "coles_bag_v1"), "protocols": ["frozen", "finetuned"]}
    own |= {"epochs": 1, "models": str(out / f"{name}-models")}
    finetune(evaluation_job(settings | own | changes), Reporter())
    return found | read_predictions([Path(settings["predictions"])])


def test_programs_measure_the_same_users_with_and_without_earlier_days(folder, tmp_path):
    alone, both, wrong = (figures(folder, n, tmp_path) for n in ("alone", "earlier", "wrong"))
    assert alone.keys() == both.keys() == wrong.keys()
    assert len({run[3] for run in alone}) == 5  # kinds of input
    changed = set()
    for run, found in alone.items():
        for split, part in found.items():
            np.testing.assert_array_equal(part.users_n, both[run][split].users_n)
            np.testing.assert_array_equal(part.y_n, both[run][split].y_n)
            if not np.array_equal(part.scores_nC, both[run][split].scores_nC):
                changed.add(run[2:4])
            # Vectors of earlier days know too much: what reads them alone is as without.
            # What misleads is not taken; a model that knows nothing of the label may take it.
            same = {"embedding": both, "items": wrong} if run[4] == "half" else {"embedding": both}
            if run[3] in same:
                other = same[run[3]][run][split].scores_nC
                np.testing.assert_array_equal(part.scores_nC, other)
    assert changed >= {("baseline", "items"), ("baseline", "features"), ("frozen", "profile")}
    rows = {n: pq.read_table(tmp_path / f"{n}.parquet").to_pylist() for n in ("alone", "earlier")}
    counts = [[row["train_users"] for row in rows[name]] for name in rows]
    assert counts[0] == counts[1]


def test_a_stored_profile_predicts_what_its_stack_of_earlier_examples_does(folder, tmp_path):
    kept, plain = (
        figures(folder, "earlier", tmp_path, protocols=["frozen"], models=models)
        for models in (str(tmp_path / "models"), None)
    )
    profiles = [run for run in kept if run[3] == "profile"]
    assert len(profiles) == len(SPECS)
    for run in profiles:
        for split, part in kept[run].items():
            np.testing.assert_allclose(part.scores_nC, plain[run][split].scores_nC, atol=1e-4)
