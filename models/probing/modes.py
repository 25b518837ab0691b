"""Heads for classes and numbers: frozen probe, fine-tuned, and the same encoder from scratch.

Comes in: a task, what its heads see (`Inputs`), a label share and a seed. Goes out: METRICS rows.
"""

import copy
import datetime as dt
import time
from dataclasses import dataclass
from typing import Any

import torch

from contracts.base.hashing import hash_rows
from contracts.recipes.checkpoint import TaskFacts, Validated
from contracts.recipes.jobs import EvaluationJob, Finetuning, task_identity
from models.checkpoint import Checkpoint, save_checkpoint
from models.data.examples import Labeled
from models.data.labels import SPLITS, Task
from models.data.sequences import Sequences, vocabulary_text
from models.metrics.predictions import Predicted, Recorder
from models.metrics.rows import measure, metric_rows
from models.nn.user_model import UserModel
from models.probing.head_inputs import Inputs
from models.probing.heads import FeatureScaler, fit_joint
from models.probing.probe import Linear, Scale, Standardizer, fit_head, task_loss
from models.probing.task_model import TaskModel, finetune_task, scores_of
from models.training.fit import TuneSettings


@dataclass(frozen=True)
class Setting:
    """What every protocol of a program runs with."""

    job: EvaluationJob
    checkpoint: Checkpoint
    sequences: Sequences
    recorder: Recorder


@dataclass(frozen=True)
class Run:
    """One task, input, label share and seed, and the probe that every protocol starts from."""

    task: Task
    inputs: str
    share: float
    seed: int
    splits: dict[str, Labeled]  # the share of the training examples, all of the others
    encoder: UserModel
    scale: Scale
    standardizer: Standardizer
    head: Linear  # over the embedding and, where there are some, the features
    x: dict[str, torch.Tensor]  # standardized embeddings, by split
    features: dict[str, torch.Tensor] | None  # standardized

    def valid_loss(self) -> float:
        """How well the probe does on the validation examples."""
        targets_n = self.scale.targets(self.splits["valid"].y_n)
        return float(task_loss(self.scores("valid"), targets_n))

    def scores(self, split: str) -> torch.Tensor:
        """Scores a split by the probe -> [n, C]."""
        blocks = [self.x[split]] if self.features is None else [self.x[split], self.features[split]]
        return self.head(torch.cat(blocks, dim=1))


def run_heads(setting: Setting, task: Task, inputs: Inputs, share: float, seed: int) -> list[dict]:
    """Measures every protocol of the setting that goes with classes and numbers."""
    run, rows = _prepare(task, inputs, share, seed), []
    start = run
    if inputs.even is not None:
        # What is trained starts from whichever pooling validates better.
        start = min(run, _prepare(task, inputs.even, share, seed), key=Run.valid_loss)
    for protocol in setting.job.evaluation.protocols:
        sees_features = inputs.features is not None
        if protocol == "native" or (
            sees_features and protocol not in setting.job.evaluation.finetuning.feature_protocols
        ):
            continue
        rows += _measure(run if protocol == "frozen" else start, protocol, setting)
    return rows


def common_columns(
    setting: Setting, task: Task, protocol: str, inputs: str, share: float, seed: int
) -> dict:
    """What the METRICS rows of one measurement have in common, but for users and time."""
    return {
        "method": setting.checkpoint.recipe.method.name,
        "encoder": setting.checkpoint.recipe.encoder.name,
        "protocol": protocol,
        "inputs": inputs,
        "task": task.name,
        "label_share": share,
        "seed": seed,
        "model_version": setting.checkpoint.version,
    }


def _prepare(task: Task, inputs: Inputs, share: float, seed: int) -> Run:
    kept = task.share_index(share, seed)
    splits = task.splits | {"train": task.splits["train"].pick(kept)}
    vectors = inputs.x | {"train": inputs.x["train"][torch.from_numpy(kept)]}
    scale = Scale.of(task, splits["train"].y_n)
    standardizer = Standardizer.of(vectors["train"])
    x = {split: standardizer(vectors[split]) for split in SPLITS}
    y = {split: scale.targets(splits[split].y_n) for split in SPLITS}
    features = None
    if inputs.features is None:
        head = fit_head((x["train"], y["train"]), (x["valid"], y["valid"]), len(task.classes))
    else:
        known = inputs.features | {"train": inputs.features["train"][kept]}
        scaler = FeatureScaler.of(known["train"])
        features = {split: scaler(known[split]) for split in SPLITS}
        blocks = [(x[split], features[split], y[split]) for split in ("train", "valid")]
        head = fit_joint(blocks[0], blocks[1], len(task.classes)).linear
    probe = (scale, standardizer, head, x, features)
    return Run(task, inputs.name, share, seed, splits, inputs.encoder, *probe)


