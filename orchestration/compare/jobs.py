"""The processes that measure the cells which are missing.

A job is one process: a pre-training, or all missing tasks, shares and protocols of one encoder, or
the baselines. Tasks share a process, for its start costs seconds; where it fails, each task gets
its own, so that one that cannot be learnt takes no other with it. What a process writes lies in a
folder of its own until it has ended; then its cells are published one by one.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.base.hashing import rows_fingerprint
from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from contracts.lake.reading import read_json
from orchestration.compare.cells import (
    Cell,
    code_version,
    has_weights,
    key_of,
    publish_cells,
    touch,
)
from orchestration.compare.inputs import Source, labels_of_seed
from orchestration.compare.recipes import Recipe, resolved, train_settings
from orchestration.compare.settings import Comparison

# What of a training's configuration does not change its outcome.
_NOT_IN_KEY = ("sequences", "out", "version", "threads", "checkpoint_seconds", "device", "prefetch")
# What of a measurement's is a path, or is said by the cell itself.
_NOT_IN_CELL = (
    "seeds", "label_shares", "protocols", "predictions", "model_out", "vectors", "threads",
    "device",
)  # fmt: skip


@dataclass
class Job:
    """One process to run."""

    name: str  # of its files
    title: str
    kind: str  # jobs of one kind take about as long as each other
    module: str
    config: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    needs: "Job | None" = None  # runs after it
    model: Path | None = None  # the checkpoint that it reads or writes
    publish: Callable[[], None] = lambda: None
    parts: "list[Job]" = field(default_factory=list)  # a job a task, to run where this one fails


@dataclass(frozen=True)
class Measured:
    """Cells of one encoder (or of the baselines) and one task, done or not."""

    recipe: Recipe | None
    task: str
    seed: int
    cells: list[Cell]
    model: Path | None = None
    vectors: Path | None = None


@dataclass(frozen=True)
class Plan:
    """All cells of a comparison, and the jobs that the missing ones need."""

    measured: list[Measured]
    jobs: list[Job]


@dataclass(frozen=True)
class Planner:
    """What every cell of a comparison depends on."""

    comparison: Comparison
    lake: Lake
    sources: dict[str, Source]
    code: str  # part of the keys, if results of other code do not count

    @property
    def root(self) -> Path:
        """Where everything lies."""
        return self.lake.work / "compare"

    def plan(self) -> Plan:
        """Lists every cell, and the jobs of those that are missing; the first seed first."""
        measured: list[Measured] = []
        jobs: list[Job] = []
        for seed in range(self.comparison.seeds):
            for recipe in (None, *self.comparison.recipes):
                for table, source in self.sources.items():
                    tasks = [task for task in self.comparison.tasks if task.table == table]
                    training = _training(recipe, source, seed, self) if recipe else None
                    found = [self._cells(source, task, recipe, training, seed) for task in tasks]
                    measured += [each for each in found if each.cells]
                    job = self._job(source, tasks, found, training, seed)
                    if job and job.needs and all(j.name != job.needs.name for j in jobs):
                        jobs.append(job.needs)
                    if job:
                        # Two sources of examples may share the sequences of pre-training.
                        same = [j for j in jobs if job.needs and j.name == job.needs.name]
                        for each in (job, *job.parts):
                            each.needs = same[0] if same else None
                        jobs.append(job)
        return Plan(measured, jobs)

    def _cells(
        self, source: Source, task: Task, recipe: Recipe | None, training: Job | None, seed: int
    ) -> Measured:
        """Returns the cells of one encoder, or of the baselines, and one task."""
        settings = self._settings(source, [task], seed, recipe)
        identity = _identity(settings, source, task, is_baseline=recipe is None)
        folder = self.root / "cells"
        if recipe is None or training is None:
            cells = [
                Cell(key_of("baselines", identity, share, seed, self.code), task.name, share,
                     "baseline", folder)
                for share in self.comparison.shares
            ]  # fmt: skip
            return Measured(None, task.name, seed, cells)
        assert training.model is not None
        identity |= {"model": training.model.name, "recipe": recipe.label}
        cells = [
            Cell(key_of("cell", identity, share, protocol, seed, self.code), task.name, share,
                 protocol, folder)
            for share in self.comparison.shares
            for protocol in protocols_of(recipe, task, self.comparison.protocols)
            # What needs no labels is measured once.
            if protocol != "native" or share == max(self.comparison.shares)
        ]  # fmt: skip
        vectors = self._vectors(training) / f"{task.name}.parquet"
        return Measured(recipe, task.name, seed, cells, training.model, vectors)

    def _job(
        self,
        source: Source,
        tasks: list[Task],
        measured: list[Measured],
        training: Job | None,
        seed: int,
    ) -> Job | None:
        """Returns the process that measures what is missing of some tasks, if anything is."""
        missing = {each.task: [c for c in each.cells if not c.is_done()] for each in measured}
        tasks = [task for task in tasks if missing[task.name]]
        if not tasks:
            return None
        recipe = measured[0].recipe
        cells = [cell for task in tasks for cell in missing[task.name]]
        name = f"measure-{key_of(*[cell.key for cell in cells])}"
        scratch = self.root / "running" / name
        config = self._settings(source, tasks, seed, recipe) | {
            "label_shares": sorted({cell.share for cell in cells}),
            "out": str(scratch / "metrics.parquet"),
            "predictions": str(scratch / "predictions.parquet"),
        }
        who = "baselines"
        if recipe and training:
            who = f"{recipe.label} {recipe.encoder}"
            config["checkpoint"] = str(training.model)
            config["protocols"] = list(dict.fromkeys(cell.protocol for cell in cells))
            if seed == 0:
                config["vectors"] = str(self._vectors(training))
        job = Job(
            name,
            f"{who}, seed {seed}: {', '.join(task.name for task in tasks)}",
            f"{len(tasks)} tasks, {recipe.encoder if recipe else who}",
            "models.finetune" if recipe else "models.baselines",
            config,
            cells,
            model=training.model if training else None,
        )
        job.needs = training if job.model and not has_weights(job.model) else None
        job.publish = lambda: _publish(self.lake, job, scratch)
        if len(tasks) > 1:
            alone = [self._job(source, [task], measured, training, seed) for task in tasks]
            job.parts = [part for part in alone if part]
        return job

    def _vectors(self, training: Job) -> Path:
        assert training.model is not None
        return self.root / "vectors" / training.model.name

    def _settings(
        self, source: Source, tasks: list[Task], seed: int, recipe: Recipe | None
    ) -> dict[str, Any]:
        """Returns fields of the program's configuration that its figures follow from."""
        found = {
            "sequences": str(source.sequences),
            "labels": str(labels_of_seed(self.lake, source, seed)),
            "tasks": [task.settings() for task in tasks],
            "seeds": 1,
            "first_seed": seed,
        }
        if source.head_features:
            found["head_features"] = str(source.head_features)
        return found | self.comparison.finetune if recipe else found


