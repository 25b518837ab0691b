"""Which row of a list that was shown is chosen: click among impressions.

    score of row i for user u = (W z_u + c) . e_i / s + w . f_i + g log p_i

z is the standardized user vector, e_i the encoder's own item vector, f what is known of the row
(its place, its price), p_i how often the training users have met the item. A list's scores become
shares by softmax, trained against the rows that were chosen. W and c begin at 0 and are trained
when w and g are: what the user's vector adds has to show on the validation lists, or stays out.

Shapes: n lists, M rows of all lists, F columns known of a row, D width.
"""

import copy
import dataclasses
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.data.examples import Labeled, Lists, last_windows
from models.data.labels import SPLITS, Task
from models.data.packed import pack, to_device
from models.data.sequences import Sequences
from models.metrics.predictions import Predicted
from models.metrics.rank import Ranks
from models.metrics.rows import metric_rows
from models.nn.user_model import UserModel
from models.nn.vectors import window_vectors
from models.probing.head_inputs import Inputs
from models.probing.modes import Setting, common_columns, tune_settings
from models.probing.probe import Standardizer
from models.ranking.item_head import ItemHead, popularity
from models.ranking.lists import (
    NumberScaler,
    first_places,
    list_loss,
    log_softmax_by_list,
    measure_lists,
    owners,
)
from models.training.fit import TuneSettings, tune

FITTING = TuneSettings(lr=3e-2, epochs=30, patience=3, batch_size=64, weight_decay=0.01, seed=0)


class RowHead(nn.Module):
    """User vectors [n, D] and rows of lists -> scores [M]."""

    def __init__(self, items: ItemHead, columns: int) -> None:
        super().__init__()
        self.items = items
        self.known = nn.Linear(columns, 1, bias=False) if columns else None
        if self.known is not None:
            nn.init.zeros_(self.known.weight)

    def forward(self, users_nD: Tensor, items_VD: Tensor, rows: "Rows") -> Tensor:
        """Scores rows."""
        head = self.items
        z_nD = (users_nD - head.mean_D) / head.scale_D
        wanted_MD = head.project(z_nD)[rows.owner_M]
        scores_M = (wanted_MD * items_VD[rows.item_M]).sum(1) / head.spread
        scores_M = scores_M + head.gain * head.prior_V[rows.item_M]
        return scores_M if self.known is None else scores_M + self.known(rows.known_MF)[:, 0]


@dataclass(frozen=True)
class Rows:
    """The rows of some lists, on the device."""

    item_M: Tensor
    relevant_M: Tensor  # 1.0 where chosen
    known_MF: Tensor
    owner_M: Tensor
    lists: int

    @classmethod
    def of(cls, lists: Lists, scaler: NumberScaler, device: torch.device) -> "Rows":
        """Lays out the rows of lists."""
        return cls(
            torch.from_numpy(lists.item_M).to(device),
            torch.from_numpy(lists.is_relevant_M).float().to(device),
            scaler(lists).to(device),
            owners(lists.lengths_n).to(device),
            len(lists.lengths_n),
        )

    def loss(self, scores_M: Tensor) -> Tensor:
        """The loss of scores."""
        return list_loss(scores_M, self.relevant_M, self.owner_M, self.lists)


def run_lists(setting: Setting, task: Task, inputs: Inputs, share: float, seed: int) -> list[dict]:
    """Measures every protocol of the setting that goes with lists of candidates."""
    kept, rows = task.share_index(share, seed), []
    examples = task.splits | {"train": task.splits["train"].pick(kept)}
    lists = task.lists | {"train": task.lists["train"].pick(kept)}
    x = inputs.x | {"train": inputs.x["train"][torch.from_numpy(kept)]}
    for protocol in setting.job.evaluation.protocols:
        if protocol == "native":  # no pre-training scores the rows of a list
            continue
        begun = time.monotonic()
        fitting = Fitting(setting.checkpoint.model, setting.sequences, examples, lists)
        if protocol == "frozen":
            scores = fitting.frozen(x, seed)
        else:
            scores = fitting.trained(
                tune_settings(setting.job.evaluation.finetuning, protocol, seed)
            )
        common = common_columns(setting, task, protocol, "embedding", share, seed) | {
            "train_users": len(kept),
            "test_users": len(examples["test"].users_n),
            "seconds": time.monotonic() - begun,
        }
        parts = {s: _predicted(examples[s], lists[s], scores[s]) for s in scores}
        setting.recorder.add(common, parts)
        figures = measure_lists(scores["test"], lists["test"], task.metric)
        rows += metric_rows(common, figures)
    return rows


