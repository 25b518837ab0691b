"""RecTools' side of `next_item.py`: runs in the peer's environment, not in ours.

    python benchmarks/rectools_next_item.py FOLDER

Comes in: FOLDER/log.npz (offsets, item and time of all ratings in order) and request.json (model,
board, settings, passes, every, seed, threads; or steps, for the time they take). Goes out:
places.npz, the place of each validation and test target, and facts.json. Killed, it goes on from
its last pass.

The peer runs as its tutorial on HSTU runs it (settings, loss, optimizer, preparation of the data,
Lightning), but for the ranking: users' and items' vectors are its own, and places are counted of
all scores as ours are, once an asked-for number of passes, of which the best on the validation
targets is kept. On board A its time bias is off, which knows when the target comes.
"""

import copy
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

WARM_UP = 2  # steps that are not timed
CONFIG: dict[str, Any] = {
    "session_max_len": 200,
    "lightning_module_kwargs": {"logits_t": 0.05},
    "item_net_block_types": (IdEmbeddingsItemNet,),
    "loss": "sampled_softmax",
    "n_negatives": 128,
    "use_pos_emb": True,
    "dropout_rate": 0.2,
    "n_factors": 50,
    "n_heads": 1,
    "n_blocks": 2,
    "lr": 0.001,
    "batch_size": 128,
}
LARGE = {"n_blocks": 8, "n_heads": 2}


def main() -> None:
    """Answers the request of a folder."""
    warnings.filterwarnings("ignore")
    # Its checkpoints hold more than tensors: they are ours, of a moment ago.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    torch.set_num_threads(request["threads"])
    pl.seed_everything(request["seed"], workers=True)
    log = Log(folder / "log.npz")
    model = model_of(request["model"], request["board"], request["settings"])
    model._build_model_from_dataset(Dataset.construct(log.ratings(held_out=2)))
    if "steps" in request:
        facts = timed(model, request["steps"])
    else:
        facts = trained(model, log, request, folder)
    (folder / "facts.json").write_text(json.dumps(facts))


