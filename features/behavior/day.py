"""A day alone: what users had to do with, in the windows that end with one day.

In:  the events of the longest window. Out: one row a user with the measures of items and
categories. Nothing slides, so that two sums are enough: by user and item, then by user and
category. `windows.py` says the same for many days at once.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from features.behavior.intervals import scaled
from features.behavior.pairs import actions_of, needs_categories
from features.behavior.terms import Measure

if TYPE_CHECKING:
    import ibis.expr.types as ir

CATEGORY_COUNTS = ("category_", "spread")


def items_of_day(
    events: "ir.Table",
    needs: Iterable[Measure],
    day: int,
    with_category: "Callable[[ir.Table], ir.Table]",
) -> "ir.Table":
    """Returns user_id and `<measure>_<w>` for every measure of items and categories.

    Args:
      events: user_id, item_id, action and n of the events of the longest window.
      needs: what to compute; other measures are passed over.
      day: the number of the day with which windows end.
      with_category: adds `category` and `place` to rows with item_id.
    """
    needs = sorted(needs)
    actions = ["", *(f"_of_{action}" for action in actions_of(needs))]
    windows = sorted({w for name, w in needs if name.startswith(CATEGORY_COUNTS)})
    is_of = {of: _is(events, of.removeprefix("_of_")) for of in actions}
    seen = events.group_by("user_id", "item_id").agg(
        **{f"last{of}": events.n.max(where=where) for of, where in is_of.items()},
        **{
            f"count{of}_{w}": _sum((events.n > day - w) & where)
            for of, where in is_of.items()
            for w in windows
        },
    )
    items = {
        f"{name}_{w}": _within(seen[f"last{_of(name)}"], day, w) & seen.item_id.notnull()
        for name, w in needs
        if name.startswith("items")
    }
    if not needs_categories(needs):
        return seen.group_by("user_id").agg(**{name: _sum(is_in) for name, is_in in items.items()})
    seen = with_category(seen.mutate(**items))
    lasts, counts = [f"last{of}" for of in actions], [n for n in seen.columns if "count" in n]
    seen = seen.group_by("user_id", "category", "place").agg(
        **{name: _sum(seen[name]) for name in [*items, *counts]},
        **{name: seen[name].max() for name in lasts},
    )
    return seen.group_by("user_id").agg(
        **{name: _sum(seen[name]) for name in items},
        **{
            f"{name}_{w}": _of_categories(seen, name, day, w)
            for name, w in needs
            if name.startswith(("categor", "spread"))
        },
    )


def _of_categories(seen: "ir.Table", name: str, day: int, w: int) -> "ir.Value":
    """Sums rows of a user and category to one measure."""
    if name == "spread":
        return _sum(scaled(seen[f"count_{w}"]))
    if name.startswith("categories"):
        return _sum(_within(seen[f"last{_of(name)}"], day, w))
    place = int(name.removeprefix("category_").partition("_of_")[0])
    return _sum((seen["place"] == place).ifelse(seen[f"count{_of(name)}_{w}"], 0))


def _is(events: "ir.Table", action: str) -> Any:
    import ibis

    return events.action == action if action else ibis.literal(True)


def _of(name: str) -> str:
    """Returns how a measure is told by action: `_of_<a>`, or nothing."""
    return "".join(name.partition("_of_")[1:])


def _within(last: "ir.Value", day: int, w: int) -> "ir.Value":
    return (last > day - w).fill_null(False)


def _sum(values: "ir.Value") -> "ir.Value":
    return values.sum().fill_null(0).cast("int64")
