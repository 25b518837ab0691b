"""A comparison and its inputs -> what it consists of, and the jobs of what is missing.

A trial is one pre-training, and lies under the hash of all that its weights follow from. A cell is
one measurement (cells.py). A job is one process: a trial, or all missing tasks, shares and
protocols of one encoder, or the baselines. Tasks share a process, for its start costs seconds;
where it fails, each task gets its own, so that one that cannot be learnt takes no other with it.
What a process writes lies in a folder of its own until it has ended; then its cells are published
one by one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json, hash_rows
from contracts.config.comparison import Comparison, NamedRecipe
from contracts.config.dataset import Dataset
from contracts.config.tasks import Task
from contracts.lake.copies import send_copy
from contracts.lake.layout import Lake
from contracts.lake.reading import read_json
from contracts.lake.versions import CONFIG, is_trained, trial_folder
from contracts.recipes.jobs import (
    Baselines,
    BaselinesJob,
    Evaluation,
    EvaluationIO,
    EvaluationJob,
    Finetuning,
    LabeledIO,
    Protocol,
    TrainIO,
    TrainJob,
    training_identity,
)
from models.experiments.cells import Cell, Measured, publish_cells, touch, vectors_folder
from models.runtime.code import code_version

if TYPE_CHECKING:
    import pyarrow as pa

Work = TrainJob | EvaluationJob | BaselinesJob
TREES = Baselines.model_fields["trees"].default


@dataclass(frozen=True)
class Source:
    """The inputs of the tasks of one source of examples; local paths."""

    pretraining: Path  # pointer of the sequences that encoders are trained on
    sequences: Path  # pointer of those that the examples are cut from
    labels: Path
    head_features: Path | None
    labels_of_seed: Callable[[int], Path]  # with the split of a seed


@dataclass(eq=False)
class Job:
    """One process to run."""

    name: str  # of its files
    title: str
    module: str
    work: Work
    trial: str = ""  # the checkpoint that it makes or reads
    cells: list[Cell] = field(default_factory=list)
    needs: "Job | None" = None  # runs after it
    parts: "list[Job]" = field(default_factory=list)  # a job a task, to run where this one fails

    def part_of(self, parts: int) -> int:
        """The part of a plan that it is in: what reads a checkpoint goes with what makes it."""
        return int(hash_json(self.trial or self.name), 16) % parts

    def is_done(self, lake: Lake) -> bool:
        """Whether nothing is left to do, perhaps because another process did it."""
        if isinstance(self.work, TrainJob):
            return is_trained(lake, self.trial)
        return all(cell.is_done() for cell in self.cells)

    def publish(self, lake: Lake) -> None:
        """Makes visible what its process has written."""
        if isinstance(self.work, TrainJob):
            send_copy(lake, trial_folder(lake, self.trial), CONFIG)
            return
        publish_cells(self.cells, self.work.io.out.parent, self.work)
        if self.trial:
            touch(lake, self.trial)


@dataclass(frozen=True)
class Plan:
    """All that a comparison consists of, and the jobs that what is missing needs."""

    measured: list[Measured]
    jobs: list[Job]

    @property
    def cells(self) -> list[Cell]:
        """All cells, done or not."""
        return [cell for each in self.measured for cell in each.cells]


@dataclass(frozen=True)
class Planner:
    """What every cell of a comparison depends on.

    Args:
      comparison: what is to be measured.
      dataset: whose tasks.
      lake: where everything lies.
      sources: inputs by `Task.table`.
      keep_models: fine-tuned models and profiles are kept, one of each a task.
      same_code: results of other code do not count.
    """

    comparison: Comparison
    dataset: Dataset
    lake: Lake
    sources: dict[str, Source]
    keep_models: bool = False
    same_code: bool = False

    def plan(self, trained: str = "") -> Plan:
        """Lists every trial and cell, and the jobs of those that are missing; seed by seed.

        Args:
          trained: the trial that its one recipe was trained as, on other data: no baselines then.
        """
        measured: list[Measured] = []
        jobs: list[Job] = []
        trainings: dict[str, Job] = {}  # two sources of examples may share a trial
        for seed in self.comparison.seeds:
            for recipe in (*([] if trained else [None]), *self.comparison.recipes):
                for table, source in self.sources.items():
                    tasks = [t for t in self._tasks() if t.table == table]
                    if not tasks:
                        continue
                    training = self.training(recipe, source, seed) if recipe else None
                    if training and trained:
                        training = replace(training, trial=trained)
                    elif training:
                        training = trainings.setdefault(training.trial, training)
                    found = [self._cells(source, task, recipe, training, seed) for task in tasks]
                    measured += [each for each in found if each.cells]
                    job = self._job(source, tasks, found, training, seed)
                    if job and job.needs and job.needs not in jobs:
                        jobs.append(job.needs)
                    if job and job.name not in {each.name for each in jobs}:
                        jobs.append(job)  # two names of one recipe share a job as well
        return Plan(measured, jobs)

    def training(self, named: NamedRecipe, source: Source, seed: int) -> Job:
        """The pre-training of a recipe on the sequences of a source."""
        recipe, labels, judged_by = named.recipe, None, ""
        if recipe.judged_by:
            labels = self.sources["day"].labels_of_seed(seed)
            judged_by = hash_rows(labels, recipe.judged_by)
        data = read_json(source.pretraining)["fingerprint"]
        trial = training_identity(recipe, seed, data, judged_by)
        if self.same_code:
            trial = hash_json([trial, code_version()])
        title = f"{named.label} {recipe.encoder.name}, seed {seed}: pre-training"
        if source.pretraining != source.sequences or "__" in source.pretraining.stem:
            title += f" on {source.pretraining.stem}"
        out = self.lake.work / "trials" / trial
        io = TrainIO(sequences=source.pretraining, out=out, labels=labels)
        work = TrainJob(recipe=recipe, seed=seed, io=io)
        return Job(f"train-{trial}", title, "models.train", work, trial)

    def _is_first(self, seed: int) -> bool:
        return seed == self.comparison.seeds[0]

    def _tasks(self) -> list[Task]:
        return [task for task in self.dataset.tasks if task.name in self.comparison.tasks]

    def _cells(
        self, source: Source, task: Task, named: NamedRecipe | None, training: Job | None, seed: int
    ) -> Measured:
        """The cells of one encoder, or of the baselines, and one task."""
        shares, kept = self.comparison.shares, max(self.comparison.shares)
        content, folds = self._content(source, task, seed), self.comparison.folds
        split = f"{seed} of folds of {folds}" if folds else seed
        if named is None or training is None:
            sizes = [Baselines.model_fields["lsa_dim"].default, TREES]
            cells = [
                Cell(self.lake, self._key("baselines", content, share, split, *sizes), task.name,
                     share, "baseline")
                for share in shares
            ]  # fmt: skip
            return Measured(None, task.name, seed, cells, sequences=str(source.sequences))
        cells = [
            Cell(
                self.lake,
                self._key("cell", content, share, split, training.trial, protocol,
                          _settings_of(protocol, self.comparison.finetuning)),
                task.name,
                share,
                protocol,
                keeps_model=self.keep_models and share == kept and self._is_first(seed)
                and _keeps_model(named, task, protocol),
            )
            for share in shares
            for protocol in protocols_of(named, task, self.comparison.protocols)
            # What needs no labels is measured once.
            if protocol != "native" or share == kept
        ]  # fmt: skip
        return Measured(named, task.name, seed, cells, training.trial, str(source.sequences))

    def _key(self, *parts: object) -> str:
        return hash_json([*parts, code_version() if self.same_code else ""])

    def _content(self, source: Source, task: Task, seed: int) -> dict:
        """What a cell's figures follow from besides settings: the task, and content of files."""
        known = source.head_features
        # A split follows from these labels, seed and folds, but where it decides what labels are.
        labels = source.labels_of_seed(seed) if task.follows_split else source.labels
        return {
            "task": task.spec.model_dump(mode="json"),
            "sequences": read_json(source.sequences)["fingerprint"],
            "labels": hash_rows(labels, task.name),
            "head_features": hash_rows(known) if known else "",
        }

    def _job(
        self,
        source: Source,
        tasks: list[Task],
        measured: list[Measured],
        training: Job | None,
        seed: int,
    ) -> Job | None:
        """The process that measures what is missing of some tasks, if anything is."""
        missing = {each.task: [c for c in each.cells if not c.is_done()] for each in measured}
        tasks = [task for task in tasks if missing[task.name]]
        if not tasks:
            return None
        named = measured[0].recipe
        cells = [cell for task in tasks for cell in missing[task.name]]
        name = f"measure-{hash_json([cell.key for cell in cells])}"
        folder = self.lake.work / "running" / name
        files = {
            "sequences": source.sequences,
            "labels": source.labels_of_seed(seed),
            "head_features": source.head_features,
            "out": folder / "metrics.parquet",
            "predictions": folder / "predictions.parquet",
        }
        wanted = {
            "tasks": tuple(task.spec for task in tasks),
            "label_shares": tuple(sorted({cell.share for cell in cells})),
            "seeds": (seed,),
        }
        titled = f"seed {seed}: {', '.join(task.name for task in tasks)}"
        if named is None or training is None:
            work: Work = BaselinesJob(evaluation=Baselines(**wanted), io=LabeledIO(**files))
            job = Job(name, f"baselines, {titled}", "models.baselines", work, cells=cells)
        else:
            io = EvaluationIO(
                **files,
                checkpoint=self.lake.work / "trials" / training.trial,
                models=folder / "models" if any(cell.keeps_model for cell in cells) else None,
                vectors=vectors_folder(self.lake, training.trial) if self._is_first(seed) else None,
            )
            protocols = tuple(dict.fromkeys(cell.protocol for cell in cells))
            evaluation = Evaluation.model_validate(
                wanted | {"protocols": protocols, "finetuning": self.comparison.finetuning}
            )
            work = EvaluationJob(evaluation=evaluation, io=io)
            who = f"{named.label} {named.recipe.encoder.name}"
            job = Job(name, f"{who}, {titled}", "models.finetune", work, training.trial, cells)
            job.needs = None if is_trained(self.lake, training.trial) else training
        if len(tasks) > 1:
            alone = [self._job(source, [task], measured, training, seed) for task in tasks]
            job.parts = [part for part in alone if part]
        return job


