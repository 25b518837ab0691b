"""What UBM draws from a batch: interactions, pairs of them, views of sessions, and what follows.

See models.objectives.ubm.objective for what it is used for.

Shapes: T events of B windows, N interactions or sessions, P pairs, M what follows.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contracts.recipes.methods import UbmOptions
from models.data.packed import MASK, UNK, Events, Packed, join, pack
from models.data.rng import Draw
from models.objectives.ubm.interactions import (
    Happenings,
    chosen_pairs,
    happenings_at,
    next_items,
    taking_turns,
)
from models.objectives.ubm.sessions import chosen_events, chosen_sessions, cropped
from models.objectives.views import hidden, reordered

_Followed = tuple[Packed, np.ndarray, Tensor]  # Sample's sessions, what follows, before_M


@dataclass(frozen=True)
class Sample:
    """What both stages need: the stage is known only when the step is made."""

    interactions: Happenings
    queries: Happenings  # P of them
    answers: Happenings  # the P items that were come to
    items: Happenings  # P others, not as many
    nexts: Happenings  # the P other items that were come to
    sessions: Packed  # 2N views, and what of each of the N sessions is seen of what follows
    owner_N: Tensor  # whose session each is
    follows: Happenings  # M of them
    before_M: Tensor  # the event, or the sequence, of `sessions` that each follows


def drawn(
    windows: Events, draw: Draw, options: UbmOptions, max_length: int, reads_forwards: bool
) -> Sample:
    """Draws interactions, queries and their answers, items and the next, and sessions.

    Args:
      windows: what is drawn from.
      draw: the random numbers of the windows' users.
      options: how much is drawn, and how likely.
      max_length: events that a session has at most.
      reads_forwards: no event sees a later one, so that what follows each may be told from it.
    """
    has_text_T = windows.document_T.numpy() > MASK
    chosen = chosen_events(windows, draw, "interactions", has_text_T, options.interactions)
    pairs = [
        chosen_pairs(windows, draw, name, found, options.interactions if weight else 0)
        for name, found, weight in zip(
            ("queries", "items"), next_items(windows),
            (options.query_weight, options.pair_weight), strict=True,
        )
    ]  # fmt: skip
    queries, answers, items, nexts = (
        happenings_at(windows, index, draw, 0.0) for pair in pairs for index in pair
    )
    sessions, own, owner_N = chosen_sessions(
        windows, draw, options.shortest, options.sessions, max_length
    )
    views = _views(sessions, own, options) if options.session_weight else []
    if not options.follow_weight:
        none = np.zeros(0, dtype=np.int64)
        packed, index_M, before_M = pack(join(views)), none, torch.from_numpy(none)
    elif reads_forwards:
        packed, index_M, before_M = _after_each(views, sessions, own, options)
    else:
        packed, index_M, before_M = _after_a_beginning(views, sessions, own, options)
    return Sample(
        interactions=happenings_at(windows, chosen, draw, options.id_hide, is_viewed=True),
        queries=queries,
        answers=answers,
        items=items,
        nexts=nexts,
        sessions=packed,
        owner_N=torch.from_numpy(draw.users_B)[owner_N],
        follows=happenings_at(sessions, index_M, own, options.read_hide),
        before_M=before_M,
    )


def _views(sessions: Events, own: Draw, options: UbmOptions) -> list[Events]:
    views = []
    for name in "ab":
        view = cropped(sessions, own, name, options.crop)
        view = reordered(view, own, name, options.reorder_share)
        views.append(hidden(view, own, name, options.hide_share))
    return views


def _after_each(views: list[Events], sessions: Events, own: Draw, options: UbmOptions) -> _Followed:
    """Adds whole sessions to the views; what follows is told from the event before it."""
    packed = pack(join([*views, _read(sessions, own, options)]))
    index_M = taking_turns(sessions, own, options.follows)
    # Events of a sequence lie side by side, so the one before is one row back.
    first = _count(views)
    row_T = torch.empty(len(packed.item_T), dtype=torch.int64)
    is_read_T = packed.sequence_T >= first
    place_T = sessions.starts_B[packed.sequence_T[is_read_T] - first]
    row_T[place_T + packed.position_T[is_read_T]] = torch.nonzero(is_read_T)[:, 0]
    return packed, index_M, row_T[torch.from_numpy(index_M)] - 1


def _after_a_beginning(
    views: list[Events], sessions: Events, own: Draw, options: UbmOptions
) -> _Followed:
    """Adds a random beginning of each session to the views; what follows is told from it all."""
    lengths = sessions.lengths_B.numpy()
    cut_N = 1 + own.integers("follows", np.maximum(lengths - 1, 1))[:, 0]
    everyone = torch.arange(len(lengths))
    seen = _read(sessions, own, options)
    seen = seen.cut(everyone, torch.zeros_like(everyone), torch.from_numpy(cut_N))
    followed = np.flatnonzero(cut_N < lengths)
    index_M = sessions.starts_B.numpy()[followed] + cut_N[followed]
    return pack(join([*views, seen])), index_M, _count(views) + torch.from_numpy(followed)


def _count(views: list[Events]) -> int:
    return sum(len(view.lengths_B) for view in views)


def _read(sessions: Events, own: Draw, options: UbmOptions) -> Events:
    """Returns sessions in which some items are known by their text alone."""
    chance_NL = own.uniform("read", int(sessions.lengths_B.max()))
    chance_T = chance_NL[sessions.sequence_T.numpy(), sessions.position_T.numpy()]
    where_T = torch.from_numpy(chance_T < options.read_hide)
    where_T &= (sessions.item_T > UNK) & (sessions.document_T > MASK)
    return dataclasses.replace(sessions, item_T=sessions.item_T.masked_fill(where_T, UNK))
