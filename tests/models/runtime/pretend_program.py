"""What the models do on the CPU and on a GPU that is not there, case by case.

    python -m tests.models.runtime.pretend_program FOLDER [CASE ...]

Leaves FOLDER/found.json: by case what came out on the CPU, and on the GPU or the fault there.

A program of its own: torch asks once a process, at the first gradient, which devices there are.
"""

import itertools
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.recipes.jobs import TrainJob
from models.data.packed import pack, pinned, to_device
from models.data.sequences import open_sequences
from models.embed import embed
from models.finetune import finetune
from models.nn import kernels
from models.nn.attention_map import attention_by_distance
from models.runtime.report import Reporter
from models.train import build, train
from models.training.trainer import Trainer
from tests.builders.jobs import embed_job, evaluation_job, train_job
from tests.builders.sequences import CUTOFF, ITEMS, planted_labels, write_labels, write_sequences
from tests.models.runtime.pretend_gpu import There, WrongDeviceError, pretend_gpu

CPU = torch.device("cpu")
FIELDS = ["item", "action", "category", "gap", "value", "position"]
TEXT, TIMED = [*FIELDS, "text"], [*FIELDS, "age"]
CAUSAL = {"causal": True}
USERS = 40

# Method, encoder and what differs from `config`.
LEARNT = [
    ("ptum", "bert4rec", {}),
    ("ptum", "nativectr", {"fields": TEXT, "text": {"encoder": "cnn"}}),
    ("manymask", "hsa", {"fields": TIMED}),
    ("manymask", "rotary", {"fields": TEXT, "text": {"sampled": 8}}),
    ("masked", "bert4rec", {}),
    ("masked", "rotary", {"method": {"negatives": 3}}),
    ("masked", "han", {"fields": TEXT, "text": {"encoder": "gru", "action": True}}),
    ("next", "gru4rec", {"fields": TEXT, "text": {"sampled": 8}}),
    ("next", "rotary", {"encoder": CAUSAL}),
    ("byb", "hura", {"method": {"events": [3, 5], "days": [0.1]}}),
    ("byb", "bag", {"method": {"loss": "dino"}, "encoder": {"count": True}}),
    ("byb", "han", {"fields": TIMED, "method": {"cut": "time", "events": [], "days": [0.1]}}),
    ("barlow", "gru4rec", {}),
    ("barlow", "bert4rec", {"fields": TIMED, "method": {"memory_users": 0}}),
    ("dual", "bag", {}),
    ("dual", "hsa", {"fields": TEXT, "text": {"encoder": "attention"}}),
    ("msdp", "nativectr", {"method": {"events": [2, 4]}}),
    ("msdp", "rotary", {"fields": TIMED}),
    ("coles", "hura", {"method": {"hide_share": 0.3, "hidden_weight": 1.0}}),
    ("coles", "gru4rec", {"encoder": {"pooling": "last"}}),
    ("coles", "bag", {"method": {"hide_share": 0.3, "hidden_weight": 1.0}, "sampled_items": 8}),
    ("ubm", "bert4rec", {"fields": TEXT, "text": {"encoder": "transformer", "action": True}}),
    ("ubm", "bag", {"method": {"first_share": 0}}),
    ("ubm", "gru4rec", {"fields": TEXT, "method": {"first_share": 0}}),
    ("ubm", "hsa", {"fields": TIMED, "method": {"first_share": 0}}),
]
HALF = [
    ("masked", "bert4rec", {}),
    ("next", "rotary", {"encoder": CAUSAL}),
    ("ptum", "hsa", {}),
    ("dual", "han", {"fields": TEXT, "text": {"encoder": "transformer"}}),
]


def config(folder: Path, method: str, encoder: str, /, **changes) -> TrainJob:
    still = {"encoder": {"dropout": 0.0}}
    if "text" in changes.get("fields", []):
        still["text"] = {"dropout": 0.0}
    settings = {
        "sequences": str(folder / "sequences" / "2026-01-31.json"),
        "out": str(folder / "models" / "m"),
        "recipe": f"{method}_{encoder}",
        "fields": FIELDS,
        "dim": 16,
        "max_length": 8,
        "epochs": 3,
        "batch_size": 10,
        "threads": 1,
    }
    merged = {name: kept | changes.pop(name, {}) for name, kept in still.items()}
    return train_job(settings | changes | merged)


