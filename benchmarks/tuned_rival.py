"""What the rules of a recipe lose against settings that somebody has tuned on the same data.

    python -m benchmarks.tuned_rival --dataset online-retail --recipes future_bag coles_bag
    python -m benchmarks.tuned_rival --dataset ml-100k --recipes barlow_bag --trials 8 --seeds 6

For each recipe, `--trials` settings are drawn from what an expert would try (SPACE). On each split
of the users all of them are pre-trained and probed, frozen; the rival is the one whose mean over
the tasks is best on the validation users. It is held against the recipe without settings, on the
same test users: differences are paired over the splits.

Columns: mean over the tasks of their own metric, of the rules and of the rival, on test users; the
mean difference and its standard error; how often each trial was the best.
"""

import argparse
import json
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from contracts.config.comparison import Asked, comparison_of
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.layout import Lake
from contracts.recipes.jobs import Runtime, TaskSpec, TrainIO, TrainJob
from contracts.recipes.recipe import Recipe
from features.learning.labels import default_as_of
from models.data.labels import SPLITS, Task, load_tasks
from models.data.sequences import Sequences, open_sequences
from models.experiments.planning import Source
from models.metrics.predictions import Predicted
from models.metrics.rows import measure
from models.nn.user_model import UserModel
from models.probing.head_inputs import embeddings
from models.probing.probe import Scale, Standardizer, fit_head
from models.runtime.device import prepare
from models.runtime.report import Reporter
from models.train import build
from models.training.trainer import Trainer
from orchestration.experiments.inputs import prepare as prepare_inputs

SPACE: dict[str, tuple] = {
    "fields": (
        ("item",),
        ("item", "category", "action"),
        ("item", "category", "action", "value", "gap"),
    ),
    "dim": (32, 64, 128),
    "batch_size": (32, 64, 128),
    "lr": (3e-4, 1e-3, 3e-3, 1e-2),
    "epochs": (5, 15, 40),
}
RULES = "rules"


class Silent(Reporter):
    """Says nothing."""

    def progress(self, step: int, steps: int, **figures: Any) -> None:
        """Nothing."""

    def epoch(self, epoch: int, epochs: int, **figures: float) -> None:
        """Nothing."""


def main() -> None:
    """Prints one JSON object a run, then one a recipe."""
    options = arguments()
    prepare("cpu", options.threads)
    dataset, lake = load_dataset(options.dataset), Lake.of(options.dataset)
    as_of = default_as_of(dataset, lake)
    asked = Asked(recipes=None, methods=("none",), encoders=("bag",), features=False)
    sources = prepare_inputs(comparison_of(dataset, asked), dataset, lake, as_of, print)
    source = sources["day"]
    specs = tuple(
        TaskSpec(name=task.name, kind=task.kind, metric=task.metric)
        for task in dataset.daily_tasks
        if task.kind == "classification"
    )
    for name in options.recipes:
        found = [runs_of(name, seed, dataset, source, specs, options) for seed in options.seeds]
        print(json.dumps(summary(name, found)), flush=True)


def runs_of(
    name: str,
    seed: int,
    dataset: Dataset,
    source: Source,
    specs: tuple[TaskSpec, ...],
    options: argparse.Namespace,
) -> dict[str, dict[str, float]]:
    """Mean figures of validation and test users, by trial, on the split of a seed."""
    sequences, found = open_sequences(source.pretraining), {}
    for trial, settings in {RULES: {}, **drawn(name, options.trials)}.items():
        recipe = Recipe.named(name, dataset.common_settings | settings)
        with tempfile.TemporaryDirectory() as folder:
            model = trained(recipe, seed, sequences, source, Path(folder))
        reading = model.config.reading(open_sequences(source.sequences))
        tasks = load_tasks(source.labels_of_seed(seed), reading, specs)
        figures = [probed(task, model, reading, options.share, seed) for task in tasks]
        found[trial] = {s: float(np.mean([each[s] for each in figures])) for s in SPLITS[1:]}
        said = {"recipe": name, "seed": seed, "trial": trial, **settings, **found[trial]}
        print(json.dumps(said), flush=True)
    return found


def drawn(name: str, trials: int) -> dict[str, dict[str, Any]]:
    """Different settings that the recipe can have, the same ones for every split."""
    rng, found = np.random.default_rng(0), {}
    while len(found) < trials:
        settings = {key: some[rng.integers(len(some))] for key, some in SPACE.items()}
        try:
            Recipe.named(name, settings)
        except ValidationError:
            continue
        if settings not in found.values():
            found[f"trial {len(found) + 1}"] = settings
    return found


def trained(
    recipe: Recipe, seed: int, sequences: Sequences, source: Source, folder: Path
) -> UserModel:
    """A model that is pre-trained in this process."""
    io = TrainIO(sequences=source.pretraining, out=folder)
    job = TrainJob(recipe=recipe, seed=seed, io=io, runtime=Runtime(device="cpu"))
    model, objective = build(job, sequences)
    Trainer(job, sequences, model, objective, None).fit(Silent())
    return model.eval()


def probed(
    task: Task, model: UserModel, sequences: Sequences, share: float, seed: int
) -> dict[str, float]:
    """The task's metric of a linear head on the frozen vectors, of validation and test users."""
    x, kept = embeddings(model, sequences, task).x, task.share_index(share, seed)
    x = x | {"train": x["train"][kept]}
    y = {split: task.splits[split].y_n for split in SPLITS} | {
        "train": task.splits["train"].y_n[kept]
    }
    standardizer, scale = Standardizer.of(x["train"]), Scale.of(task, y["train"])
    x = {split: standardizer(rows) for split, rows in x.items()}
    train, valid = ((x[split], scale.targets(y[split])) for split in SPLITS[:2])
    head, found = fit_head(train, valid, len(task.classes)), {}
    for split in SPLITS[1:]:
        predicted = scale.predictions(head(x[split]), is_classification=True)
        part = Predicted("classification", task.splits[split].users_n, y[split], predicted)
        found[split] = measure(task, part)[task.metric] or math.nan
    return found


def summary(name: str, found: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The rules against the trial that validation users choose, paired over the splits."""
    chosen = [
        max((trial for trial in runs if trial != RULES), key=lambda trial: runs[trial]["valid"])
        for runs in found
    ]
    rules = np.array([runs[RULES]["test"] for runs in found])
    rival = np.array([runs[trial]["test"] for runs, trial in zip(found, chosen, strict=True)])
    away = rules - rival
    error = away.std(ddof=1) / math.sqrt(len(away)) if len(away) > 1 else math.nan
    return {
        "recipe": name,
        "splits": len(found),
        "rules": round(float(rules.mean()), 4),
        "rival": round(float(rival.mean()), 4),
        "difference": round(float(away.mean()), 4),
        "standard_error": round(float(error), 4),
        "chosen": dict(Counter(chosen)),
    }


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="whose events are published")
    parser.add_argument("--recipes", nargs="+", required=True, help="such as coles_bag")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=4, help="splits of the users")
    parser.add_argument("--share", type=float, default=0.2, help="of the labels")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.seeds = range(options.seeds)
    return options


if __name__ == "__main__":
    main()
