"""Jobs: what the programs in `models/` are given, one JSON file each.

A job says what is to be done (`recipe`, `evaluation`), where its files lie (`io`) and on what it
runs (`runtime`). Only the first decides what comes out, together with the content of the files
that `io` names: no path, no machine and no number of threads is part of an identity.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StrictBool, ValidationError, model_validator

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.base.schema import Count, Strict, Weight, Whole, sentences
from contracts.recipes.recipe import Recipe

JobT = TypeVar("JobT", bound=Strict)

# Evaluation modes: linear probe, fine-tuned, the same encoder from scratch, and a ranking by the
# score that pre-training itself trains.
Protocol = Literal["frozen", "finetuned", "scratch", "native"]
LabelShare = Annotated[float, Field(gt=0, le=1, strict=True)]


class Runtime(Strict):
    """On what a program runs; nothing that it computes follows from it."""

    device: str = "auto"
    threads: Whole = 0  # 0: as many as torch takes by itself
    prefetch: Whole = 2  # samples made ahead in a thread
    # Between two states to resume from, or so many more that writing them takes a twentieth of the
    # time; 0: after each step.
    checkpoint_seconds: Weight = 20.0


class TaskSpec(Strict):
    """One thing to predict, as the data set's YAML names it."""

    name: str
    kind: Literal["classification", "regression", "ranking"] = "classification"
    metric: str = "auc"
    exclude_history: StrictBool = False  # ranking: items of the history do not compete
    candidates: StrictBool = (
        False  # ranking: of the rows of lists that were shown, not of all items
    )
    numbers: tuple[str, ...] = ()  # what is known of a candidate


class TrainIO(Strict):
    """Files of a pre-training."""

    sequences: Path  # the pointer sequences/<as_of>.json
    out: Path  # the checkpoint folder
    labels: Path | None = None  # of the task that stops training early


class TrainJob(Strict):
    """One pre-training."""

    recipe: Recipe
    seed: Whole = 0
    io: TrainIO
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _labels_stop_early(self) -> "TrainJob":
        if self.recipe.judged_by and self.io.labels is None:
            raise ValueError("recipe.validation stops early by labels: give io.labels")
        return self


def training_identity(
    recipe: Recipe, seed: int, data_fingerprint: str, labels_fingerprint: str = ""
) -> str:
    """Key of a trained model: hash of all that its weights follow from.

    Args:
      recipe: resolved, so that a changed default is another model.
      seed: of the weights before training, of batches and of dropout.
      data_fingerprint: of the sequences.
      labels_fingerprint: of the labels of `recipe.judged_by`; without it no part of the key.
    """
    parts = {
        "recipe": recipe.identity(),
        "seed": seed,
        "data_fingerprint": data_fingerprint,
        "labels_fingerprint": labels_fingerprint if recipe.judged_by else "",
    }
    return hash_json(parts)


class Finetuning(Strict):
    """How task models are trained."""

    epochs: Count = 8
    patience: Count = 2  # epochs without a better validation loss
    batch_size: Count = 64
    finetune_lr: Weight = 2e-3
    scratch_lr: Weight = 2e-3
    weight_decay: Weight = 0.01
    # With head features: under which protocols heads see them beside the embedding as well.
    feature_protocols: tuple[Literal["frozen", "finetuned", "scratch"], ...] = ("frozen",)


class Measured(Strict):
    """What every program that reads labels measures."""

    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    label_shares: Annotated[tuple[LabelShare, ...], Field(min_length=1)] = (1.0,)
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0,)
    trees: Count = 200  # of gradient boosting, at most

    @property
    def runs(self) -> list[tuple[float, int]]:
        """Label share and seed of each run of a task."""
        return [(share, seed) for share in sorted(self.label_shares) for seed in self.seeds]

    @property
    def first_run(self) -> tuple[float, int]:
        """Label share and seed of the run whose models are kept: most labels, first seed."""
        return max(self.label_shares), self.seeds[0]


def task_identity(
    trained: str,
    task: TaskSpec,
    how: dict[str, Any],
    run: tuple[float, int],
    data_fingerprint: str,
    labels_fingerprint: str,
) -> str:
    """Key of a task's model: hash of all that its weights follow from.

    Args:
      trained: identity of the checkpoint that it starts from.
      task: what it predicts.
      how: it is trained: the settings of `finetuning`, or of a `profile` and what it reads.
      run: label share and seed.
      data_fingerprint: of the sequences.
      labels_fingerprint: of the task's labels.
    """
    parts = {"trained": trained, "task": task.model_dump(), "run": run} | how
    return hash_json(parts | {"data": data_fingerprint, "labels": labels_fingerprint})


class LabeledIO(Strict):
    """Files of every program that reads labels."""

    sequences: Path
    labels: Path
    head_features: Path | None = None  # head_features/<as_of>.parquet
    out: Path  # METRICS rows, as Parquet
    predictions: Path | None = None  # of whom what was predicted


class Evaluation(Measured):
    """Measures a checkpoint on tasks."""

    protocols: tuple[Protocol, ...] = ("frozen", "finetuned")
    finetuning: Finetuning = Finetuning()


class EvaluationIO(LabeledIO):
    """Files of an evaluation."""

    checkpoint: Path
    models: Path | None = None  # task models go here, by protocol and task a folder each
    vectors: Path | None = None  # vectors and labels of test users go here, a file a task


class EvaluationJob(Strict):
    """One checkpoint against tasks."""

    evaluation: Evaluation
    io: EvaluationIO
    runtime: Runtime = Runtime()


class Baselines(Measured):
    """What a practitioner would try first."""

    lsa_dim: Annotated[int, Field(ge=2, strict=True)] = 64


class BaselinesJob(Strict):
    """Baselines against tasks."""

    evaluation: Baselines
    io: LabeledIO
    runtime: Runtime = Runtime()


class EmbedDay(Strict):
    """The end of one day: whose vectors are made of which sequences, and where they go."""

    event_timestamp: str  # as-of of the input, ISO 8601 in UTC
    created: str  # when it would have been known
    notes: dict[str, str] = Field(default_factory=dict)  # for the footer of the file
    sequences: Path
    features: Path | None = None  # behavior features of its users, for models that read some
    out: Path  # a Parquet file, to be added to what is published of the day
    # A folder of this day's work and no other's, where a later process finds what a killed one has
    # finished. None: nothing is kept.
    shards: Path | None = None


class EmbedModel(Strict):
    """A model version, and the days that it embeds."""

    model_version: str = Field(pattern=r"^\w[\w.-]*$")  # it becomes a folder
    checkpoint: Path
    days: list[EmbedDay] = Field(min_length=1)


class EmbedJob(Strict):
    """One vector a user, day and model version, as of the instants at which the sequences end."""

    models: list[EmbedModel] = Field(min_length=1)
    runtime: Runtime = Runtime()


def load_job(kind: type[JobT], path: Path) -> JobT:
    """Reads a job from a JSON file.

    Raises:
      FootpathError: the file cannot be read, or a field is unknown, missing or wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FootpathError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise FootpathError(f"{path} is not valid JSON: {error}") from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise FootpathError(sentences(error, str(path))) from None