def protocols_of(named: NamedRecipe, task: Task, asked: tuple[Protocol, ...]) -> list[Protocol]:
    """The protocols that go with a recipe and a task.

    Random weights are measured frozen whatever is asked: the ablation that shows what training adds
    to the same inputs, and nothing is trained for it.
    """
    method = named.recipe.method
    left_out = {"scratch"} if method.trains else {"finetuned"}
    if not method.trains:
        asked = tuple(dict.fromkeys(("frozen", *asked)))
    if task.kind != "ranking" or task.candidates or not method.ranks_items:
        left_out.add("native")
    return [protocol for protocol in asked if protocol not in left_out]


def _keeps_model(named: NamedRecipe, task: Task, protocol: Protocol) -> bool:
    """Whether a task's model may be served: fine-tuned, or the profile of a frozen encoder."""
    served = named.recipe.method.trains and protocol in ("frozen", "finetuned")
    return served and task.kind != "ranking"


def _settings_of(protocol: Protocol, finetuning: Finetuning) -> dict:
    """The settings of fine-tuning that a protocol's figures follow from."""
    if protocol in ("finetuned", "scratch"):
        return finetuning.model_dump(mode="json")
    settings: dict = {"features": protocol in finetuning.feature_protocols}
    return settings | ({"trees": TREES} if protocol == "frozen" else {})


