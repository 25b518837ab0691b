"""Pre-trains an encoder of user behavior without labels.

    python -m models.train CONFIG.json
    python -m models.runtime.launch 2 models.train CONFIG.json    # two ranks, on this machine

CONFIG.json holds the fields of models.runtime.config.TrainConfig, for example
    {"sequences": ".footpath/lake/shop/sequences/2026-02-21.json", "recipe": "ptum_bert4rec",
     "version": "ptum_bert4rec_v1", "out": ".footpath/lake/shop/models/ptum_bert4rec_v1"}

Comes in: training sequences. Goes out: a checkpoint folder. Killed at any moment and run again with
the same file, it goes on where it was; finished, it does nothing.
"""

import contextlib
import dataclasses
from typing import Any

import torch

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_rows
from contracts.lake.reading import read_json
from models.checkpoint import is_finished, load_config_of, owned, save_checkpoint
from models.data.sequences import Sequences, open_sequences, vocabulary_text
from models.nn.behavior import attach_text
from models.nn.encoders import ENCODERS
from models.nn.text import Options as TextOptions
from models.nn.user_model import ModelConfig, UserModel, build_model
from models.objectives import OBJECTIVES, Objective, build_objective
from models.probing.early_stopping import ValidationProbe
from models.runtime.config import TrainConfig, parse, plain
from models.runtime.device import prepare
from models.runtime.distributed import rank, size
from models.runtime.report import Reporter, run_program
from models.training.resume import NOT_IDENTITY
from models.training.trainer import Trainer


def train(config: TrainConfig, reporter: Reporter) -> dict[str, Any]:
    """Trains one model version and returns its figures."""
    device = prepare(config.device, config.threads)
    sequences = open_sequences(config.sequences)
    is_first = rank() == 0
    with owned(config.out) if is_first else contextlib.nullcontext():
        model, objective = build(config, sequences)
        described = describe(config, sequences, model, objective)
        if is_finished(config.out):
            return finished_before(config, described)
        model.to(device)
        objective.to(device)
        curves, metrics = None, {}
        if objective.trains:
            judge = judge_of(config, sequences)
            trainer = Trainer(config, sequences, model, objective, judge)
            history = trainer.fit(reporter)
            curves = history.curves(trainer.per_epoch)
            metrics = history.summary(trainer.per_epoch)
        metrics |= {"users": sequences.users, "events": len(sequences.item), "ranks": size()}
        if is_first:
            vocabulary = vocabulary_text(sequences)
            save_checkpoint(config.out, model, described, metrics, vocabulary, curves)
    return {"version": config.version, "checkpoint": str(config.out), **metrics}


def build(config: TrainConfig, sequences: Sequences) -> tuple[UserModel, Objective]:
    """Builds the model and the objective with the fresh weights of the seed."""
    torch.manual_seed(config.seed)
    model = build_model(
        ModelConfig(
            config.encoder,
            config.dim,
            config.max_length,
            config.fields,
            config.encoder_options,
            sequences.sizes,
            config.text,
        )
    )
    objective = build_objective(config.method, model.config, config.objective)
    attach_text(model, sequences)
    attach_text(objective, sequences)
    return model, objective


def judge_of(config: TrainConfig, sequences: Sequences) -> ValidationProbe | None:
    """Builds what stops training early, where the configuration names a task for it."""
    if config.validation is None:
        return None
    return ValidationProbe(config.validation, sequences.with_clock("age" in config.fields))


def describe(
    config: TrainConfig, sequences: Sequences, model: UserModel, objective: Objective
) -> dict[str, Any]:
    """Returns what the checkpoint's config.json says."""
    found = plain(config)
    if config.validation and objective.trains:
        labels = hash_rows(config.validation.labels, config.validation.task)
        found["validation"]["fingerprint"] = labels
    return found | {
        "encoder_options": model.config.encoder_options,
        "text": model.config.text,
        "objective": plain(objective.options),
        "sizes": sequences.sizes,
        "train_cutoff": sequences.pointer["train_cutoff"],
        "vocabulary_hash": sequences.pointer["vocabulary_hash"],
        "data_fingerprint": sequences.pointer["fingerprint"],
    }


_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(TrainConfig)
    if field.default is not dataclasses.MISSING
}


# Options whose defaults are not what was done before there were such options.
_BEFORE = {
    "ubm": {"pair_weight": 0.0, "follow_weight": 0.0, "session_weight": 1.0, "read_hide": 0.0},
    "barlow": {"memory_users": 0},
}
_TEXT_BEFORE = {"sampled": 0}


def _as_today(config: TrainConfig, found: dict[str, Any]) -> dict[str, Any]:
    """Adds fields and options from after a model was finished, with what was done then."""
    found = _DEFAULTS | {"text": {}} | found
    found["objective"] = _BEFORE.get(found["method"], {}) | found["objective"]
    found["text"] = _TEXT_BEFORE | found["text"] if found["text"] else {}
    if (found["method"], found["encoder"]) != (config.method, config.encoder):
        return found  # its options are others
    kinds = {
        "objective": OBJECTIVES[config.method].options_class,
        "encoder_options": ENCODERS[config.encoder].options_class,
    } | ({"text": TextOptions} if found["text"] else {})
    return found | {
        name: plain(parse(kind, found[name], f"{config.out}: {name}"))
        for name, kind in kinds.items()
    }


def finished_before(config: TrainConfig, described: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of a version that was finished earlier.

    Raises:
      FootpathError: the folder holds another model.
    """
    found = _as_today(config, load_config_of(config.out))
    for name in sorted(described.keys() - NOT_IDENTITY):
        if _without_path(found.get(name)) != _without_path(described[name]):
            raise FootpathError(
                f"{config.out} holds a finished model whose {name} is {found.get(name)}, "
                f"and {described[name]} is asked for: choose another version"
            )
    metrics = read_json(config.out / "metrics.json")
    return {"version": config.version, "checkpoint": str(config.out), **metrics}


def _without_path(value: Any) -> Any:
    """Leaves out of `validation` where its labels lie: the folder may have moved."""
    return {k: v for k, v in value.items() if k != "labels"} if isinstance(value, dict) else value


if __name__ == "__main__":
    run_program(TrainConfig, train, ranks=True)
