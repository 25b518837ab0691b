"""Measures a checkpoint on tasks: frozen probe, fine-tuned, and the same encoder from scratch.

    python -m models.finetune CONFIG.json

CONFIG.json holds the fields of models.config.FinetuneConfig, for example
    {"sequences": ".footpath/lake/shop/sequences/2026-02-21.json",
     "labels": ".footpath/lake/shop/labels/2026-02-21.parquet",
     "checkpoint": ".footpath/lake/shop/models/ptum_bert4rec_v1",
     "out": ".footpath/lake/shop/metrics/ptum_bert4rec_v1.parquet",
     "tasks": [{"name": "gender", "kind": "classification", "metric": "auc"}],
     "label_shares": [0.2, 1.0]}

Comes in: a checkpoint, sequences, labels. Goes out: METRICS rows, and a task model a task.
"""

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from contracts.errors import FootpathError
from contracts.lake import Lake, publish_table
from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.config import FinetuneConfig, plain
from models.data import Sequences, open_sequences, same_vocabulary
from models.device import prepare
from models.evaluation import headline, measure, metrics_table
from models.probe import Linear, Scale, Standardizer, fit_head
from models.report import Reporter, run_program
from models.task_model import TaskModel, TuneSettings, finetune_task, scores_of
from models.tasks import SPLITS, Labelled, Task, load_tasks
from models.vectors import user_vectors


@dataclass(frozen=True)
class Run:
    """One task, label share and seed, and the probe that every protocol starts from."""

    task: Task
    share: float
    seed: int
    splits: dict[str, Labelled]  # the share of the training users, all of the others
    scale: Scale
    standardizer: Standardizer
    head: Linear
    x_test: Tensor  # standardised


def finetune(config: FinetuneConfig, reporter: Reporter) -> dict[str, Any]:
    """Runs every protocol on every task, share and seed, and returns the headline figures."""
    device = prepare(config.device, config.threads)
    sequences = open_sequences(config.sequences)
    checkpoint = load_checkpoint(config.checkpoint)
    same_vocabulary(sequences, checkpoint.config["vocabulary_hash"], config.checkpoint)
    _check_protocols(config, checkpoint)
    checkpoint.model.to(device)
    tasks = load_tasks(config.labels, sequences, config.tasks, checkpoint.config["train_cutoff"])
    shares, seeds = sorted(config.label_shares), range(config.seeds)
    rows, done, planned = [], 0, len(tasks) * len(shares) * len(seeds)
    for task in tasks:
        vectors = {
            split: user_vectors(checkpoint.model, sequences, labelled.users_n)
            for split, labelled in task.splits.items()
        }
        for share, seed in [(share, seed) for share in shares for seed in seeds]:
            run = _prepare(task, vectors, share, seed)
            rows += _measure(run, config, checkpoint, sequences)
            done += 1
            reporter.progress(done, planned, task=task.name, label_share=share)
    publish_table(Lake(config.out.parent), metrics_table(rows), config.out)
    return {"metrics": str(config.out), "rows": len(rows), **headline(rows, tasks)}


def _check_protocols(config: FinetuneConfig, checkpoint: Checkpoint) -> None:
    is_random = checkpoint.config["method"] == "none"
    wrong = "finetuned" if is_random else "scratch"
    if wrong in config.protocols:
        raise FootpathError(
            f"protocol '{wrong}' does not go with {checkpoint.folder}, whose method is "
            f"'{checkpoint.config['method']}': 'scratch' is for 'none', 'finetuned' for all others"
        )


def _prepare(task: Task, vectors: dict[str, Tensor], share: float, seed: int) -> Run:
    train = task.train_share(share, seed)
    splits = task.splits | {"train": train}
    kept = torch.isin(
        torch.from_numpy(task.splits["train"].users_n), torch.from_numpy(train.users_n)
    )
    scale = Scale.of(task, train.y_n)
    standardizer = Standardizer.of(vectors["train"][kept])
    x = {"train": standardizer(vectors["train"][kept])}
    x |= {split: standardizer(vectors[split]) for split in SPLITS[1:]}
    y = {split: scale.targets(splits[split].y_n) for split in SPLITS}
    head = fit_head((x["train"], y["train"]), (x["valid"], y["valid"]), len(task.classes))
    return Run(task, share, seed, splits, scale, standardizer, head, x["test"])


def _measure(
    run: Run, config: FinetuneConfig, checkpoint: Checkpoint, sequences: Sequences
) -> list[dict]:
    rows = []
    is_kept = run.seed == 0 and run.share == max(config.label_shares)
    for protocol in config.protocols:
        begun, model = time.monotonic(), None
        if protocol == "frozen":
            scores = run.head(run.x_test)
        else:
            model = _train(run, protocol, config, checkpoint, sequences)
            scores = scores_of(model, sequences, run.splits["test"].users_n)
        predicted = run.scale.predictions(run.task, scores)
        figures = measure(run.task, run.splits["test"].y_n, predicted)
        common = {
            "method": checkpoint.config["method"],
            "encoder": checkpoint.config["encoder"],
            "protocol": protocol,
            "task": run.task.name,
            "label_share": run.share,
            "seed": run.seed,
            "train_users": len(run.splits["train"].users_n),
            "test_users": len(run.splits["test"].users_n),
            "seconds": time.monotonic() - begun,
            "model_version": checkpoint.config["version"],
        }
        rows += [{**common, "metric": name, "value": value} for name, value in figures.items()]
        if model and is_kept and config.model_out:
            _save(run, model, protocol, config, checkpoint, figures)
    return rows


def _train(
    run: Run, protocol: str, config: FinetuneConfig, checkpoint: Checkpoint, sequences: Sequences
) -> TaskModel:
    model = TaskModel(copy.deepcopy(checkpoint.model), run.standardizer, run.head)
    settings = TuneSettings(
        lr=config.scratch_lr if protocol == "scratch" else config.finetune_lr,
        epochs=config.epochs,
        patience=config.patience,
        batch_size=config.batch_size,
        weight_decay=config.weight_decay,
        seed=run.seed,
    )
    users = {split: labelled.users_n for split, labelled in run.splits.items()}
    targets = {split: run.scale.targets(part.y_n) for split, part in run.splits.items()}
    model.to(next(checkpoint.model.parameters()).device)
    finetune_task(model, sequences, users, targets, settings)
    return model


def _save(
    run: Run,
    model: TaskModel,
    protocol: str,
    config: FinetuneConfig,
    checkpoint: Checkpoint,
    figures: dict[str, float],
) -> None:
    described = checkpoint.config | {
        "task": run.task.name,
        "task_metric": run.task.metric,
        "classes": run.task.classes,
        "target_centre": run.scale.centre,
        "target_spread": run.scale.spread,
        "protocol": protocol,
        "finetuning": plain(config),
    }
    assert config.model_out is not None
    save_checkpoint(config.model_out / run.task.name, model, described, figures)


if __name__ == "__main__":
    run_program(FinetuneConfig, finetune)
