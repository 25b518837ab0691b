"""Measures a checkpoint on tasks: frozen probe, fine-tuned, and the same encoder from scratch.

    python -m models.finetune CONFIG.json

CONFIG.json holds the fields of models.runtime.config.FinetuneConfig, for example
    {"sequences": ".footpath/lake/shop/sequences/2026-02-21.json",
     "labels": ".footpath/lake/shop/labels/2026-02-21.parquet",
     "checkpoint": ".footpath/lake/shop/models/ptum_bert4rec_v1",
     "out": ".footpath/lake/shop/metrics/ptum_bert4rec_v1.parquet",
     "tasks": [{"name": "gender", "kind": "classification", "metric": "auc"}],
     "label_shares": [0.2, 1.0]}

Comes in: a checkpoint, sequences, labels. Goes out: METRICS rows, and a task model a task.
"""

from collections.abc import Callable
from typing import Any

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from models.checkpoint import Checkpoint, load_checkpoint
from models.data.labels import Model, Task, load_tasks
from models.data.sequences import open_sequences, same_vocabulary
from models.metrics.predictions import Recorder, keep_vectors
from models.metrics.rows import headline, metrics_table
from models.nn.behavior import attach_text
from models.objectives import OBJECTIVES
from models.probing.head_inputs import Inputs, embeddings
from models.probing.heads import HeadFeatures, load_head_features
from models.probing.modes import Setting, run_heads
from models.ranking.candidates import run_lists
from models.ranking.next_item_ranking import run_ranking
from models.runtime.config import FinetuneConfig
from models.runtime.device import prepare
from models.runtime.report import Reporter, run_program


def finetune(config: FinetuneConfig, reporter: Reporter) -> dict[str, Any]:
    """Runs every protocol on every task, share and seed, and returns the headline figures."""
    device = prepare(config.device, config.threads)
    sequences = open_sequences(config.sequences)
    checkpoint = load_checkpoint(config.checkpoint)
    same_vocabulary(sequences, checkpoint.config["vocabulary_hash"], config.checkpoint)
    _check_protocols(config, checkpoint)
    sequences = sequences.with_clock("age" in checkpoint.model.config.fields)
    attach_text(checkpoint.model, sequences)
    checkpoint.model.to(device)
    seen = Model(checkpoint.config["train_cutoff"], checkpoint.config["data_fingerprint"])
    tasks = load_tasks(config.labels, sequences, config.tasks, seen)
    known = load_head_features(config.head_features, sequences) if config.head_features else None
    setting = Setting(config, checkpoint, sequences, Recorder(config.predictions))
    shares, seeds = sorted(config.label_shares), config.seed_range
    rows, done, planned = [], 0, len(tasks) * len(shares) * len(seeds)
    for task in tasks:
        if task.left_out:
            reporter.say(f"{task.name}: {task.left_out} examples have no event before their as-of")
        kinds = _inputs_of(setting, task, known)
        if config.vectors:
            keep_vectors(config.vectors / f"{task.name}.parquet", kinds[0].x["test"], task)
        for share, seed in [(share, seed) for share in shares for seed in seeds]:
            for inputs in kinds:
                rows += _run_of(task)(setting, task, inputs, share, seed)
            done += 1
            reporter.progress(done, planned, task=task.name, label_share=share)
    setting.recorder.publish()
    publish_table(Lake(config.out.parent), metrics_table(rows), config.out)
    return {"metrics": str(config.out), "rows": len(rows), **headline(rows, tasks)}


def _run_of(task: Task) -> Callable[[Setting, Task, Inputs, float, int], list[dict]]:
    if task.lists:
        return run_lists
    return run_ranking if task.is_ranking else run_heads


def _inputs_of(setting: Setting, task: Task, known: HeadFeatures | None) -> list[Inputs]:
    """Returns what heads are fitted on, each by itself: a matrix of the examples of each split."""
    trains = not task.is_ranking and not {"finetuned", "scratch"}.isdisjoint(
        setting.config.protocols
    )
    alone = embeddings(setting.checkpoint.model, setting.sequences, task, with_even=trains)
    adds = known is not None and not task.is_ranking
    return [alone, alone.with_features(known, task)] if adds else [alone]


def _check_protocols(config: FinetuneConfig, checkpoint: Checkpoint) -> None:
    trains = OBJECTIVES[checkpoint.config["method"]].trains
    wrong = "scratch" if trains else "finetuned"
    if wrong in config.protocols:
        raise FootpathError(
            f"protocol '{wrong}' does not go with {checkpoint.folder}, whose method is "
            f"'{checkpoint.config['method']}': 'scratch' is for 'none', 'finetuned' for all others"
        )


if __name__ == "__main__":
    run_program(FinetuneConfig, finetune)
