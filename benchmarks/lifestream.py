"""pytorch-lifestream's side of `train_throughput.py`: runs in the peer's environment, not in ours.

    python benchmarks/lifestream.py FOLDER < requests

Comes in: the folder of flat arrays that `random_log.write_log` wrote, and on stdin one JSON object
a line: work (barlow_bert4rec), steps, threads, batch_size, dropout, hide_share, negatives, device.
Goes out: for each, one line of JSON: events (real positions that went through the encoder, padding
and the CLS slot left out), CPU and wall seconds.

The peer runs as its users run it: its own dataset, collation, module and Lightning's trainer, with
the log, checkpoints and progress bar off. Importing `ptls.preprocessing` fails in 0.7.0 after a
clean install, so nothing here does.
"""

import json
import logging
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from ptls.data_load.datasets import MemoryMapDataset
from ptls.frames.bert import MlmDataset, MLMPretrainModule
from ptls.frames.coles import ColesDataset, CoLESModule
from ptls.frames.coles.losses import BarlowTwinsLoss
from ptls.frames.coles.split_strategy import SampleSlices
from ptls.nn import Head, RnnSeqEncoder, TransformerEncoder, TransformerSeqEncoder, TrxEncoder

WARM_UP = 2  # steps that are not timed
WIDTHS = {"item": 48, "action": 8, "category": 8}  # the peer lays fields side by side: 64 together
SHORTEST, LONGEST = 15, 200  # events of a view
TRANSFORMER = {"n_layers": 2, "n_heads": 4, "dim_hidden": 256}


def main() -> None:
    """Answers requests until stdin ends."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the peer prints is no answer
    users = read_users(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(measure(users, json.loads(line))), file=answers, flush=True)


def read_users(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Returns one dictionary of tensors a user, as the peer's preprocessing would."""
    arrays = {name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in WIDTHS}
    arrays["event_time"] = torch.from_numpy(np.load(folder / "time.npy"))
    sizes = np.diff(np.load(folder / "offsets.npy")).tolist()
    parts = {name: torch.split(array, sizes) for name, array in arrays.items()}
    return [{name: parts[name][n] for name in parts} for n in range(len(sizes))]


def measure(users: list[dict[str, torch.Tensor]], request: dict[str, Any]) -> dict[str, float]:
    """Trains for some steps and returns what the ones after the first took."""
    torch.set_num_threads(request["threads"])
    pl.seed_everything(request.get("seed", 0), verbose=False)
    method, encoder = request["work"].split("_")
    rows = {name: 1 + max(int(user[name].max()) for user in users) for name in WIDTHS}
    events = TrxEncoder(
        embeddings={name: {"in": rows[name], "out": width} for name, width in WIDTHS.items()}
    )
    module, data = {"barlow": barlow, "masked": masked}[method](users, events, encoder, request)
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=request["batch_size"],
        shuffle=True,
        drop_last=True,
        collate_fn=data.collate_fn,
        num_workers=0,
    )
    meter = Meter()
    pl.Trainer(
        accelerator="gpu" if request["device"] != "cpu" else "cpu",
        devices=1,
        max_steps=WARM_UP + request["steps"],
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[meter],
    ).fit(module, loader)
    return {"events": meter.events, "slots": meter.slots, "cpu": meter.cpu, "wall": meter.wall}


def barlow(users: list, events: TrxEncoder, encoder: str, request: dict) -> tuple[Any, Any]:
    """Barlow Twins on two random slices, behind a projector of three layers of 256."""
    if encoder == "bert4rec":
        sequence = TransformerSeqEncoder(events, **TRANSFORMER, dropout=request["dropout"])
    else:
        sequence = RnnSeqEncoder(events, hidden_size=64, type="gru")
    module = CoLESModule(
        seq_encoder=sequence,
        head=Head(64, use_batch_norm=True, hidden_layers_sizes=[256, 256],
                  objective="regression", num_classes=256),
        loss=BarlowTwinsLoss(lambd=0.02),
        optimizer_partial=partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler_partial=partial(torch.optim.lr_scheduler.StepLR, step_size=1000),
    )  # fmt: skip
    return module, ColesDataset(MemoryMapDataset(users), SampleSlices(2, SHORTEST, LONGEST))


def masked(users: list, events: TrxEncoder, encoder: str, request: dict) -> tuple[Any, Any]:
    """Masked events told from five others; windows are as long as ours, not cut at random."""
    if encoder != "bert4rec":
        raise ValueError("masked prediction is compared on the Transformer")
    module = MLMPretrainModule(
        trx_encoder=events,
        seq_encoder=TransformerEncoder(64, **TRANSFORMER, dropout=request["dropout"]),
        total_steps=10_000,
        replace_proba=request["hide_share"],
        neg_count=request["negatives"],
    )
    return module, MlmDataset(MemoryMapDataset(users), min_len=LONGEST, max_len=LONGEST)


class Meter(pl.Callback):
    """Counts real events and seconds from the end of the warm-up on."""

    def __init__(self) -> None:
        self.events = self.slots = 0
        self.cpu = self.wall = 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, _: Any, batch: Any, *__: Any) -> None:
        """Is called after each step, so what the loader takes is within the time."""
        if trainer.global_step == WARM_UP:
            self.began = read_clocks(module.device)
        if trainer.global_step > WARM_UP:
            padded = batch[0] if isinstance(batch, (tuple, list)) else batch
            self.events += int(padded.seq_lens.sum())
            self.slots += len(padded.seq_lens) * int(padded.seq_lens.max())
            now = read_clocks(module.device)
            self.wall, self.cpu = now[0] - self.began[0], now[1] - self.began[1]


def read_clocks(device: torch.device) -> tuple[float, float]:
    """Returns wall and CPU seconds, once the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
