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
    ItemHead,
    Vectors,
    fit_item_head,
    mean_loss,
    popularity,
)
from models.ranking.ranks import Score, Scores, measure_by_count, rank_examples
from models.ranking.recent import recent_items
from models.ranking.zero_shot import native
from models.training.fit import tune


class RankingModel(nn.Module):
    """An encoder and a head over items, which are trained together."""

    def __init__(self, user_model: UserModel, head: ItemHead) -> None:
        super().__init__()
        self.user_model, self.head = user_model, head

    def loss(self, windows: Events, right_B: Tensor, recent_BR: Tensor) -> Tensor:
        """The cross-entropy of the right items, over all or a sample of the others."""
        users_BD = self.user_model(to_device(pack(windows), self.head.prior_V.device))
        needed = torch.cat([right_B, recent_BR[recent_BR > UNK]])
        catalog = self.user_model.behavior.catalog(needed)
        return self.head.nll(users_BD, catalog, right_B, recent_BR)


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

    def score(some: Labeled, block: slice) -> Scores:  # noqa: ARG001
        length = checkpoint.model.config.max_length
        query_nD = scorer.queries(last_windows(sequences, some, length))
        return lambda rows: scorer.scores(query_nD[rows])

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
        def score(some: Labeled, block: slice) -> Scores:
            recent_nR = _recent(task, setting.sequences, some)
            return _scores(head, x[split][block], items_VD, recent_nR)

        return score

    return {split: scorer(split) for split in SPLITS[1:]}


def _scores(head: ItemHead, x_nD: Tensor, items_VD: Tensor, recent_nR: Tensor) -> Scores:
    @torch.no_grad()
    def scores(rows: slice) -> Tensor:
        return head(x_nD[rows], items_VD, recent_nR[rows])

    return scores


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
    sampled = setting.checkpoint.model.behavior.sampled
    fit_item_head(head, train, valid, items_VD, seed, sampled)
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
    recent = {split: _recent(task, sequences, part).to(device) for split, part in parts.items()}

    def loss_of(chosen: np.ndarray, epoch: int) -> Tensor:  # noqa: ARG001
        windows = last_windows(sequences, parts["train"].pick(chosen), length)
        return model.loss(windows, y["train"][chosen], recent["train"][chosen])

    @torch.no_grad()
    def valid_loss() -> float:
        x_nD = window_vectors(encoder, sequences, parts["valid"]).to(device)
        valid = Vectors(x_nD, y["valid"], recent["valid"])
        return mean_loss(head, valid, encoder.behavior.items(), encoder.behavior.sampled)

    @torch.no_grad()
    def scorer() -> Score:
        items_VD = model.eval().user_model.behavior.items()

        @torch.no_grad()
        def score(some: Labeled, block: slice) -> Scores:  # noqa: ARG001
            users_nD = encoder(to_device(pack(last_windows(sequences, some, length)), device))
            return _scores(head, users_nD, items_VD, _recent(task, sequences, some).to(device))

        return score

    settings = tune_settings(setting.job.evaluation.finetuning, protocol, seed)
    tune(model, len(parts["train"].users_n), loss_of, valid_loss, settings)
    return dict.fromkeys(SPLITS[1:], scorer())
