"""Next item: every item is ranked for each example, none is sampled.

Protocols: native (the score that pre-training trains, without labels), frozen (a head over items
on the frozen user vector), finetuned and scratch (head and encoder trained together, on the last
max_length events of each example).
"""

import copy
import time

import numpy as np
import torch
from torch import Tensor, nn

from models.data.examples import Labeled, last_windows
from models.data.labels import SPLITS, Task
from models.data.packed import UNK, Events, pack, to_device
from models.data.sequences import Sequences
from models.metrics.predictions import Predicted
from models.metrics.rows import measure, metric_rows
from models.nn.user_model import UserModel
from models.nn.vectors import window_vectors
from models.probing.head_inputs import Inputs
from models.probing.modes import Setting, common_columns, tune_settings
from models.probing.probe import Standardizer
from models.ranking.item_head import (
    BLOCK,
    ItemHead,
    Vectors,
    fit_item_head,
    item_nll,
    popularity,
)
from models.ranking.ranks import Score, measure_by_count, rank_examples
from models.ranking.recent import recent_items
from models.ranking.zero_shot import native
from models.training.fit import tune


class RankingModel(nn.Module):
    """Windows, their recent items and the vectors of all items -> scores of all items [B, V]."""

    def __init__(self, user_model: UserModel, head: ItemHead) -> None:
        super().__init__()
        self.user_model, self.head = user_model, head

    def forward(self, windows: Events, items_VD: Tensor, recent_BR: Tensor) -> Tensor:
        """Scores all items, of which the vectors are known."""
        return self.head(self._users(windows), items_VD, recent_BR)

    def loss(self, windows: Events, right_B: Tensor, recent_BR: Tensor) -> Tensor:
        """The cross-entropy of the right items, over all or a sample of the others."""
        users_BD = self._users(windows)
        needed = torch.cat([right_B, recent_BR[recent_BR > UNK]])
        catalog = self.user_model.behavior.catalog(needed)
        return self.head.nll(users_BD, catalog, right_B, recent_BR)

    def _users(self, windows: Events) -> Tensor:
        return self.user_model(to_device(pack(windows), self.head.prior_V.device))


def run_ranking(
    setting: Setting, task: Task, inputs: Inputs, share: float, seed: int
) -> list[dict]:
    """Measures every protocol of the setting that goes with a ranking of all items."""
    evaluation, rows = setting.job.evaluation, []
    kept = task.share_index(share, seed)
    splits = task.splits | {"train": task.splits["train"].pick(kept)}
    for protocol in evaluation.protocols:
        begun = time.monotonic()
        is_first = (share, seed) == evaluation.first_run
        if protocol == "native":  # needs no label: once is enough
            score = _native(setting) if is_first else None
        elif protocol == "frozen":
            score = _frozen(setting, task, splits, inputs, kept, seed)
        else:
            score = _trained(setting, task, splits, protocol, seed)
        if score is None:
            continue
        found = {
            split: rank_examples(
                score[split], setting.sequences, splits[split], task.exclude_history
            )
            for split in SPLITS[1:]
        }
        common = common_columns(setting, task, protocol, "embedding", share, seed) | {
            "train_users": 0 if protocol == "native" else len(kept),
            "test_users": len(splits["test"].users_n),
            "seconds": time.monotonic() - begun,
        }
        parts = {
            split: Predicted("ranking", splits[split].users_n, splits[split].y_n, r.scores_n2)
            for split, r in found.items()
        }
        setting.recorder.add(common, parts)
        figures = measure(task, parts["test"])
        if protocol != "native":
            met_V = times_met(setting.sequences, splits["train"])
            figures |= measure_by_count(parts["test"], met_V[splits["test"].y_n], task.metric)
        rows += metric_rows(common, figures)
    return rows


def times_met(sequences: Sequences, examples: Labeled) -> np.ndarray:
    """Counts how often examples have met each item, seen or right -> float64 [V].

    What the vocabulary does not know counts as never met, however many such items there were.
    """
    met_V = popularity(sequences, examples)
    np.add.at(met_V, examples.y_n, 1)
    met_V[: UNK + 1] = 0
    return met_V