def plan(
    comparison: Comparison, lake: Lake, sources: dict[str, Source], same_code: bool = False
) -> Plan:
    """Lists every cell of a comparison, and the jobs of those that are missing."""
    return Planner(comparison, lake, sources, code_version() if same_code else "").plan()


def _training(recipe: Recipe, source: Source, seed: int, planner: Planner) -> Job:
    from models.runtime.config import TrainConfig, parse, plain

    settings = train_settings(recipe, seed)
    whole = plain(parse(TrainConfig, settings, f"recipe {recipe.name}")) | resolved(recipe)
    identity = {name: value for name, value in whole.items() if name not in _NOT_IN_KEY}
    data = read_json(source.pretraining)["fingerprint"]
    key = key_of("model", identity, data, planner.code)
    out = planner.root / "models" / key
    config = settings | {"sequences": str(source.pretraining), "out": str(out), "version": key}
    title = f"{recipe.label} {recipe.encoder}, seed {seed}: pre-training"
    if source.pretraining != source.sequences or "__" in source.pretraining.stem:
        title += f" on {source.pretraining.stem}"
    kind = f"pre-training {recipe.encoder}"
    return Job(f"train-{key}", title, kind, "models.train", config, model=out)


def protocols_of(recipe: Recipe, task: Task, asked: tuple[str, ...]) -> list[str]:
    """Returns the protocols that go with a recipe and a task."""
    left_out = {"finetuned"} if recipe.method == "none" else {"scratch"}
    if task.kind != "ranking" or task.candidates or recipe.method == "none":
        left_out.add("native")
    if recipe.method == "none" and "scratch" in asked:
        left_out.add("frozen")  # there for the comparison from scratch
    return [protocol for protocol in asked if protocol not in left_out]


def _identity(
    config: dict[str, Any], source: Source, task: Task, is_baseline: bool
) -> dict[str, Any]:
    """Returns settings, defaults among them, with fingerprints in the place of paths."""
    from models.runtime.config import BaselinesConfig, FinetuneConfig

    known = source.head_features
    defaults = {
        f.name: f.default
        for f in dataclasses.fields(BaselinesConfig if is_baseline else FinetuneConfig)
        if f.default is not dataclasses.MISSING and f.name not in _NOT_IN_CELL
    }
    fingerprints = {
        "sequences": read_json(source.sequences)["fingerprint"],
        # Other splits follow from these labels and the seed, but where they decide what labels are.
        "labels": rows_fingerprint(
            Path(config["labels"]) if task.follows_split else source.labels, task.name
        ),
        "head_features": rows_fingerprint(known) if known else "",
    }
    return defaults | config | fingerprints


def _publish(lake: Lake, job: Job, scratch: Path) -> None:
    metrics, predictions = scratch / "metrics.parquet", scratch / "predictions.parquet"
    publish_cells(lake, job.cells, metrics, predictions, job.config)
    if job.model:
        touch(job.model)


def models_of(jobs: list[Job]) -> Iterator[Path]:
    """Yields the checkpoints that jobs still need."""
    for job in jobs:
        if job.model:
            yield job.model