def trials_of(jobs: list[Job]) -> Iterator[str]:
    """The checkpoints that jobs still need."""
    yield from (job.trial for job in jobs if job.trial)


def unmeasurable(tasks: list[Task], source: Source, seeds: tuple[int, ...]) -> dict[str, str]:
    """Why tasks cannot be measured, by name: a split of a seed has too few users for them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: dict[str, str] = {}
    for seed in seeds:
        labels = pq.read_table(source.labels_of_seed(seed), columns=["task", "split", "label"])
        for task in tasks:
            rows = labels.filter(pc.field("task") == task.name)
            lack = _lack(rows, has_classes=task.kind == "classification")
            if lack and task.name not in found:
                found[task.name] = f"{lack}{f' of seed {seed}' if seed else ''}"
    return found


def _lack(rows: "pa.Table", has_classes: bool) -> str:
    import pyarrow.compute as pc

    for split in ("train", "valid", "test"):
        labels = rows.filter(pc.field("split") == split)["label"]
        if not len(labels):
            return f"nobody has a label in the {split} split"
        only = pc.unique(labels).to_pylist()
        # Of validation users weights and settings are judged, which one class can do.
        if has_classes and len(only) == 1 and split != "valid":
            return f"all {len(labels)} users have the label '{only[0]}' in the {split} split"
    return ""


def check_labeled(tasks: list[Task], sources: dict[str, Source]) -> None:
    """Checks that every task has labels.

    Raises:
      FootpathError: one has none.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for task in tasks:
        path = sources[task.table].labels
        if task.name not in pc.unique(pq.read_table(path, columns=["task"])["task"]).to_pylist():
            raise FootpathError(
                f"{path} has no labels of task '{task.name}': no user has one as of that day, or "
                f"all have the same; leave it out of --tasks, or choose another learning.as_of"
            )
