"""Jobs and models out of flat settings, as the tests of this room write them."""

from pathlib import Path
from typing import Any

from contracts.base.schema import Strict
from contracts.recipes.jobs import (
    Baselines,
    BaselinesJob,
    EmbedIO,
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
from contracts.recipes.methods import METHODS
from contracts.recipes.recipe import Recipe
from models.nn.user_model import ModelConfig
from models.objectives import OBJECTIVES, Objective


def train_job(settings: dict[str, Any]) -> TrainJob:
    """A pre-training: fields of the recipe, of io and of the runtime beside each other.

    `recipe` is the recipe's name, and `validation` may name its labels.
    """
    io, runtime, rest = _dealt(settings, TrainIO, Runtime)
    name, seed = rest.pop("recipe"), rest.pop("seed", 0)
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
    io, runtime, rest = _dealt(settings, EmbedIO, Runtime)
    return EmbedJob.model_validate(rest | {"io": io, "runtime": runtime})


def write_job(job: Strict, path: Path) -> Path:
    """Writes a job as the programs read it."""
    path.write_text(job.model_dump_json())
    return path


def model_config(
    encoder: str,
    dim: int,
    max_length: int,
    fields: Any,
    options: dict[str, Any],
    sizes: dict[str, int],
    text: dict[str, Any] | None = None,
) -> ModelConfig:
    """The shape of a recipe's model; the method plays no part in it."""
    settings = {"method": "none", "encoder": {"name": encoder} | options, "dim": dim}
    settings |= {"max_length": max_length, "fields": fields, "text": text or None}
    return ModelConfig.of(Recipe.model_validate(settings), sizes)


def build_objective(method: str, model: ModelConfig, options: dict[str, Any]) -> Objective:
    """An objective of a pair that can be."""
    chosen = METHODS[method].model_validate({"name": method} | options)
    chosen.check(model.encoder, model.fields)
    return OBJECTIVES[method](model, chosen)


def _dealt(settings: dict[str, Any], *sections: type[Strict]) -> list[dict[str, Any]]:
    """Deals settings to sections by the names of their fields; the last part is the rest."""
    rest = dict(settings)
    parts = [
        {name: rest.pop(name) for name in section.model_fields if name in rest}
        for section in sections
    ]
    return [*parts, rest]
