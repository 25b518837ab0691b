"""Jobs out of flat settings, and small models that are trained by them."""

from pathlib import Path
from typing import Any

from contracts.base.schema import Strict
from contracts.recipes.jobs import (
    Baselines,
    BaselinesJob,
    EmbedDay,
    EmbedJob,
    Evaluation,
    EvaluationIO,
    EvaluationJob,
    Finetuning,
    LabeledIO,
    Runtime,
    TrainIO,
    TrainJob,
)
from contracts.recipes.recipe import Recipe
from models.runtime.report import Reporter
from models.train import train


def train_job(settings: dict[str, Any]) -> TrainJob:
    """A pre-training: fields of the recipe, of io and of the runtime beside each other.

    `recipe` is the recipe's name, and `validation` may name its labels.
    """
    io, runtime, rest = _dealt(settings, TrainIO, Runtime)
    name, seed = rest.pop("recipe"), rest.pop("seed", 0)
    rest.setdefault("validation", None)  # all users are trained on
    if rest.get("validation"):
        rest["validation"] = dict(rest["validation"])
        io["labels"] = rest["validation"].pop("labels")
    return TrainJob.model_validate(
        {"recipe": Recipe.named(name, rest), "seed": seed, "io": io, "runtime": runtime}
    )


def evaluation_job(settings: dict[str, Any]) -> EvaluationJob:
    """An evaluation: fields of all its sections beside each other."""
    io, runtime, tuned, rest = _dealt(settings, EvaluationIO, Runtime, Finetuning)
    evaluation = Evaluation.model_validate(rest | {"finetuning": tuned})
    return EvaluationJob.model_validate({"evaluation": evaluation, "io": io, "runtime": runtime})


def baselines_job(settings: dict[str, Any]) -> BaselinesJob:
    """Baselines: fields of all sections beside each other."""
    io, runtime, rest = _dealt(settings, LabeledIO, Runtime)
    evaluation = Baselines.model_validate(rest)
    return BaselinesJob.model_validate({"evaluation": evaluation, "io": io, "runtime": runtime})


def embed_job(settings: dict[str, Any]) -> EmbedJob:
    """An embedding: fields of all sections beside each other."""
    day, runtime, rest = _dealt(settings, EmbedDay, Runtime)
    return EmbedJob.model_validate({"models": [rest | {"days": [day]}], "runtime": runtime})


def write_job(job: Strict, path: Path) -> Path:
    """Writes a job as the programs read it."""
    path.write_text(job.model_dump_json())
    return path


def training(sequences: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a small pre-training on one thread of a CPU."""
    common = {"sequences": str(sequences), "out": str(out), "recipe": "ptum_bag", "dim": 16}
    common |= {"max_length": 20, "epochs": 4, "batch_size": 16, "threads": 1, "device": "cpu"}
    return common | changes


def pretrain(sequences: Path, out: Path, recipe: str, **changes: Any) -> Path:
    """Pre-trains a small model, and returns its folder."""
    train(train_job(training(sequences, out, recipe=recipe, **changes)), Reporter())
    return out


def _dealt(settings: dict[str, Any], *sections: type[Strict]) -> list[dict[str, Any]]:
    """Deals settings to sections by the names of their fields; the last part is the rest."""
    rest = dict(settings)
    parts = [
        {name: rest.pop(name) for name in section.model_fields if name in rest}
        for section in sections
    ]
    return [*parts, rest]