def _native(setting: Setting) -> dict[str, Score] | None:
    checkpoint, sequences = setting.checkpoint, setting.sequences
    scorer = native(checkpoint.recipe.method, checkpoint.model, sequences)
    if scorer is None:
        return None

    def score(some: Labeled, block: slice) -> Tensor:  # noqa: ARG001
        return scorer(last_windows(sequences, some, checkpoint.model.config.max_length))

    return dict.fromkeys(SPLITS[1:], score)


def _recent(task: Task, sequences: Sequences, examples: Labeled) -> Tensor:
    """The items that may come again -> int64 [n, R]; R is 0 where those seen do not."""
    if task.exclude_history:
        return torch.zeros(len(examples.users_n), 0, dtype=torch.int64)
    return torch.from_numpy(recent_items(sequences, examples))


def _frozen(
    setting: Setting,
    task: Task,
    splits: dict[str, Labeled],
    inputs: Inputs,
    kept: np.ndarray,
    seed: int,
) -> dict[str, Score]:
    x = inputs.x | {"train": inputs.x["train"][torch.from_numpy(kept)]}
    items_VD = setting.checkpoint.model.behavior.items().detach().cpu()
    head = _fitted(setting, task, splits, x, items_VD, seed)

    def scorer(split: str) -> Score:
        @torch.no_grad()
        def score(some: Labeled, block: slice) -> Tensor:
            return head(x[split][block], items_VD, _recent(task, setting.sequences, some))

        return score

    return {split: scorer(split) for split in SPLITS[1:]}


def _fitted(
    setting: Setting,
    task: Task,
    splits: dict[str, Labeled],
    x: dict[str, Tensor],
    items_VD: Tensor,
    seed: int,
) -> ItemHead:
    counts_V = popularity(setting.sequences, splits["train"])
    train, valid = (
        Vectors(
            x[split],
            torch.from_numpy(splits[split].y_n),
            _recent(task, setting.sequences, splits[split]),
        )
        for split in SPLITS[:2]
    )
    repeats = train.recent_nR.shape[1]
    head = ItemHead(Standardizer.of(x["train"]), items_VD, counts_V, repeats)
    fit_item_head(head, train, valid, items_VD, seed)
    return head


def _trained(
    setting: Setting, task: Task, splits: dict[str, Labeled], protocol: str, seed: int
) -> dict[str, Score]:
    """Trains encoder and head together, from a head that is fitted on the encoder as it is."""
    sequences, encoder = setting.sequences, copy.deepcopy(setting.checkpoint.model)
    device, length = next(encoder.parameters()).device, encoder.config.max_length
    parts = {
        split: splits[split].pick(np.flatnonzero(splits[split].y_n > UNK)) for split in SPLITS[:2]
    }
    x = {split: window_vectors(encoder, sequences, part) for split, part in parts.items()}
    head = _fitted(setting, task, parts, x, encoder.behavior.items().detach().cpu(), seed)
    model = RankingModel(encoder, head).to(device)
    y = {split: torch.from_numpy(part.y_n).to(device) for split, part in parts.items()}
    recent_nR = _recent(task, sequences, parts["train"]).to(device)

    def loss_of(chosen: np.ndarray, epoch: int) -> Tensor:  # noqa: ARG001
        windows = last_windows(sequences, parts["train"].pick(chosen), length)
        return model.loss(windows, y["train"][chosen], recent_nR[chosen])

    @torch.no_grad()
    def scorer() -> Score:
        items_VD = model.eval().user_model.behavior.items()

        @torch.no_grad()
        def score(some: Labeled, block: slice) -> Tensor:  # noqa: ARG001
            recent_nR = _recent(task, sequences, some).to(device)
            return model(last_windows(sequences, some, length), items_VD, recent_nR).cpu()

        return score

    def valid_loss() -> float:
        count, total, score = len(parts["valid"].users_n), 0.0, scorer()
        for start in range(0, count, BLOCK):
            index = np.arange(start, min(start + BLOCK, count))
            scores_nV = score(parts["valid"].pick(index), slice(0))
            total += float(item_nll(scores_nV, y["valid"][index].cpu())) * len(index)
        return total / max(count, 1)

    settings = tune_settings(setting.job.evaluation.finetuning, protocol, seed)
    tune(model, len(parts["train"].users_n), loss_of, valid_loss, settings)
    return dict.fromkeys(SPLITS[1:], scorer())
