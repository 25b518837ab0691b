"""A comparison of tasks with snapshots: inputs of every split, keys of its cells, and figures."""

import os

import pyarrow.parquet as pq
import pytest

from contracts.base.clock import as_of_instant
from contracts.config.comparison import Comparison
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.recipes.jobs import BaselinesJob, Finetuning
from features.learning.label_rows import Split
from features.learning.labels import build_labels
from models.baselines.measure import baselines
from models.experiments.planning import Planner, Source
from models.runtime.report import Reporter
from orchestration.experiments import inputs
from orchestration.experiments.inputs import prepare
from tests.builders.events import AS_OF, BERLIN, publish_events
from tests.builders.snapshots import DAYS, ZONE, build_features, dataset_of, log

TASKS = ("buys", "new")


@pytest.fixture
def lake(lake_home) -> Lake:
    lake = Lake.of("shop")
    publish_events(lake, log(), BERLIN)
    build_features(dataset_of(0, *TASKS), lake)
    return lake


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The YAML, of which the time of change counts."""
    file = tmp_path / "shop.yaml"
    file.touch()
    monkeypatch.setattr(inputs, "dataset_file", lambda _name: file)
    return file


def planned(lake: Lake, dataset: Dataset) -> tuple[Source, Planner]:
    wanted = Comparison(recipes=(), tasks=TASKS, shares=(0.5,), seeds=(0, 1),
                        protocols=("frozen",), finetuning=Finetuning())  # fmt: skip
    sources = prepare(wanted, dataset, lake, AS_OF, lambda _line: None)
    return sources["day"], Planner(wanted, dataset, lake, sources)


def figures_of(planner: Planner) -> list[dict]:
    """What the baselines measure; with few trees, which are enough here."""
    rows = []
    for job in planner.plan().jobs:
        assert isinstance(job.work, BaselinesJob)
        evaluation = job.work.evaluation.model_copy(update={"trees": 5, "lsa_dim": 2})
        baselines(job.work.model_copy(update={"evaluation": evaluation}), Reporter())
        rows += pq.read_table(job.work.io.out).to_pylist()
    return rows


def test_each_split_has_earlier_labels_of_its_own_training_users_and_cells_of_their_own(
    lake, file, tmp_path
):
    dataset = dataset_of(3, *TASKS)
    _, plain = planned(lake, dataset_of(0, *TASKS))
    without = {cell.key for cell in plain.plan().cells}
    figures = figures_of(plain)
    os.utime(file)  # as who writes `snapshots` into it does
    source, planner = planned(lake, dataset)
    assert without.isdisjoint(cell.key for cell in planner.plan().cells)
    for seed in (0, 1):
        path = tmp_path / f"{seed}.parquet"
        build_labels(dataset, lake, AS_OF, Split(seed), path)
        labels = pq.read_table(source.labels_of_seed(seed))
        assert labels.equals(pq.read_table(path))
        instants = {as_of_instant(day, ZONE) for day in (AS_OF, *DAYS)}
        assert set(labels["as_of"].to_pylist()) == instants
    features = pq.read_table(source.head_features)
    assert set(features["as_of"].to_pylist()) == instants

    again = figures_of(planner)
    columns = ("method", "task", "label_share", "seed", "metric", "train_users", "test_users")
    assert [[row[c] for c in columns] for row in again] == [
        [row[c] for c in columns] for row in figures
    ]
    same = [a["value"] == b["value"] for a, b in zip(again, figures, strict=True)]
    assert not all(same)
    by_majority = [s for s, row in zip(same, again, strict=True) if row["method"] == "majority"]
    assert all(by_majority)  # class shares are those of the as-of day
