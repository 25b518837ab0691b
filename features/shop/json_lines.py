"""Rows as JSON lines, at millions a second.

In: rows. Out: the bytes of their lines. A line has three pieces. Its head (timestamp, id, user)
is as wide for every row, so heads are one structured array whose fields are filled from tables of
digits. Device and action are ready texts, looked up. One Arrow kernel joins the three, and the
joined column's buffer is the file.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.shop.calendar import HOUR, Calendar
from features.shop.delivery import Fate
from features.shop.event_arrays import Rows
from features.shop.population import DEVICES
from features.shop.products import Catalog, queries

CHUNK = 1 << 14  # rows: their heads stay in the processor's cache

# Field, width, and the text that is the same in every row.
HEAD = (
    ("open", b'{"ts":"'),
    ("date", 11),
    ("minute", 6),
    ("second", 2),
    ("offset", 6),
    ("to_id", b'","id":"e'),
    ("day", 8),
    ("high", 4),
    ("low", 4),
    ("to_user", b'","user":"u'),
    ("user_high", 4),
    ("user_low", 4),
    ("close", b'",'),
)
HEAD_TYPE = np.dtype([(name, f"S{t if isinstance(t, int) else len(t)}") for name, t in HEAD])
BLANK = np.array([tuple(b"" if isinstance(text, int) else text for _, text in HEAD)], HEAD_TYPE)

# What stands there instead where there is no user, and where there is no timestamp.
USERLESS = {"to_user": b'","user":', "user_high": b"null", "user_low": b"", "close": b","}
UNDATED = {"open": b'{"ts":', "date": b"null", "minute": b"", "second": b"", "offset": b"",
           "to_id": b',"id":"e'}  # fmt: skip

DIGITS = np.array([f"{n:04d}" for n in range(10_000)], "S4")
MINUTES = np.array([f"{n // 60:02d}:{n % 60:02d}:" for n in range(24 * 60)], "S6")
SECONDS = np.array([f"{n:02d}" for n in range(60)], "S2")


class Lines:
    """Writes rows of one shop."""

    def __init__(self, catalog: Catalog, calendar: Calendar):
        self._calendar = calendar
        self._whats = _whats(catalog)
        self._devices = pa.array([f'"device":"{device}",' for device in DEVICES])

    def encode(self, rows: Rows, cuts: np.ndarray) -> Iterator[tuple[int, pa.Buffer]]:
        """Writes rows[N] that are cut into F files.

        Args:
          rows: in order of files.
          cuts: int64[F + 1], the row at which each file begins, and N.

        Yields:
          The number of a file and the next piece of its text, in order.
        """
        for first in range(0, len(rows), CHUNK):
            end = min(first + CHUNK, len(rows))
            text, ends = self._chunk(rows.take(slice(first, end)))
            inside = np.unique(cuts.clip(first, end))
            files = np.searchsorted(cuts, inside, side="right") - 1
            at = ends[inside - first].tolist()
            for file, begin, stop in zip(files.tolist(), at, at[1:], strict=False):
                yield file, text.slice(begin, stop - begin)

    def _chunk(self, rows: Rows) -> tuple[pa.Buffer, np.ndarray]:
        """The text of rows[N], and where each begins and the last ends: int32[N + 1]."""
        heads = self._heads(rows)
        ends = np.arange(len(rows) + 1, dtype=np.int32) * HEAD_TYPE.itemsize
        head = pa.StringArray.from_buffers(len(rows), pa.py_buffer(ends), pa.py_buffer(heads))
        device = self._devices.take(pa.array(rows.device))
        what = self._whats.take(pa.array(rows.what))
        _, offsets, text = pc.binary_join_element_wise(head, device, what, "").buffers()
        return text, np.frombuffer(offsets, np.int32, len(rows) + 1)

    def _heads(self, rows: Rows) -> np.ndarray:
        """The heads of rows[N]: HEAD_TYPE[N]."""
        day, clock, offset = self._calendar.local(rows.second)
        heads = np.empty(len(rows), HEAD_TYPE)
        _bytes(heads)[:] = _bytes(BLANK)  # ten times faster than field by field
        heads["date"] = self._dates[day]
        minute = clock // 60
        heads["minute"], heads["second"] = MINUTES[minute], SECONDS[clock - minute * 60]
        heads["offset"] = self._offsets[offset // HOUR]
        heads["day"] = self._days[rows.day]
        heads["high"], heads["low"] = _digits(rows.sequence)
        heads["user_high"], heads["user_low"] = _digits(rows.user)
        _break(heads, rows)
        return heads

    @cached_property
    def _dates(self) -> np.ndarray:
        days = range(self._calendar.days)
        return np.array([f"{self._calendar.date(day)}T" for day in days], "S11")

    @cached_property
    def _days(self) -> np.ndarray:
        days = range(self._calendar.days)
        return np.array([f"{self._calendar.date(day):%Y%m%d}" for day in days], "S8")

    @cached_property
    def _offsets(self) -> np.ndarray:
        """Texts of the offsets from UTC, by whole hours east of it."""
        return np.array([f"+{hours:02d}:00" for hours in range(12)], "S6")


def _bytes(heads: np.ndarray) -> np.ndarray:
    """Views heads as opaque rows of bytes."""
    return heads.view(f"V{HEAD_TYPE.itemsize}")


def _digits(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower four of eight digits: S4[N] each."""
    high = numbers // 10_000
    return DIGITS[high], DIGITS[numbers - high * 10_000]


def _break(heads: np.ndarray, rows: Rows) -> None:
    """Spoils the heads of rows that lack a user or a timestamp, blank-padded to their width."""
    userless = rows.fate == Fate.MISSING_USER
    undated = rows.fate == Fate.BAD_TIMESTAMP
    heads["date"][undated] = b"2026-13-32T"
    _fill(heads, userless, USERLESS)
    _fill(heads, undated & (rows.sequence % 2 == 1), UNDATED)


def _fill(heads: np.ndarray, where: np.ndarray, texts: dict[str, bytes]) -> None:
    rows = np.flatnonzero(where)
    for name, text in texts.items():
        heads[name][rows] = text.ljust(HEAD_TYPE[name].itemsize)


def _whats(catalog: Catalog) -> pa.StringArray:
    """The text for each of events.Codes: how the line ends."""

    def with_item(action: str, *rest: object) -> pa.StringArray:
        start = f'"type":"{action}","item":"'
        return pc.binary_join_element_wise(start, catalog.item_ids, *rest, "}\n", "")

    # Only a purchase names a price, so that a sum of values is money spent.
    return pa.concat_arrays(
        [
            pa.array([f'"type":"search","query":"{query}"}}\n' for query in queries()]),
            with_item("view", '"'),
            with_item("add_to_cart", '"'),
            with_item("purchase", '","price":', catalog.prices),
            with_item("teleport", '"'),
            with_item("purchase", '","price":-', catalog.prices),
            pa.array(['"type":"vi\n']),
        ]
    )
