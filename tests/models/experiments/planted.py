"""A comparison of small recipes on planted users, as the tests of experiments plan it."""

from pathlib import Path

import numpy as np

from contracts.config.comparison import Comparison, NamedRecipe
from contracts.config.dataset import Dataset, load_dataset
from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from contracts.recipes.jobs import Finetuning
from contracts.recipes.recipe import Recipe
from models.experiments.planning import Plan, Planner, Source
from tests.builders.sequences import planted_labels, write_labels, write_sequences

TASKS = (
    Task(name="half", column="gender", metric="auc"),
    Task(name="number", kind="regression", sql="count(*)", horizon_days=1, metric="mae"),
)
SMALL = {"dim": 8, "max_length": 10, "epochs": 2, "batch_size": 16}
USERS = 100


def recipe(name: str, **changes) -> NamedRecipe:
    return NamedRecipe(name=name, recipe=Recipe.named(name, SMALL | changes))


def comparison(*recipes: NamedRecipe, **changes) -> Comparison:
    common = {"tasks": ("half", "number"), "shares": (0.5, 1.0), "seeds": (0,)}
    common |= {"protocols": ("frozen",), "finetuning": Finetuning(epochs=1)}
    return Comparison.model_validate({"recipes": recipes} | common | changes)


def dataset_of(*tasks: Task) -> Dataset:
    return load_dataset("shop").model_copy(update={"tasks": list(tasks or TASKS)})


def same_labels(labels: Path):
    return lambda _seed: labels


def source_of(pointer: Path, labels: Path, **changes) -> Source:
    common = {"head_features": None, "labels_of_seed": same_labels(labels)}
    return Source(**{"pretraining": pointer, "sequences": pointer, "labels": labels}
                  | common | changes)  # fmt: skip


def write_source(folder: Path) -> Source:
    lengths = np.random.default_rng(1).integers(8, 20, USERS).tolist()
    labels = write_labels(folder / "2026-01-31.parquet", planted_labels(USERS))
    return source_of(write_sequences(folder, lengths), labels)


def planner(lake: Lake, source: Source, wanted: Comparison, *tasks: Task, **changes) -> Planner:
    return Planner(wanted, dataset_of(*tasks), lake, {"day": source}, **changes)


def planned(lake: Lake, source: Source, wanted: Comparison, **changes) -> Plan:
    return planner(lake, source, wanted, **changes).plan()