def learn(folder: Path, device: torch.device, settings: TrainJob) -> list[float]:
    """Two steps of the trainer -> their losses."""
    sequences = open_sequences(settings.io.sequences)
    model, objective = build(settings, sequences)
    trainer = Trainer(settings, sequences, model.to(device), objective.to(device))
    trainer.trained.train()
    return [trainer._learn(pinned(trainer._sample(step))) for step in range(2)]


def run_and_resume(folder: Path, device: torch.device) -> list[float]:
    """A run that is interrupted and goes on, in every mode -> its losses."""
    labels = {"labels": str(folder / "labels.parquet"), "task": "half", "patience": 2}
    settings = config(folder, "ptum", "rotary", ema=0.8, bag_epochs=1, validation=labels,
                      checkpoint_seconds=0.0, device=str(device))  # fmt: skip

    class Interrupting(Reporter):
        def progress(self, step: int, *_, **__) -> None:
            if step == 6:
                raise KeyboardInterrupt

    try:
        train(settings, Interrupting())
    except KeyboardInterrupt:
        train(settings, Reporter())
    return pq.read_table(settings.io.out / "curves.parquet")["loss"].to_pylist()


def use(folder: Path, device: torch.device, encoder: str, **changes) -> list[float]:
    """What a checkpoint is for: vectors, attention, task models -> some of the vectors."""
    told = {"device": str(device), "epochs": 1}
    settings = config(folder, "manymask", encoder, **told, **changes)
    train(settings, Reporter())
    reads = {"sequences": str(settings.io.sequences), "checkpoint": str(settings.io.out)}
    out = folder / "embeddings" / "e.parquet"
    instants = {"event_timestamp": CUTOFF.isoformat(), "created": CUTOFF.isoformat()}
    written = reads | instants | {"out": str(out), "model_version": "m", "device": str(device)}
    embed(embed_job(written), Reporter())
    measured = reads | told | {
        "labels": str(folder / "labels.parquet"),
        "out": str(folder / "metrics" / "m.parquet"),
        "models": str(folder / "task_models"),
        "tasks": [
            {"name": "half"},
            {"name": "number", "kind": "regression", "metric": "mae"},
            {"name": "next", "kind": "ranking", "metric": "recall@10"},
            {"name": "click", "kind": "ranking", "candidates": True, "numbers": ["price"]},
        ],
        "protocols": ["frozen", "finetuned", "native"],
    }  # fmt: skip
    finetune(evaluation_job(measured), Reporter())
    return np.concatenate(pq.read_table(out)["embedding"][:5].to_pylist()).tolist()


def look(folder: Path, device: torch.device, encoder: str) -> list[float]:
    """Weights by distance."""
    settings = config(folder, "manymask", encoder)
    sequences = open_sequences(settings.io.sequences)
    model = build(settings, sequences)[0].to(device)
    everyone = np.arange(USERS)
    events = pack(sequences.windows(everyone, np.zeros(USERS, np.int64), np.full(USERS, 5)))
    return attention_by_distance(model, to_device(events, device))[1].tolist()


def refused(folder: Path, device: torch.device) -> list[float]:
    """Which mixtures are refused: 1 where one is. A CPU refuses none."""
    x_nD, row_n = torch.ones(3, 2, device=device), torch.tensor([0, 1])
    mixtures: list[Callable[[], object]] = [
        lambda: x_nD + torch.ones(2),
        lambda: torch.cat([x_nD, torch.ones(1, 2)]),
        lambda: x_nD @ torch.ones(2, 2),
        lambda: x_nD.index_select(0, row_n),
        lambda: x_nD.index_add(0, row_n, x_nD[:2]),
        lambda: x_nD.gather(0, row_n[None]),
        lambda: F.embedding(row_n, x_nD),
        lambda: torch.ones(3)[torch.arange(2, device=device)],
        lambda: torch.stack([x_nD.sum(), torch.ones(())]),
        lambda: x_nD.numpy(),
    ]
    allowed = [
        lambda: x_nD[row_n],
        lambda: x_nD[np.array([0, 2])],
        lambda: x_nD + torch.ones(()),
        lambda: x_nD.cpu() + torch.ones(2),
    ]
    return [_is_refused(mixture) for mixture in (*mixtures, *allowed)]


