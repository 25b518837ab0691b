"""Pre-trains an encoder of user behavior without labels.

    python -m models.train JOB.json
    python -m models.runtime.launch 2 models.train JOB.json    # two ranks, on this machine

JOB.json holds a contracts.recipes.jobs.TrainJob, for example
    {"recipe": {"method": "ptum", "encoder": "bert4rec", "epochs": 10}, "seed": 0,
     "io": {"sequences": ".footpath/lake/shop/sequences/2026-02-21.json",
            "out": ".footpath/lake/shop/models/ptum_bert4rec_v1"}}

Comes in: training sequences. Goes out: a checkpoint folder. Killed at any moment and run again with
the same file, it goes on where it was; finished, it does nothing.
"""

import contextlib
from typing import Any

import numpy as np
import torch

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_rows
from contracts.lake.reading import read_json
from contracts.recipes.checkpoint import load_facts
from contracts.recipes.jobs import TrainJob, training_identity
from models.checkpoint import is_finished, owned, save_checkpoint
from models.data.sequences import Sequences, open_sequences, vocabulary_text
from models.nn.behavior import attach_text
from models.nn.user_model import ModelConfig, UserModel, build_model
from models.objectives import OBJECTIVES, Objective
from models.probing.early_stopping import ValidationProbe
from models.runtime.device import prepare
from models.runtime.distributed import rank, size
from models.runtime.report import Reporter, run_program
from models.training.trainer import Trainer

MEASURED = 5000  # users whose summaries are measured


def train(job: TrainJob, reporter: Reporter) -> dict[str, Any]:
    """Trains one model version and returns its figures."""
    device, out = prepare(job.runtime.device, job.runtime.threads), job.io.out
    sequences = open_sequences(job.io.sequences)
    is_first = rank() == 0
    with owned(out) if is_first else contextlib.nullcontext():
        facts = facts_of(job, sequences)
        if is_finished(out):
            return finished_before(job, facts)
        model, objective = build(job, sequences)
        model.to(device)
        objective.to(device)
        curves, metrics = None, {}
        if job.recipe.method.trains:
            trainer = Trainer(job, sequences, model, objective, judge_of(job, sequences, model))
            history = trainer.fit(reporter)
            curves = history.curves(trainer.per_epoch)
            metrics = history.summary(trainer.per_epoch)
        metrics |= {"users": sequences.users, "events": len(sequences.item), "ranks": size()}
        if is_first:
            words = vocabulary_text(sequences)
            save_checkpoint(out, model.state_dict(), facts, metrics, words, curves)
    return {"version": out.name, "checkpoint": str(out), **metrics}


def build(job: TrainJob, sequences: Sequences) -> tuple[UserModel, Objective]:
    """Builds the model and the objective with the fresh weights of the seed."""
    torch.manual_seed(job.seed)
    model = build_model(ModelConfig.of(job.recipe, sequences.sizes))
    objective = OBJECTIVES[job.recipe.method.name](model.config, job.recipe.method)
    attach_text(model, sequences)
    attach_text(objective, sequences)
    objective.prepare(sequences)
    if model.summary:
        model.summary.measure(_summaries(sequences))
    return model, objective


def _summaries(sequences: Sequences) -> np.ndarray:
    """Summaries of some users as of the cutoff, to scale all others by."""
    users = np.flatnonzero(sequences.lengths)
    users = users[:: max(1, len(users) // MEASURED)]
    nothing = np.zeros(len(users), np.int64)
    now = np.full(len(users), sequences.cutoff)
    return sequences.summaries(users, nothing, sequences.lengths[users], now)


def judge_of(job: TrainJob, sequences: Sequences, model: UserModel) -> ValidationProbe | None:
    """Builds what stops training early, where the recipe names a task for it."""
    if not job.recipe.judged_by:
        return None
    assert job.recipe.validation is not None
    assert job.io.labels is not None
    reading = model.config.reading(sequences)
    return ValidationProbe(job.recipe.validation, job.io.labels, reading)


def facts_of(job: TrainJob, sequences: Sequences) -> dict[str, Any]:
    """What is known of the checkpoint before its training: fields of CheckpointFacts."""
    recipe, pointer, labels = job.recipe, sequences.pointer, ""
    if recipe.judged_by:
        assert job.io.labels is not None
        labels = hash_rows(job.io.labels, recipe.judged_by)
    return {
        "recipe": recipe,
        "seed": job.seed,
        "sizes": sequences.sizes,
        "train_cutoff": pointer["train_cutoff"],
        "vocabulary_hash": pointer["vocabulary_hash"],
        "data_fingerprint": pointer["fingerprint"],
        "labels_fingerprint": labels,
        "identity": training_identity(recipe, job.seed, pointer["fingerprint"], labels),
    }


def finished_before(job: TrainJob, asked: dict[str, Any]) -> dict[str, Any]:
    """The figures of a version that was finished earlier.

    Raises:
      FootpathError: the folder holds another model.
    """
    found = load_facts(job.io.out)
    if found.identity != asked["identity"]:
        there, wanted = ({**f["recipe"].identity(), **f} for f in (dict(found), asked))
        differing = (n for n in wanted if n != "recipe" and there.get(n) != wanted[n])
        name = next(differing)
        raise FootpathError(
            f"{job.io.out} holds a finished model whose {name} is {there.get(name)}, "
            f"and {wanted[name]} is asked for: choose another version"
        )
    metrics = read_json(job.io.out / "metrics.json")
    return {"version": job.io.out.name, "checkpoint": str(job.io.out), **metrics}


if __name__ == "__main__":
    run_program(TrainJob, train, ranks=True)
