"""Events as flat arrays, the one form in which they pass between the stages.

What happened is one integer, `what`: an action together with its item or query. It indexes the
table of texts in `lines`, so that writing an event copies a ready piece of JSON.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from features.shop.products import CELLS, KINDS

QUERIES = CELLS * KINDS


@dataclass(frozen=True)
class Codes:
    """Numbers for everything that can happen to a shop of so many items.

    In order: searches by query; then views, carts, purchases by slot; then the two broken rows
    that name an item, an unknown action and a negative price; last, a line that was cut off.
    """

    items: int

    def search(self, query: np.ndarray) -> np.ndarray:
        """The codes of searches by query number."""
        return query

    def view(self, slot: np.ndarray) -> np.ndarray:
        """The codes of views by slot."""
        return self._of(0, slot)

    def add_to_cart(self, slot: np.ndarray) -> np.ndarray:
        """The codes of additions to the cart by slot."""
        return self._of(1, slot)

    def purchase(self, slot: np.ndarray) -> np.ndarray:
        """The codes of purchases by slot."""
        return self._of(2, slot)

    def unknown_action(self, what: np.ndarray) -> np.ndarray:
        """The codes of rows whose action nobody has heard of, in place of what."""
        return self._of(3, self._slot(what))

    def negative_price(self, what: np.ndarray) -> np.ndarray:
        """The codes of purchases below zero, in place of what."""
        return self._of(4, self._slot(what))

    @property
    def cut_off(self) -> int:
        """The code of a line that ends in the middle."""
        return QUERIES + 5 * self.items

    def _of(self, row: int, slot: np.ndarray) -> np.ndarray:
        return slot + np.int32(QUERIES + row * self.items)

    def _slot(self, what: np.ndarray) -> np.ndarray:
        """The slot that a code names; for a search, which names none, any."""
        return np.where(what < QUERIES, what, what - QUERIES) % np.int32(self.items)


@dataclass(frozen=True)
class Events:
    """N events."""

    second: np.ndarray  # int32[N], of the shop (see calendar)
    user: np.ndarray  # int32[N], number
    device: np.ndarray  # int8[N], index into population.DEVICES
    what: np.ndarray  # int32[N], see Codes

    def __len__(self) -> int:
        return len(self.second)

    def take(self, rows: np.ndarray | slice) -> Self:
        """Those rows, in that order."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def sort_by(self, key: np.ndarray) -> Self:
        """The rows in order of an integer key, equal keys as they stood."""
        return self.take(stable_order(key))

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """The rows of all parts, one after the other."""
        names = [f.name for f in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Rows(Events):
    """N rows on their way to a file: events with an identity, a fate and an arrival."""

    day: np.ndarray  # int16[N], on which the session started, part of the id
    sequence: np.ndarray  # int32[N], within that day, the rest of the id
    fate: np.ndarray  # int8[N], see delivery.Fate
    arrival: np.ndarray  # int32[N], second of the shop


def stable_order(key: np.ndarray) -> np.ndarray:
    """The stable order of non-negative 32-bit keys.

    Sorting key and row number as one 64-bit integer uses NumPy's vectorised quicksort, which is
    several times faster than its stable argsort.
    """
    packed = key.astype(np.int64) << 32
    packed |= np.arange(len(key))
    packed.sort()
    return packed & 0xFFFFFFFF
