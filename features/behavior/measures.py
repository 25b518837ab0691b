"""The measures that behavior features are made of: what each is, and where it comes from.

A measure is one number of a user and a window, such as ("events", 7): the window of 7 days that
ends with the day of a row. There are three sorts.

- Columns of the daily state (`state_columns`): a user's day is summed up to one value, and the days
  of a window to one again, by a sum or a maximum. A new one is an entry below.
- Of items and categories (`pairs.py`): `items` and `categories`, how many different ones there are;
  `category_<i>`, events of the i-th of features.categories, each also `_of_<action>`; `spread`, the
  sum over categories of count * ln(count), in ENTROPY_UNITS.
- Of the pauses between sessions that closed in the window (`intervals.py`): `gaps`, how many, and
  `gap_seconds`, `gap_squares`, `gap_last`.

Only what some feature asks for (`terms.py`) is computed, stored and read.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from contracts.config.dataset import Dataset
from contracts.lake.schemas import TIMESTAMP

if TYPE_CHECKING:
    import ibis.expr.types as ir

Measure = tuple[str, int]  # name, days of the window

# The method by which the days of a window become one.
Fold = Literal["sum", "max"]

# Whole numbers, and decimals: their sums do not depend on the order of rows.
WHOLE, EXACT = pa.int64(), pa.decimal128(38, 6)

# A user's sum over categories of count * ln(count) is an integer of this many units.
ENTROPY_UNITS = 1_000_000_000

# How many different ones there are -> the column that tells them apart.
DISTINCT = {"items": "item_id", "categories": "category"}
GAPS = ("gaps", "gap_seconds", "gap_squares", "gap_last")
INTERVALS = (*DISTINCT, "spread", *GAPS)


@dataclass(frozen=True)
class StateColumn:
    """One column of the daily state."""

    kind: pa.DataType
    of: "Callable[[ir.Table], ir.Value]"  # the rows of a user's day -> its value
    fold: Fold = "sum"  # a day without rows is 0 in a sum, and nothing in a maximum


def told_actions(dataset: Dataset) -> list[str]:
    """Returns the actions with measures of their own: a single one would only repeat `events`."""
    return dataset.actions if len(dataset.actions) > 1 else []


def action_measure(dataset: Dataset, action: str) -> str:
    """Returns the measure that counts the events of an action, or all `events`."""
    return f"action_{action}" if action in told_actions(dataset) else "events"


def event_columns(dataset: Dataset) -> dict[str, StateColumn]:
    """Returns what a user's events of a day are summed up to.

    The rows have, besides the columns of events, `n` (the day), the local `hour`, and the value as
    `exact` (decimal), `number` (float) and `square`.
    """
    import ibis

    columns = {
        "events": StateColumn(WHOLE, lambda rows: rows.count()),
        "active_days": StateColumn(WHOLE, lambda rows: ibis.least(rows.count(), 1)),
        # Day 0 was a Thursday.
        "weekend": StateColumn(WHOLE, lambda rows: ((rows.n + 3) % 7 >= 5).sum()),
    }
    for hour in range(24):
        columns[f"hour_{hour}"] = StateColumn(WHOLE, _when(lambda rows, h: rows.hour == h, hour))
    columns["last_event"] = StateColumn(TIMESTAMP, lambda rows: rows.timestamp.max(), "max")
    columns |= _value_columns("", lambda _: None)
    for action in told_actions(dataset):
        ...
    return columns
