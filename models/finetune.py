"""Measures a checkpoint on tasks: frozen probe, fine-tuned, and the same encoder from scratch.

    python -m models.finetune JOB.json

JOB.json holds a contracts.recipes.jobs.EvaluationJob, for example
    {"evaluation": {"tasks": [{"name": "gender", "kind": "classification", "metric": "auc"}],
                    "label_shares": [0.2, 1.0]},
     "io": {"sequences": ".footpath/lake/shop/sequences/2026-02-21.json",
            "labels": ".footpath/lake/shop/labels/2026-02-21.parquet",
            "checkpoint": ".footpath/lake/shop/models/ptum_bert4rec_v1",
            "out": ".footpath/lake/shop/metrics/ptum_bert4rec_v1.parquet"}}

Comes in: a checkpoint, sequences, labels. Goes out: METRICS rows, and a task model a task.
"""

from collections.abc import Callable
from typing import Any

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.recipes.jobs import EvaluationJob
from models.checkpoint import Checkpoint, load_checkpoint
from models.data.labels import Model, Task, load_tasks
from models.data.sequences import open_sequences, same_vocabulary
from models.metrics.predictions import Recorder, keep_vectors
from models.metrics.rows import headline, metrics_table
from models.nn.behavior import attach_text
from models.probing.bags import ItemBags
from models.probing.folds import SAMPLE
from models.probing.head_inputs import Inputs, embeddings
from models.probing.heads import HeadFeatures, load_head_features
from models.probing.modes import Setting, run_heads
from models.probing.profile import run_profile
from models.ranking.candidates import run_lists
from models.ranking.next_item_ranking import run_ranking
from models.runtime.device import prepare
from models.runtime.report import Reporter, run_program


def finetune(job: EvaluationJob, reporter: Reporter) -> dict[str, Any]:
    """Runs every protocol on every task, share and seed, and returns the headline figures."""
    device, io, evaluation = (
        prepare(job.runtime.device, job.runtime.threads),
        job.io,
        job.evaluation,
    )
    sequences = open_sequences(io.sequences)
    checkpoint = load_checkpoint(io.checkpoint)
    same_vocabulary(sequences, checkpoint.facts.vocabulary_hash, io.checkpoint)
    _check_protocols(evaluation.protocols, checkpoint)
    sequences = checkpoint.model.config.reading(sequences)
    attach_text(checkpoint.model, sequences)
    checkpoint.model.to(device)
    seen = Model(checkpoint.facts.train_cutoff, checkpoint.facts.data_fingerprint)
    tasks = load_tasks(io.labels, sequences, evaluation.tasks, seen)
    known = load_head_features(io.head_features, sequences) if io.head_features else None
    setting = Setting(job, checkpoint, sequences, Recorder(io.predictions))
    rows, done, planned = [], 0, len(tasks) * len(evaluation.runs)
    for task in tasks:
        if task.left_out:
            reporter.say(f"{task.name}: {task.left_out} examples have no event before their as-of")
        # Pre-training saw what came after earlier days: vectors of those days know too much.
        now = task.newest()
        kinds, items = _inputs_of(setting, now, known), None
        if "frozen" in evaluation.protocols and not task.is_ranking:
            items = ItemBags.of(sequences, task)
            if len(task.splits["train"].y_n) > SAMPLE:
                reporter.say(f"{task.name}: trees and folds of profiles on {SAMPLE:,} examples")
        if io.vectors:
            keep_vectors(io.vectors / f"{task.name}.parquet", kinds[0].x["test"], task)
        for share, seed in evaluation.runs:
            for inputs in kinds:
                rows += _run_of(now)(setting, now, inputs, share, seed)
            if items:
                rows += run_profile(setting, task, kinds[-1], known, items, share, seed)
            done += 1
            reporter.progress(done, planned, task=task.name, label_share=share)
    setting.recorder.publish()
    publish_table(Lake(io.out.parent), metrics_table(rows), io.out)
    return {"metrics": str(io.out), "rows": len(rows), **headline(rows, tasks)}


def _run_of(task: Task) -> Callable[[Setting, Task, Inputs, float, int], list[dict]]:
    if task.lists:
        return run_lists
    return run_ranking if task.is_ranking else run_heads


def _inputs_of(setting: Setting, task: Task, known: HeadFeatures | None) -> list[Inputs]:
    """What heads are fitted on, each by itself: a matrix of the examples of each split."""
    trains = not task.is_ranking and not {"finetuned", "scratch"}.isdisjoint(
        setting.job.evaluation.protocols
    )
    alone = embeddings(setting.checkpoint.model, setting.sequences, task, with_even=trains)
    adds = known is not None and not task.is_ranking
    return [alone, alone.with_features(known, task)] if adds else [alone]


def _check_protocols(protocols: tuple[str, ...], checkpoint: Checkpoint) -> None:
    method = checkpoint.recipe.method
    wrong = "scratch" if method.trains else "finetuned"
    if wrong in protocols:
        raise FootpathError(
            f"protocol '{wrong}' does not go with {checkpoint.folder}, whose method is "
            f"'{method.name}': 'scratch' is for 'none', 'finetuned' for all others"
        )


if __name__ == "__main__":
    run_program(EvaluationJob, finetune)
