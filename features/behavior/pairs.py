"""What users, or items, had to do with by day: items with their categories, or users.

In:  users and items of the published events (few columns of them), and the published catalog.
Out: one row a user, day and item, told by the user (`entity_id`) or by the item; the other one is
`other_id`. It is not part of the daily state: it would be as large as the columns that it is read
from, and the catalog of today tells the category of yesterday's items.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import datetime as dt
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from contracts.base.clock import days_between
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS
from features.behavior.daily_state import EPOCH, keyed, with_number
from features.behavior.intervals import scaled
from features.behavior.measures import (
    CATEGORIES,
    DISTINCT,
    Measure,
    Span,
    action_of,
    actions_of,
    asked_windows,
    category_place,
    needs_categories,
    stem_of,
)
from features.behavior.ranges import Ids, in_range
from features.behavior.tables import FeatureTable
from features.daily import read_days, read_object

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend


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


def events_of(
    engine: "Backend", lake: Lake, table: FeatureTable, span: Span, ids: Ids
) -> "ir.Table":
    """The events that the windows of a span see, of a range of users or items."""
    days = [EPOCH + dt.timedelta(days=n) for n in (span.first - span.longest + 1, span.last)]
    events = read_days(engine, lake, "events", EVENTS, days_between(*days))
    events = keyed(events, table)
    return with_number(in_range(events.mutate(other_id=events[table.other]), ids))


def pairs_of(events: "ir.Table", needs: Iterable[Measure]) -> "ir.Table":
    """Who had to do with which item, or which item with whom, on which day.

    Columns: entity_id, n, other_id; `pairs`, how many events, and `pairs_of_<a>`, how many of an
    action that some measure is told by.
    """
    return events.group_by("entity_id", "n", "other_id").agg(
        pairs=events.count(),
        **{f"pairs_of_{a}": (events.action == a).sum() for a in actions_of(needs)},
    )


def with_category(engine: "Backend", dataset: Dataset, lake: Lake, rows: "ir.Table") -> "ir.Table":
    """Adds each item's `category`, null if none, and its `place` in features.categories, or -1."""
    import ibis

    items = read_object(engine, lake.single("items"))
    places = [(items.category == name, n) for n, name in enumerate(dataset.features.categories)]
    place = ibis.cases(*places, else_=-1) if places else ibis.literal(-1)
    items = items.select(other_id=items.item_id, category=items.category.nullif(""), place=place)
    rows = rows.left_join(items, "other_id").drop("other_id_right")
    return rows.mutate(place=rows.place.fill_null(-1))


def with_categories(
    activity: "ir.Table", pairs: "ir.Table", needs: Iterable[Measure]
) -> "ir.Table":
    """Adds to each user and day the events of each category that is asked for."""
    names = list(asked_windows(needs, ["category", "categorized"]))
    if not names:
        return activity
    counts = {}
    for name in names:
        column = pairs[f"pairs{_of(name)}"]
        counts[name] = column.sum(where=_is_in(pairs, name)).fill_null(0).cast("int64")
    by_day = pairs.group_by("entity_id", "n").agg(**counts)
    both = activity.left_join(by_day, ["entity_id", "n"])
    return both.select(*activity.columns, **{name: both[name].fill_null(0) for name in names})


def distinct_of_day(
    events: "ir.Table",
    needs: Iterable[Measure],
    day: int,
    with_category: "Callable[[ir.Table], ir.Table]",
) -> "ir.Table":
    """Returns entity_id and `<measure>_<w>` of pairs and categories, in windows of one day.

    Nothing slides, so that two sums are enough: by user and item, then by user and category.
    `changes_of` and `with_categories` are the same for many days at once.

    Args:
      events: entity_id, other_id, action and n of the events of the longest window.
      needs: what to compute; other measures are passed over.
      day: the number of the day with which windows end.
      with_category: adds `category` and `place` to rows with other_id.
    """
    needs = sorted(needs)
    actions = ["", *(f"_of_{action}" for action in actions_of(needs))]
    windows = sorted(
        {w for name, w in needs if stem_of(name) in ("category", "categorized", "spread")}
    )
    is_of = {of: _is(events, of.removeprefix("_of_")) for of in actions}
    seen = events.group_by("entity_id", "other_id").agg(
        **{f"last{of}": events.n.max(where=where) for of, where in is_of.items()},
        **{
            f"count{of}_{w}": _sum((events.n > day - w) & where)
            for of, where in is_of.items()
            for w in windows
        },
    )
    others = {
        f"{name}_{w}": _within(seen[f"last{_of(name)}"], day, w) & seen.other_id.notnull()
        for name, w in needs
        if DISTINCT.get(stem_of(name)) == "other_id"
    }
    if not needs_categories(needs):
        return seen.group_by("entity_id").agg(
            **{name: _sum(is_in) for name, is_in in others.items()}
        )
    seen = with_category(seen.mutate(**others))
    lasts, counts = [f"last{of}" for of in actions], [n for n in seen.columns if "count" in n]
    seen = seen.group_by("entity_id", "category", "place").agg(
        **{name: _sum(seen[name]) for name in [*others, *counts]},
        **{name: seen[name].max() for name in lasts},
    )
    return seen.group_by("entity_id").agg(
        **{name: _sum(seen[name]) for name in others},
        **{
            f"{name}_{w}": _of_categories(seen, name, day, w)
            for name, w in needs
            if stem_of(name) in CATEGORIES
        },
    )


def _of_categories(seen: "ir.Table", name: str, day: int, w: int) -> "ir.Value":
    """Sums rows of a user and category to one measure."""
    if stem_of(name) == "categories":
        return _sum(_within(seen[f"last{_of(name)}"], day, w) & seen.category.notnull())
    count = seen[f"count{_of(name)}_{w}"]
    return _sum(_is_in(seen, name).ifelse(scaled(count) if name == "spread" else count, 0))


def _is_in(rows: "ir.Table", name: str) -> Any:
    """Whether rows of items or categories count in a measure: of one category, or of any."""
    if stem_of(name) != "category":
        return rows.category.notnull()
    return rows["place"] == category_place(name)


def _is(events: "ir.Table", action: str) -> Any:
    import ibis

    return events.action == action if action else ibis.literal(True)


def _of(name: str) -> str:
    """How a measure is told by action: `_of_<a>`, or nothing."""
    return f"_of_{action}" if (action := action_of(name)) else ""


def _within(last: "ir.Value", day: int, w: int) -> "ir.Value":
    return (last > day - w).fill_null(False)


def _sum(values: "ir.Value") -> "ir.Value":
    return values.sum().fill_null(0).cast("int64")