def _measure(run: Run, protocol: str, setting: Setting) -> list[dict]:
    begun, model = time.monotonic(), None
    if protocol != "frozen":
        model = _train(run, protocol, setting)
    found = {split: _predict(run, model, setting, split) for split in SPLITS[1:]}
    figures = measure(run.task, found["test"])
    common = common_columns(setting, run.task, protocol, run.inputs, run.share, run.seed) | {
        "train_users": len(run.splits["train"].users_n),
        "test_users": len(run.splits["test"].users_n),
        "seconds": time.monotonic() - begun,
    }
    setting.recorder.add(common, found)
    is_kept = (run.share, run.seed) == setting.job.evaluation.first_run
    if model and is_kept and run.features is None and setting.job.io.models:
        _save(run, model, protocol, setting, figures, found["valid"])
    return metric_rows(common, figures)


def _predict(run: Run, model: TaskModel | None, setting: Setting, split: str) -> Predicted:
    """Predicts a split: by the fitted head where no model was trained."""
    part, features = run.splits[split], run.features[split] if run.features else None
    if model is None:
        scores = run.scores(split)
    else:
        scores = scores_of(model, setting.sequences, part, features)
    kind = "classification" if run.task.is_classification else "regression"
    predicted = run.scale.predictions(scores, run.task.is_classification)
    return Predicted(kind, part.users_n, part.y_n, predicted)


def _train(run: Run, protocol: str, setting: Setting) -> TaskModel:
    model = TaskModel(copy.deepcopy(run.encoder), run.standardizer, run.head)
    targets = {split: run.scale.targets(part.y_n) for split, part in run.splits.items()}
    model.to(next(run.encoder.parameters()).device)
    settings = tune_settings(setting.job.evaluation.finetuning, protocol, run.seed)
    finetune_task(model, setting.sequences, run.splits, targets, settings, run.features)
    return model


def tune_settings(config: Finetuning, protocol: str, seed: int) -> TuneSettings:
    """How an encoder is trained under a protocol."""
    return TuneSettings(
        lr=config.scratch_lr if protocol == "scratch" else config.finetune_lr,
        epochs=config.epochs,
        patience=config.patience,
        batch_size=config.batch_size,
        weight_decay=config.weight_decay,
        seed=seed,
    )


def _save(
    run: Run,
    model: TaskModel,
    protocol: str,
    setting: Setting,
    figures: dict[str, float],
    valid: Predicted,
) -> None:
    """Writes a task model as a checkpoint of its own, which embeds and scores users."""
    finetuning = setting.job.evaluation.finetuning
    how = {"finetuning": finetuning.model_dump()}
    told = {
        "target_center": run.scale.center,
        "target_spread": run.scale.spread,
        "protocol": protocol,
        "finetuning": finetuning,
    }
    save_task_model(setting, run.task, (run.share, run.seed), model.state_dict(), told, how,
                    figures, valid)  # fmt: skip


def save_task_model(
    setting: Setting,
    task: Task,
    run: tuple[float, int],
    weights: dict[str, torch.Tensor],
    told: dict[str, Any],
    how: dict[str, Any],
    figures: dict[str, float],
    valid: Predicted,
) -> None:
    """Writes an encoder and its head as a checkpoint of its own.

    Args:
      setting: of the program.
      task: what the head predicts.
      run: label share and seed.
      weights: of the user model and the head.
      told: fields of TaskFacts that are not of every task model.
      how: it came about, for its identity.
      figures: of the test users.
      valid: what it says of the validation users.
    """
    io, evaluation, facts = setting.job.io, setting.job.evaluation, setting.checkpoint.facts
    assert io.models is not None
    known = TaskFacts(
        spec=next(spec for spec in evaluation.tasks if spec.name == task.name),
        classes=tuple(task.classes),
        validation=Validated(metric=task.metric, value=measure(task, valid)[task.metric]),
        **told,
    )
    data, labels = setting.sequences.pointer["fingerprint"], hash_rows(io.labels, task.name)
    own = {
        "task": known,
        "identity": task_identity(facts.identity, known.spec, how, run, data, labels),
        "train_cutoff": max(facts.train_cutoff, task.label_end, key=dt.datetime.fromisoformat),
        "data_fingerprint": data,
        "labels_fingerprint": labels,
    }
    folder, vocabulary = io.models / known.protocol / task.name, vocabulary_text(setting.sequences)
    save_checkpoint(folder, weights, facts.pretraining | own, figures, vocabulary)
