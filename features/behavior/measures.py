"""The measures that behavior features are made of: what each is, and where it comes from.

A measure is one number of a user, or of an item, and a window, such as ("events", 7): the window of
7 days that ends with the day of a row. There are three sorts.

- Columns of the daily state: the day of a user, or item, is summed up to one value, and the days of
  a window to one again, by a sum, a maximum, or as the last of them. A new one is an entry below,
  or in the module of its table.
- Of what they had to do with (`pairs.py`): `items`, `users` and `categories`, how many different
  ones there are; `category_<i>`, events of the i-th of features.categories, each also
  `_of_<action>`; `categorized`, events with any category; `spread`, the sum over categories of
  count * ln(count), in ENTROPY_UNITS. No category is none: an event without one counts in none of
  these.
- Of the pauses between sessions that closed in the window (`intervals.py`): `gaps`, how many, and
  `gap_seconds`, `gap_squares`, `gap_last`.

Only what some feature asks for (`terms.py`) is computed, stored and read.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from contracts.config.dataset import Dataset
from contracts.lake.schemas import TIMESTAMP

if TYPE_CHECKING:
    import ibis

Measure = tuple[str, int]  # name, days of the window

# How the days of a window become one: `last` is the value of the last day with rows. A day without
# rows is 0 in a sum, and null otherwise.
Fold = Literal["sum", "max", "last"]

# Whole numbers, and decimals: their sums do not depend on the order of rows.
WHOLE, EXACT = pa.int64(), pa.decimal128(38, 6)

# A user's sum over categories of count * ln(count) is an integer of this many units.
ENTROPY_UNITS = 1_000_000_000

# How many different ones there are -> the column that tells them apart.
DISTINCT = {"items": "other_id", "users": "other_id", "categories": "category"}
CATEGORIES = ("categories", "category", "categorized", "spread")
PAUSES = ("gaps", "gap_seconds", "gap_squares", "gap_last")
# What pauses are made of: those within a day, and the sessions that end and begin a user's day.
PAUSE_COLUMNS = (
    *("day_gaps", "day_gap_seconds", "day_gap_squares", "day_gap_last"),
    *("first_start", "last_end"),
)


@dataclass(frozen=True)
class Span:
    """The days of a result, as integers, and how far back its windows see."""

    first: int
    last: int
    longest: int

    @property
    def is_day(self) -> bool:
        """Whether it is a day alone: then nothing slides, and sums by user are enough."""
        return self.first == self.last


@dataclass(frozen=True)
class StateColumn:
    """One column of the daily state."""

    kind: pa.DataType
    of: "ibis.Deferred"  # the rows of a user's or item's day -> its value
    fold: Fold = "sum"


def told_actions(dataset: Dataset) -> list[str]:
    """The actions with measures of their own: a single one would only repeat `events`."""
    return dataset.actions if len(dataset.actions) > 1 else []


def action_measure(dataset: Dataset, action: str) -> str:
    """The measure that counts the events of an action, or all `events`."""
    return f"action_{action}" if action in told_actions(dataset) else "events"


def event_columns(dataset: Dataset) -> dict[str, StateColumn]:
    """The columns of the daily state that are made of events.

    The rows have the columns of events and: `n`, the day; `hour`, the local hour; the value as
    `exact` (a decimal), as `number` (a float) and its `square`.
    """
    from ibis import _

    columns = {
        "events": StateColumn(WHOLE, _.count()),
        "active_days": StateColumn(WHOLE, (_.count() > 0).cast("int64")),
        "weekend": StateColumn(WHOLE, ((_.n + 3) % 7 >= 5).sum()),  # day 0 was a Thursday
        **{f"hour_{hour}": StateColumn(WHOLE, (_.hour == hour).sum()) for hour in range(24)},
        "last_event": StateColumn(TIMESTAMP, _.timestamp.max(), "max"),
    }
    for action in [None, *told_actions(dataset)]:
        where, of = None, ""
        if action:
            where, of = _.action == action, f"_action_{action}"
            last = _.timestamp.max(where=where)
            columns[f"action_{action}"] = StateColumn(WHOLE, where.sum())
            columns[f"last_action_{action}"] = StateColumn(TIMESTAMP, last, "max")
        columns |= {
            f"value_count{of}": StateColumn(WHOLE, _.exact.count(where=where)),
            f"value_sum{of}": StateColumn(EXACT, _.exact.sum(where=where)),
            f"value_squares{of}": StateColumn(EXACT, _.square.sum(where=where)),
            f"value_max{of}": StateColumn(pa.float64(), _.number.max(where=where), "max"),
        }
    return columns


def session_columns(_dataset: Dataset) -> dict[str, StateColumn]:
    """The columns of the daily state that are made of the sessions that close on a day.

    The rows have the columns of sessions and: `gap`, whole seconds since the session before, if it
    closed on the day; `nth`, which of the day's sessions it is; `seconds`, the duration as a
    decimal.
    """
    from ibis import _

    return {
        "sessions": StateColumn(WHOLE, _.count()),
        "session_events": StateColumn(WHOLE, _.length.cast("int64").sum()),
        "session_seconds": StateColumn(EXACT, _.seconds.sum()),
        "session_events_max": StateColumn(WHOLE, _.length.max(), "max"),
        "session_seconds_max": StateColumn(pa.float64(), _.duration_seconds.max(), "max"),
        "day_gaps": StateColumn(WHOLE, _.gap.count()),
        "day_gap_seconds": StateColumn(WHOLE, _.gap.sum()),
        "day_gap_squares": StateColumn(WHOLE, (_.gap * _.gap).sum()),
        # Of these no window is made, but pauses: days without sessions have none.
        "first_start": StateColumn(TIMESTAMP, _.started_at.min(), "max"),
        "last_end": StateColumn(TIMESTAMP, _.ended_at.max(), "max"),
        "day_gap_last": StateColumn(WHOLE, _.gap.argmax(_.nth), "max"),
    }


def stem_of(measure: str) -> str:
    """A measure's name without the action or category that it is of."""
    return "category" if measure.startswith("category_") else measure.partition("_of_")[0]


def category_place(measure: str) -> int:
    """The place in `features.categories` of the category that a measure counts."""
    return int(measure.removeprefix("category_").partition("_of_")[0])


def action_of(measure: str) -> str:
    """The action that a measure of items or categories is told by; '' for all."""
    return measure.partition("_of_")[2]


def asked_windows(needs: Iterable[Measure], stems: Iterable[str]) -> dict[str, list[int]]:
    """The windows of each measure of some stems."""
    windows: dict[str, list[int]] = {}
    for name, days in sorted(needs):
        if stem_of(name) in stems:
            windows.setdefault(name, []).append(days)
    return windows


def is_interval(measure: str) -> bool:
    """Whether a measure is no sum over days, but of what enters and leaves a window."""
    return stem_of(measure) in (*DISTINCT, "spread", *PAUSES)


def asks_for_pairs(needs: Iterable[Measure]) -> bool:
    """Whether some measure is of items, users or categories."""
    return any(stem_of(name) in (*DISTINCT, *CATEGORIES) for name, _ in needs)


def needs_categories(needs: Iterable[Measure]) -> bool:
    """Whether some measure is of categories."""
    return any(stem_of(name) in CATEGORIES for name, _ in needs)


def actions_of(needs: Iterable[Measure]) -> list[str]:
    """The actions that some measure of items, users or categories is told by."""
    of_pairs = (name for name, _ in needs if stem_of(name) in (*DISTINCT, *CATEGORIES))
    return sorted({action_of(name) for name in of_pairs} - {""})
