"""The items that users had to do with, by day, with their categories from the catalog.

In:  users and items of the published events (few columns of them), and the published catalog.
Out: one row a user, day and item. It is not part of the daily state: it would be as large as the
columns that it is read from, and the catalog of today tells the category of yesterday's items.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING

from contracts.base.clock import days_between
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS
from features.behavior.daily_state import EPOCH, with_number
from features.behavior.terms import Measure, Span
from features.behavior.users import Users, of_users
from features.daily import read_days, read_object

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

# The category of an event whose item is not in the catalog, or that has none.
NO_CATEGORY = "(none)"


def check_catalog(lake: Lake, needs: Iterable[Measure]) -> None:
    """Checks that the catalog is there if categories are needed.

    Raises:
      FootpathError: it is not published.
    """
    path = lake.single("items")
    if needs_categories(needs) and not path.exists():
        raise FootpathError(
            f"{path} is not there, and the behavior features take categories from it: "
            "materialize items first"
        )


def asks_for_items(needs: Iterable[Measure]) -> bool:
    """Tells whether some measure is of items or categories."""
    return any(name.startswith(("items", "categor", "spread")) for name, _ in needs)


def needs_categories(needs: Iterable[Measure]) -> bool:
    """Tells whether some measure is of categories."""
    return any(name.startswith(("categor", "spread")) for name, _ in needs)


def actions_of(needs: Iterable[Measure]) -> list[str]:
    """Returns the actions that some measure of items or categories is told by."""
    return sorted({name.partition("_of_")[2] for name, _ in needs if "_of_" in name})


def events_of(engine: "Backend", lake: Lake, span: Span, users: Users) -> "ir.Table":
    """Returns the events that the windows of a span see, of a range of users."""
    days = [EPOCH + dt.timedelta(days=n) for n in (span.first - span.longest + 1, span.last)]
    events = read_days(engine, lake, "events", EVENTS, days_between(*days))
    return with_number(of_users(events, users))


def pairs_of(events: "ir.Table", needs: Iterable[Measure]) -> "ir.Table":
    """Returns who had to do with which item on which day.

    Columns: user_id, n, item_id; `pairs`, how many events, and `pairs_of_<a>`, how many of an
    action that some measure is told by.
    """
    return events.group_by("user_id", "n", "item_id").agg(
        pairs=events.count(),
        **{f"pairs_of_{a}": (events.action == a).sum() for a in actions_of(needs)},
    )


def with_category(engine: "Backend", dataset: Dataset, lake: Lake, rows: "ir.Table") -> "ir.Table":
    """Adds each item's `category`, and its `place` in features.categories, or -1."""
    import ibis

    items = read_object(engine, lake.single("items"))
    places = [(items.category == name, n) for n, name in enumerate(dataset.features.categories)]
    place = ibis.cases(*places, else_=-1) if places else ibis.literal(-1)
    items = items.select("item_id", "category", place=place)
    rows = rows.left_join(items, "item_id").drop("item_id_right")
    return rows.mutate(
        category=rows.category.fill_null(NO_CATEGORY), place=rows.place.fill_null(-1)
    )


def with_categories(
    activity: "ir.Table", pairs: "ir.Table", needs: Iterable[Measure]
) -> "ir.Table":
    """Adds to each user and day the events of each category that is asked for."""
    names = sorted({name for name, _ in needs if name.startswith("category_")})
    if not names:
        return activity
    counts = {}
    for name in names:
        place, _, action = name.removeprefix("category_").partition("_of_")
        column = pairs[f"pairs_of_{action}"] if action else pairs["pairs"]
        counts[name] = column.sum(where=pairs.place == int(place)).fill_null(0).cast("int64")
    by_day = pairs.group_by("user_id", "n").agg(**counts)
    both = activity.left_join(by_day, ["user_id", "n"])
    return both.select(*activity.columns, **{name: both[name].fill_null(0) for name in names})
