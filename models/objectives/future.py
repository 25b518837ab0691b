"""Pre-training on the future: from many past instants, what a user does in windows ahead.

A company labels its users by what they did in the month after a day. So does this, at many days of
every user's past, for several windows, and for all that can be counted: whether anything comes,
each action, category and new item, how often, and for how much. The input is what a model may see
at the instant, events and a summary of the whole history; the representation is the vector that all
targets are read from by linear heads. A window never reaches past the end of the sequences.

The vectors of all instants of a user come from one pass of an encoder that reads forwards.

Shapes: B users, N instants of them, H windows, P targets that are true or not, Q that are amounts,
V items, D width.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.recipes.methods import FutureOptions
from models.data.packed import Packed, pack
from models.data.rng import Draw
from models.data.sequences import Sequences
from models.data.summary import DAY, Columns, Seen, signed_log, summarize
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import Objective, Outcome
from models.runtime.distributed import gather, share

SHARES = (24, 8, 4)  # of the time that the log spans: windows where none are given
MEASURED = 2000  # users that amounts are measured of
BLOCK = 1 << 22  # events that are counted at a time
TEMPERATURE = 0.1  # of the next item


@dataclass(frozen=True)
class Sample:
    """The windows of B users, the instants that are looked ahead from, and what came."""

    events: Packed
    at_N: Tensor  # the last event before each instant
    summary_NF: Tensor
    known_NH: Tensor  # whether the window ends before the sequences do
    happens_NHP: Tensor
    amount_NHQ: Tensor
    next_N: Tensor  # the item that comes next, 0 where none is known, its action and category
    next_action_N: Tensor
    next_category_N: Tensor


class Future(Objective):
    """Linear heads on the vectors of many instants."""

    seconds_H: Tensor
    mean_HQ: Tensor
    scale_HQ: Tensor
    share_V: Tensor

    def __init__(self, model: ModelConfig, options: FutureOptions) -> None:
        super().__init__(model, options)
        self.columns = Columns.of(model.sizes)
        windows = len(options.days) or len(SHARES)
        happens = 3 + self.columns.actions + self.columns.categories
        amounts = 4 + self.columns.actions
        self.register_buffer("seconds_H", torch.zeros(windows, dtype=torch.int64))
        self.register_buffer("mean_HQ", torch.zeros(windows, amounts))
        self.register_buffer("scale_HQ", torch.ones(windows, amounts))
        self.register_buffer("share_V", torch.ones(model.sizes["item"]))
        self.happens = nn.Linear(model.dim, windows * happens)
        self.amounts = nn.Linear(model.dim, windows * amounts)
        self.next = nn.Linear(model.dim, model.dim) if options.next_weight else None

    def prepare(self, sequences: Sequences) -> None:
        """Sets the windows, and measures the amounts of some users and how common items are."""
        log = sequences.cutoff - int(sequences.time.min())
        days = self.options.days
        spans = [day * DAY for day in days] or [log / part for part in SHARES]
        self.seconds_H.copy_(torch.tensor([max(1, round(span)) for span in spans]))
        counts_V = np.ones(len(self.share_V))
        for start in range(0, len(sequences.item), BLOCK):
            some = sequences.item[start : start + BLOCK]
            counts_V += np.bincount(some, minlength=len(counts_V))
        self.share_V.copy_(torch.from_numpy(counts_V / counts_V.sum()))
        users = np.flatnonzero(sequences.lengths)
        users = users[:: max(1, len(users) // MEASURED)]
        sample = self.read(sequences, Draw(0, 0, users))
        known_NH1, seen_NHQ = sample.known_NH[..., None], sample.amount_NHQ
        counts_H1 = known_NH1.sum(0).clamp(min=1)
        mean_HQ = (seen_NHQ * known_NH1).sum(0) / counts_H1
        spread_HQ = ((seen_NHQ - mean_HQ).square() * known_NH1).sum(0) / counts_H1
        self.mean_HQ.copy_(mean_HQ)
        self.scale_HQ.copy_(torch.where(spread_HQ > 1e-6, spread_HQ.sqrt(), 1.0))

    def read(self, sequences: Sequences, draw: Draw) -> Sample:
        """Draws instants of each user, and counts what was before and after them."""
        users_B, lengths_B = draw.users_B, sequences.lengths[draw.users_B]
        taken_B = np.minimum(lengths_B, self.model_config.max_length)
        start_B = draw.integers("window", lengths_B - taken_B + 1)[:, 0]
        windows = sequences.windows(users_B, start_B, taken_B)
        of_N, now_N, ends_N = self._instants(sequences, draw, start_B, taken_B)
        users_N = users_B[of_N]
        nobody_N = np.zeros(len(of_N), np.int64)
        seen = sequences.seen(users_N, nobody_N, sequences.lengths[users_N])
        until_N = _until(sequences, users_N)
        known_NH, happens_NHP, amount_NHQ = self._ahead(seen, ends_N, now_N, until_N)
        events = pack(windows)
        place_N = torch.from_numpy(ends_N - start_B[of_N] - 1)
        next_T = np.minimum(seen.first_n + ends_N, len(seen.item_T) - 1)
        has_next_N = ends_N < seen.length_n
        ids = (getattr(seen, f"{name}_T")[next_T] for name in ("item", "action", "category"))
        return Sample(
            events,
            events.starts_B[torch.from_numpy(of_N)] + place_N,
            torch.from_numpy(summarize(seen, self.columns, ends_N, now_N)),
            known_NH,
            happens_NHP,
            amount_NHQ,
            *(torch.from_numpy(np.where(has_next_N, id_N, 0).astype(np.int64)) for id_N in ids),
        )

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Reads what came from the vectors of the instants."""
        vectors_ND = model.beginnings(sample.events, sample.at_N, sample.summary_NF)
        windows = len(self.seconds_H)
        happens_NHP = self.happens(vectors_ND).unflatten(1, (windows, -1))
        amount_NHQ = self.amounts(vectors_ND).unflatten(1, (windows, -1))
        target_NHQ = (sample.amount_NHQ - self.mean_HQ) / self.scale_HQ
        right_NH = F.binary_cross_entropy_with_logits(
            happens_NHP, sample.happens_NHP, reduction="none"
        ).mean(2)
        # Amounts are skewed: a few large ones must not be all that counts.
        near_NH = F.smooth_l1_loss(amount_NHQ, target_NHQ, reduction="none").mean(2)
        known = int(sample.known_NH.sum())
        happens = (right_NH * sample.known_NH).sum() / max(1, known)
        amounts = (near_NH * sample.known_NH).sum() / max(1, known)
        loss = share(known) * (happens + amounts)
        figures = {"happens_loss": happens.detach(), "amounts_loss": amounts.detach()}
        if self.next is not None:
            following = self._next_loss(model, vectors_ND, sample)
            loss = loss + self.options.next_weight * following
            figures["next_loss"] = following.detach()
        return Outcome(loss, vectors_ND, figures)

    def encoded_events(self, sample: Sample) -> int:
        """The events of the windows."""
        return len(sample.events.item_T)

    def _instants(
        self, sequences: Sequences, draw: Draw, start_B: np.ndarray, taken_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws instants between the first event of each window and the first after it.

        They leave the shortest window ahead, and have an event of the window before them.

        Returns:
          Of which user each is, its unix second, and how many events of the user are before it.
        """
        users_B, count = draw.users_B, self.options.cuts
        first_B, end_B = sequences.offsets[users_B] + start_B, start_B + taken_B
        shortest = int(self.seconds_H.min())
        after_B = np.minimum(sequences.offsets[users_B] + end_B, len(sequences.time) - 1)
        is_last_B = end_B >= sequences.lengths[users_B]
        until_B = _until(sequences, users_B)
        latest_B = np.where(is_last_B, until_B, sequences.time[after_B])
        latest_B = np.minimum(latest_B, until_B - shortest)
        begin_B = sequences.time[first_B] + 1
        span_B = np.maximum(latest_B - begin_B, 0)
        now_BK = begin_B[:, None] + (draw.uniform("instants", count) * span_B[:, None]).astype(int)
        if shortest >= DAY:  # as of the end of a day, as vectors are made
            now_BK = sequences.cutoff - (sequences.cutoff - now_BK) // DAY * DAY
        of_N, now_N = np.repeat(np.arange(len(users_B)), count), now_BK.reshape(-1)
        ends_N = sequences.events_before(users_B[of_N], now_N)
        ends_N = np.minimum(ends_N, end_B[of_N])
        is_good_N = (ends_N > start_B[of_N]) & (now_N <= latest_B[of_N])
        return of_N[is_good_N], now_N[is_good_N], ends_N[is_good_N]

    def _ahead(
        self, seen: Seen, ends_N: np.ndarray, now_N: np.ndarray, until_N: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What came in each window: whether all of it is known, what happened, and how much."""
        known, happens, amounts = [], [], []
        for seconds in self.seconds_H.tolist():
            stop_N = np.maximum(seen.before(now_N + seconds), ends_N)

            def total(value_T: np.ndarray, stop_N: np.ndarray = stop_N) -> np.ndarray:
                return seen.between(value_T, ends_N, stop_N)

            counts = [total(np.ones(len(seen.time_T))), total(seen.is_new_T)]
            counts += [total(seen.is_action_T(nth)) for nth in range(self.columns.actions)]
            flags = [*counts, total(seen.is_new_category_T)]
            flags += [total(seen.is_category_T(nth)) for nth in range(self.columns.categories)]
            numbers = [*counts, total(seen.opens_session_T), total(seen.value_T)]
            known.append(now_N + seconds <= until_N)
            happens.append(np.stack(flags, axis=1) > 0)
            amounts.append(signed_log(np.stack(numbers, axis=1)))
        return (
            torch.from_numpy(np.stack(known, axis=1)),
            torch.from_numpy(np.stack(happens, axis=1).astype(np.float32)),
            torch.from_numpy(np.stack(amounts, axis=1).astype(np.float32)),
        )

    def _next_loss(self, model: UserModel, vectors_ND: Tensor, sample: Sample) -> Tensor:
        """Tells each instant's next event from those of the others, as dual.py does."""
        assert self.next is not None
        chosen = torch.nonzero(sample.next_N > 0)[:, 0]
        item_M = sample.next_N[chosen]
        content_MD = model.behavior.content(
            item_M, sample.next_action_N[chosen], sample.next_category_N[chosen]
        )
        query_MD = F.normalize(self.next(vectors_ND[chosen]), dim=1)
        item_M, query_MD = gather(item_M), gather(query_MD)
        if not len(item_M):
            return query_MD.sum()
        logits_MM = query_MD @ F.normalize(gather(content_MD), dim=1).T / TEMPERATURE
        logits_MM = logits_MM - self.share_V[item_M].log()
        is_same_MM = item_M[:, None] == item_M[None, :]
        is_same_MM.fill_diagonal_(False)
        logits_MM = logits_MM.masked_fill(is_same_MM, -torch.inf)
        return F.cross_entropy(logits_MM, torch.arange(len(item_M), device=logits_MM.device))


def _until(sequences: Sequences, users_n: np.ndarray) -> np.ndarray:
    """Unix seconds up to which all is known of users.

    That is the cutoff; where last events are held out of the sequences, the last that is there, for
    nobody knows that nothing came after it.
    """
    if not sequences.pointer.get("holdout"):
        return np.full(len(users_n), sequences.cutoff)
    return np.asarray(sequences.time[sequences.offsets[users_n + 1] - 1])