class Log:
    """All ratings, one user after the other, each in the order of time."""

    def __init__(self, path: Path) -> None:
        arrays = np.load(path)
        self.offsets, self.item_N, self.time_N = (arrays[n] for n in ("offsets", "item", "time"))
        self.user_N = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def ratings(self, held_out: int) -> pd.DataFrame:
        """All but each user's last ones."""
        kept_N = self.offsets[1:][self.user_N] - np.arange(len(self.user_N)) > held_out
        return self._frame(self.user_N[kept_N], self.item_N[kept_N], self.time_N[kept_N])

    def asked(self, from_last: int) -> pd.DataFrame:
        """The rating of each user that is asked for, 1 the last."""
        at_U = self.offsets[1:] - from_last
        return self._frame(self.user_N[at_U], self.item_N[at_U], self.time_N[at_U])

    def _frame(self, user: np.ndarray, item: np.ndarray, seconds: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(
            {
                Columns.User: user,
                Columns.Item: item,
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(seconds, unit="s"),
            }
        )


def model_of(name: str, board: str, settings: dict[str, Any]) -> Any:
    """The model of a name with its published settings, but for those that are given."""
    if name == "sasrec":
        cosine = {"similarity_module_kwargs": {"distance": "cosine"}}
        return SASRecModel(**CONFIG | cosine | settings)
    config = CONFIG | (LARGE if name == "hstu_large" else {}) | settings
    return HSTUModel(relative_time_attention=board == "B", relative_pos_attention=True, **config)


@torch.no_grad()
def places_of(model: Any, log: Log, from_last: int) -> np.ndarray:
    """The first place of each right item, from 1, and with how many others it is tied [U, 2]."""
    seen, target = log.ratings(held_out=from_last), log.asked(from_last)
    users, preparation = target[Columns.User].to_numpy(), model.data_preparator
    context = target.copy() if model.require_recommend_context else None
    dataset = preparation.transform_dataset_u2i(Dataset.construct(seen), users, context)
    loader = preparation.get_dataloader_recommend(dataset, 256)
    user_UD, item_VD = model.lightning_model._get_user_item_embeddings(loader, "cpu")
    order = dataset.user_id_map.convert_to_internal(users)
    scores_UV = model.torch_model.similarity_module(user_UD[order], item_VD).numpy()
    scores_UV[:, 0] = -np.inf  # padding
    known = preparation.item_id_map.to_internal
    right_U = known.reindex(target[Columns.Item]).fillna(-1).astype(int).to_numpy()
    row, item = seen[Columns.User].to_numpy(), known.reindex(seen[Columns.Item]).to_numpy()
    is_known = ~np.isnan(item)
    own_U = scores_UV[np.arange(len(users)), right_U]
    scores_UV[row[is_known], item[is_known].astype(int)] = -np.inf
    first_U = 1 + (scores_UV > own_U[:, None]).sum(1)
    tied_U = (scores_UV == own_U[:, None]).sum(1) - 1
    is_lost_U = right_U < 0  # the target is an item that training never met
    first_U[is_lost_U], tied_U[is_lost_U] = scores_UV.shape[1], 0
    return np.stack([first_U, tied_U], axis=1)


class Best(pl.Callback):
    """Ranks the validation targets every few passes, and keeps the best weights."""

    def __init__(self, model: Any, log: Log, every: int, passes: int) -> None:
        self.model, self.ratings, self.every, self.passes = model, log, every, passes
        self.kept: dict[str, Any] = {"recall": -1.0, "pass": 0, "weights": None, "seconds": 0.0}
        self.begun = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What a later process goes on from."""
        return self.kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from it."""
        self.kept = state_dict

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ranks them."""
        done = trainer.current_epoch + 1
        self.kept["seconds"] += time.monotonic() - self.begun
        told = {
            "pass": done,
            "of": self.passes,
            "loss": float(trainer.callback_metrics["train_loss"]),
        }
        if done % self.every == 0 or done == self.passes:
            recall = float((places_of(self.model, self.ratings, 2)[:, 0] <= 10).mean())
            pl_module.train()
            told["valid_recall"] = recall
            if recall > self.kept["recall"]:
                weights = copy.deepcopy(pl_module.state_dict())
                self.kept |= {"recall": recall, "pass": done, "weights": weights}
        print(
            json.dumps(told | {"seconds": round(self.kept["seconds"])}), file=sys.stderr, flush=True
        )
        self.begun = time.monotonic()


def trained(model: Any, log: Log, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Trains all passes, and writes the places of all targets."""
    best = Best(model, log, request["every"], request["passes"])
    last = folder / "last.ckpt"
    saving = pl.callbacks.ModelCheckpoint(
        dirpath=folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    trainer = trainer_of(
        max_epochs=request["passes"], callbacks=[best, saving], enable_checkpointing=True
    )
    model.lightning_model.is_fitted = last.exists()  # else it would draw its weights again
    path = str(last) if last.exists() else None
    trainer.fit(model.lightning_model, model.data_preparator.get_dataloader_train(), ckpt_path=path)
    model.lightning_model.load_state_dict(best.kept["weights"])
    places = {}
    for split, from_last in (("valid", 2), ("test", 1)):
        found = places_of(model, log, from_last)
        places |= {f"{split}_first": found[:, 0], f"{split}_tied": found[:, 1]}
    np.savez(folder / "places.npz", **places)
    return {"best_pass": best.kept["pass"], "seconds": round(best.kept["seconds"])}


class Timing(pl.Callback):
    """CPU and wall seconds of the steps after the first ones, and the real events in them."""

    def __init__(self) -> None:
        self.events, self.slots, self.begun = 0, 0, (0.0, 0.0)
        self.took = (0.0, 0.0)

    def on_train_batch_end(self, *told: Any) -> None:
        """Counts."""
        *_, batch, batch_idx = told
        now = time.perf_counter(), time.process_time()
        if batch_idx + 1 == WARM_UP:
            self.begun = now
        elif batch_idx >= WARM_UP:
            self.events += int((batch["x"] != 0).sum())
            self.slots += batch["x"].numel()
            self.took = now[0] - self.begun[0], now[1] - self.begun[1]


def timed(model: Any, steps: int) -> dict[str, float]:
    """Times some steps of training, preparation of the batches included."""
    timing = Timing()
    trainer = trainer_of(max_epochs=1, limit_train_batches=WARM_UP + steps, callbacks=[timing])
    trainer.fit(model.lightning_model, model.data_preparator.get_dataloader_train())
    wall, cpu = timing.took
    return {"events": timing.events, "slots": timing.slots, "wall": wall, "cpu": cpu}


def trainer_of(**more: Any) -> pl.Trainer:
    """Lightning's trainer, quiet."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        accelerator="cpu", devices=1, **({"enable_checkpointing": False} | quiet | more)
    )


if __name__ == "__main__":
    main()
