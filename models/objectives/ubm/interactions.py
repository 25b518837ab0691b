"""Interactions taken out of their windows: which are chosen, and which belong together.

Shapes: N interactions, L chances a text, T events.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.data.packed import MASK, UNK, Events
from models.data.rng import Draw
from models.objectives.ubm.sessions import chosen_events, nth_of, sessions_of

CHANCES = 64  # tokens of a text with random numbers of their own

Pairs = tuple[np.ndarray, np.ndarray]  # events, and which event goes with each


@dataclass(frozen=True)
class Happenings:
    """N events, out of their order, and the random numbers of two views of each."""

    item_N: Tensor
    action_N: Tensor
    category_N: Tensor
    document_N: Tensor
    chance_2NL2: Tensor  # of each token
    hides_2N: Tensor  # whether a view does without the id

    @property
    def key_N(self) -> Tensor:
        """The same number for the same item and text, which are no negatives of each other."""
        return self.document_N * (1 << 32) + self.item_N

    @property
    def read_N(self) -> Tensor:
        """The items as the first view reads them: [UNK] where it does without the id."""
        return self.item_N.masked_fill(self.hides_2N[0] & (self.document_N > MASK), UNK)


def next_items(windows: Events) -> tuple[Pairs, Pairs]:
    """Returns queries with the next item of their session, and items with the next other one."""
    item, document = windows.item_T.numpy(), windows.document_T.numpy()
    session = sessions_of(windows).session_T
    events = len(item)
    is_item = (item > UNK) | ((item == UNK) & (document > MASK))
    here = np.where(is_item, np.arange(events), events)
    ahead = np.minimum.accumulate(here[::-1])[::-1]  # the next item, itself included
    after = np.append(ahead[1:], events)
    first = np.flatnonzero((item == 0) & (document > MASK))
    other = np.flatnonzero(is_item)
    found = []
    for one, two in ((first, ahead), (other, after)):
        one = one[two[one] < events]
        two = two[one]
        is_new = (session[one] == session[two]) & (
            (item[one] != item[two]) | (document[one] != document[two])
        )
        found.append((one[is_new], two[is_new]))
    return found[0], found[1]


def chosen_pairs(windows: Events, draw: Draw, name: str, pairs: Pairs, most: int) -> Pairs:
    """Up to `most` pairs of each window."""
    one, two = pairs
    where_T = np.zeros(len(windows.item_T), dtype=bool)
    where_T[one] = most > 0
    chosen = chosen_events(windows, draw, name, where_T, most)
    return chosen, two[np.searchsorted(one, chosen)]


def taking_turns(sessions: Events, own: Draw, most: int) -> np.ndarray:
    """Up to `most` random events of each session but its first, an action at a time.

    What a page shows is many events, and what is done about it is few: each action's first choice
    comes before any action's second.
    """
    index = np.flatnonzero(sessions.position_T.numpy() > 0)
    session, place = sessions.sequence_T.numpy()[index], sessions.position_T.numpy()[index]
    action = sessions.action_T.numpy()[index]
    chance = own.uniform("follows", int(sessions.lengths_B.max()))[session, place]
    order = np.lexsort((chance, action, session))
    turn = np.empty(len(index), dtype=np.int64)
    turn[order] = nth_of(session[order] * (int(action.max(initial=0)) + 1) + action[order])
    order = np.lexsort((chance, turn, session))
    return np.sort(index[order[nth_of(session[order]) < most]])


def happenings_at(
    windows: Events, index_N: np.ndarray, draw: Draw, id_hide: float, is_viewed: bool = False
) -> Happenings:
    """Takes events out of their windows, with random numbers that follow from user and place."""
    window, place = windows.sequence_T.numpy()[index_N], windows.position_T.numpy()[index_N]
    # Each user and place has numbers of its own.
    own = Draw(draw.seed, draw.epoch, draw.users_B[window] + ((place.astype(np.int64) + 1) << 40))
    shape = (len(index_N), CHANCES if is_viewed else 0, 2)
    chances = [own.uniform(f"{name} text", shape[1] * 2).reshape(shape) for name in "ab"]
    hides = id_hide > own.uniform("id", 2).T
    names = ("item_T", "action_T", "category_T", "document_T")
    return Happenings(
        *(getattr(windows, name)[torch.from_numpy(index_N)] for name in names),
        chance_2NL2=torch.from_numpy(np.stack(chances)),
        hides_2N=torch.from_numpy(hides),
    )