def _is_refused(mixture: Callable[[], object]) -> float:
    try:
        mixture()
    except (WrongDeviceError, RuntimeError):
        return 1.0
    return 0.0


def varlen(q, k, v, asking, bounds, most_asking, longest, *, window_size) -> Tensor:
    """Does and demands what FlashAttention does, a sequence at a time."""
    for part in (q, k, v):
        assert isinstance(part, There)
        assert part.dtype == torch.bfloat16
        assert part.stride(-1) == 1
        assert part.shape[-1] % 8 == 0
    for ends in (asking, bounds):
        assert isinstance(ends, There)
        assert ends.dtype == torch.int32
        assert len(ends) == len(bounds)
    assert asking[-1] == len(q) > 0
    assert bounds[-1] == len(k) == len(v)
    assert bounds.diff().max() <= longest
    assert asking.diff().max() <= most_asking
    mixed = []
    pairs = (itertools.pairwise(ends.tolist()) for ends in (asking, bounds))
    for (a, b), (c, d) in zip(*pairs, strict=True):
        parts = (part.transpose(0, 1) for part in (q[a:b], k[c:d], v[c:d]))
        out = F.scaled_dot_product_attention(*parts, is_causal=window_size == (-1, 0))
        mixed.append(out.transpose(0, 1))
    return torch.cat(mixed)


def _learn(method: str, encoder: str, changes: dict, folder: Path, device) -> list[float]:
    return learn(folder, device, config(folder, method, encoder, **changes))


CASES: dict[str, Callable[[Path, torch.device], list[float]]] = {
    "mixtures": refused,
    **{f"{m} {e} {told or ''}".strip(): partial(_learn, m, e, told) for m, e, told in LEARNT},
    **{f"bf16 {m} {e}": partial(_learn, m, e, told | {"precision": "bf16"}) for m, e, told in HALF},
    "an interrupted run": run_and_resume,
    "what bert4rec is used for": partial(use, encoder="bert4rec"),
    "what gru4rec is used for": partial(use, encoder="gru4rec", fields=TEXT),
    "attention of hsa": partial(look, encoder="hsa"),
    "attention of hura": partial(look, encoder="hura"),
}


def write(folder: Path) -> Path:
    """Writes sequences, and labels of each kind of task."""
    lengths = np.random.default_rng(1).integers(8, 20, USERS).tolist()
    write_sequences(folder, lengths, text=True)
    rows = planted_labels(USERS)
    for n, half in enumerate(rows[:USERS]):
        who = {name: half[name] for name in ("user_id", "split")}
        rows.append(who | {"task": "next", "value": 1.0, "label": f"item-{n % ITEMS}"})
        rows += [
            who | {"task": "click", "value": float(k == n % 3), "label": f"item-{(n + k) % ITEMS}",
                   "numbers": [float(k)]}
            for k in range(3)
        ]  # fmt: skip
    write_labels(folder / "labels.parquet", rows)
    return folder


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(CASES)
    torch.set_num_threads(1)
    with pretend_gpu():  # before the first gradient
        pass
    found = {}
    for nth, name in enumerate(names):
        found[name] = {"cpu": CASES[name](write(folder / f"{nth}-cpu"), CPU)}
        try:
            with pretend_gpu() as device:
                found[name]["gpu"] = CASES[name](write(folder / f"{nth}-gpu"), device)
        except Exception:
            found[name]["fault"] = traceback.format_exc(limit=-12)
    (folder / "found.json").write_text(json.dumps(found))


def _as_pinned(x: Tensor) -> Tensor:
    """Does what pinning does: a copy of the same layout, which refuses overlaps."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x)


if __name__ == "__main__":
    kernel = mock.Mock(side_effect=varlen)
    with (
        mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)),
        mock.patch.object(kernels, "_kernel", return_value=kernel),
        mock.patch.object(Tensor, "pin_memory", _as_pinned),
    ):
        main()
    assert kernel.called or sys.argv[2:], "no attention ran packed"
