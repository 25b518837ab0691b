"""Item features: how popular an item is, what it leads to, and what is seen with it.

In:  events with an item, and sessions that closed. Out: the fields of `item_behavior_features`, and
how its daily state is made of sessions; of events it is made as that of users is.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from contracts.config.dataset import Dataset
from features.behavior.declared import within
from features.behavior.feature_fields import check_names, window_days
from features.behavior.measures import WHOLE, StateColumn, told_actions
from features.behavior.terms import FeatureField, Term, daily_change, hours_since, ratio, total

if TYPE_CHECKING:
    import ibis.expr.types as ir


def item_fields(dataset: Dataset) -> list[FeatureField]:
    """The item features of a data set, in the order of the columns.

    Raises:
      FootpathError: two different features have one name.
    """
    windows = window_days(dataset)
    fields = [field for days in windows for field in _of_window(dataset, days)]
    fields += _recency(dataset, windows[-1])
    if len(windows) > 1:
        short, long = windows[-2:]
        text = (
            f"events of the item a day {within(short)} over those {within(long)}; null without any"
        )
        trend = daily_change("events", short, long, "ratio")
        fields.append(FeatureField(f"item_events_trend_{short}d_{long}d", "float64", text, trend))
    return check_names(dataset, fields)


def _of_window(dataset: Dataset, days: int) -> Iterator[FeatureField]:
    """Popularity, conversion, what is seen with it and values of the last days."""

    def of(measure: str) -> Term:
        return total(measure, days)

    def count(name: str, measure: str, text: str) -> FeatureField:
        return FeatureField(f"item_{name}_{days}d", "int64", f"{text} {within(days)}", of(measure))

    def share(name: str, part: str, whole: str, text: str) -> FeatureField:
        text = f"{text}, {within(days)}"
        return FeatureField(f"item_{name}_{days}d", "float64", text, ratio(of(part), of(whole)))

    actions, goal = told_actions(dataset), dataset.actions[-1]
    yield count("events", "events", "events of the item")
    for action in actions:
        yield count(action, f"action_{action}", f"events of action {action} of the item")
    yield count("users", "users", "different users with an event of the item")
    yield count("active_days", "active_days", "days with an event of the item")
    yield count("sessions", "sessions", "sessions that closed and have the item")
    text = "other items per session that closed and has the item, null without any"
    yield share("co_items_mean", "session_others", "sessions", text)
    if dataset.events.value:
        text = f"sum of the values of events of the item, 0 without any, {within(days)}"
        yield FeatureField(f"item_value_sum_{days}d", "float64", text, of("value_sum"))
        text = "mean of the values of events of the item, null without any"
        yield share("value_mean", "value_sum", "value_count", text)
    for action in actions:
        if action != goal:
            text = f"events {goal} of the item per event {action}, null without any {action}"
            yield share(f"{goal}_per_{action}", f"action_{goal}", f"action_{action}", text)
    if actions:
        text = f"different users with an event {goal} of the item"
        yield count(f"{goal}_users", f"users_of_{goal}", text)
        text = f"share of the users of the item with an event {goal} of it, null without any user"
        yield share(f"{goal}_user_share", f"users_of_{goal}", "users", text)


def _recency(dataset: Dataset, days: int) -> Iterator[FeatureField]:
    lasts = {"event": ("last_event", "the last event")}
    lasts |= {a: (f"last_action_{a}", f"the last {a}") for a in told_actions(dataset)}
    for name, (measure, what) in lasts.items():
        text = (
            f"hours from {what} of the item to the end of the day; "
            f"null if the last {days} days have none"
        )
        term = hours_since(measure, days)
        yield FeatureField(f"item_hours_since_last_{name}", "float64", text, term)


def sessions_of_items(sessions: "ir.Table", _: Collection[str]) -> "ir.Table":
    """One row a session and different item, with how many `others` the session has."""
    rows = sessions.select(
        "day", others=sessions.distinct_items - 1, entity_id=sessions.item_ids.unique().unnest()
    )
    return rows.filter(rows.entity_id.notnull())


def session_columns_of_items(_: Dataset) -> dict[str, StateColumn]:
    """The columns of an item's daily state that are made of the sessions that close on the day."""
    from ibis import _ as row

    return {
        "sessions": StateColumn(WHOLE, row.count()),
        "session_others": StateColumn(WHOLE, row.others.sum()),
    }