def _predicted(examples: Labeled, lists: Lists, scores_M: np.ndarray) -> Predicted:
    """Keeps the place of what was chosen, of each list."""
    ranks: Ranks = first_places(scores_M, lists)
    return Predicted("ranking", examples.users_n, examples.y_n, ranks.scores_n2)


@dataclass(frozen=True)
class Fitting:
    """The examples of a share and their lists, and what they are fitted on."""

    encoder: UserModel
    sequences: Sequences
    examples: dict[str, Labeled]
    lists: dict[str, Lists]

    def frozen(self, x: dict[str, Tensor], seed: int) -> dict[str, np.ndarray]:
        """Fits a head on user vectors -> log shares of the rows of validation and test lists."""
        items_VD = self.encoder.behavior.items().detach().cpu()
        head, rows = self._fit(x, items_VD, seed)
        return {split: _scores(head, x[split], items_VD, rows[split]) for split in SPLITS[1:]}

    def _fit(
        self, x: dict[str, Tensor], items_VD: Tensor, seed: int
    ) -> tuple[RowHead, dict[str, Rows]]:
        counts_V = popularity(self.sequences, self.examples["train"])
        scaler, cpu = NumberScaler.of(self.lists["train"]), torch.device("cpu")
        rows = {split: Rows.of(part, scaler, cpu) for split, part in self.lists.items()}
        items = ItemHead(Standardizer.of(x["train"]), items_VD, counts_V)
        head = RowHead(items, rows["train"].known_MF.shape[1])

        def loss_of(chosen: np.ndarray, epoch: int) -> Tensor:  # noqa: ARG001
            some = Rows.of(self.lists["train"].pick(chosen), scaler, cpu)
            return some.loss(head(x["train"][chosen], items_VD, some))

        @torch.no_grad()
        def valid_loss() -> float:
            return float(rows["valid"].loss(head(x["valid"], items_VD, rows["valid"])))

        for sees_user in (False, True):
            items.project.requires_grad_(sees_user)
            lr = FITTING.lr / 10 if sees_user else FITTING.lr
            settings = dataclasses.replace(FITTING, lr=lr, seed=seed)
            tune(head, len(x["train"]), loss_of, valid_loss, settings)
        return head, rows

    def trained(self, settings: TuneSettings) -> dict[str, np.ndarray]:
        """Trains encoder and head together, on the last max_length events of each example."""
        encoder = copy.deepcopy(self.encoder)
        device, length = next(encoder.parameters()).device, encoder.config.max_length
        x = {
            split: window_vectors(encoder, self.sequences, part)
            for split, part in self.examples.items()
        }
        head, _ = self._fit(x, encoder.behavior.items().detach().cpu(), settings.seed)
        model = nn.ModuleDict({"encoder": encoder, "head": head.to(device)})
        scaler = NumberScaler.of(self.lists["train"])

        def loss_of(chosen: np.ndarray, epoch: int) -> Tensor:  # noqa: ARG001
            some = Rows.of(self.lists["train"].pick(chosen), scaler, device)
            windows = last_windows(self.sequences, self.examples["train"].pick(chosen), length)
            users_nD = encoder(to_device(pack(windows), device))
            return some.loss(head(users_nD, encoder.behavior.items(), some))

        @torch.no_grad()
        def scores_of(split: str) -> Tensor:
            model.eval()
            some = Rows.of(self.lists[split], scaler, device)
            users_nD = window_vectors(encoder, self.sequences, self.examples[split]).to(device)
            scores_M = head(users_nD, encoder.behavior.items(), some)
            return log_softmax_by_list(scores_M, some.owner_M, some.lists).cpu()

        def valid_loss() -> float:
            valid = Rows.of(self.lists["valid"], scaler, torch.device("cpu"))
            return float(valid.loss(scores_of("valid")))

        tune(model, len(self.examples["train"].users_n), loss_of, valid_loss, settings)
        return {split: scores_of(split).numpy() for split in SPLITS[1:]}


@torch.no_grad()
def _scores(head: RowHead, x_nD: Tensor, items_VD: Tensor, rows: Rows) -> np.ndarray:
    scores_M = head(x_nD, items_VD, rows)
    return log_softmax_by_list(scores_M, rows.owner_M, rows.lists).numpy()
