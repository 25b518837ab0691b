"""Features of a user's latest session: the last that has closed, within the longest window.

In:  sessions by the day on which they closed. Out: the fields of `user_session_features`, and its
daily state: of each user's day the session that ended last, and of two that ended at one instant
the one with the larger id. All features are null where no session has closed within the window, and
a count of 0 is one that was counted.
"""
# pyright: reportOperatorIssue=false
# Ibis types a column as Column, which has no operators, whatever it holds.

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

import pyarrow as pa

from contracts.config.dataset import Dataset
from contracts.lake.schemas import TIMESTAMP
from features.behavior.feature_fields import check_names
from features.behavior.measures import WHOLE, StateColumn, told_actions
from features.behavior.terms import FeatureField, Term, hours_since, largest

if TYPE_CHECKING:
    import ibis.expr.types as ir

NO_TEXT = ""  # in the state, of a session without an item: null would be one of no session


def session_fields(dataset: Dataset) -> list[FeatureField]:
    """The features of the latest session, in the order of the columns.

    Raises:
      FootpathError: two different features have one name.
    """
    days = max(dataset.features.windows)
    rest = f"the latest session that closed; null if none did in the last {days} days"

    def number(name: str, kind: str, text: str, measure: str = "") -> FeatureField:
        term = largest(f"session_{measure or name}", days)
        return FeatureField(f"last_session_{name}", kind, f"{text} {rest}", term)

    def text(name: str, what: str) -> FeatureField:
        return FeatureField(
            f"last_session_{name}", "string", f"{what} {rest}", _text(f"session_{name}", days)
        )

    fields = [
        number("events", "int64", "events of"),
        number("seconds", "float64", "seconds from the first to the last event of"),
        number("items", "int64", "different items of"),
        *(
            number(a, "int64", f"events of action {a} of", f"action_{a}")
            for a in told_actions(dataset)
        ),
    ]
    if dataset.events.value:
        fields.append(number("value", "float64", "sum of the values, 0 without any, of"))
    if told_actions(dataset):
        fields += [text("first_action", "first action of"), text("last_action", "last action of")]
    if dataset.events.item_id:
        fields.append(text("last_item", "last item of (null also if it has none)"))
    since = hours_since("session_end", days)
    what = f"hours from the last event to the end of the day: of {rest}"
    fields.append(FeatureField("hours_since_last_session", "float64", what, since))
    return check_names(dataset, fields)


def _text(measure: str, days: int) -> Term:
    """A text as it is; null where there is none."""
    return dataclasses.replace(
        largest(measure, days),
        formula=lambda rows: rows[f"{measure}_{days}"].nullif(NO_TEXT),
        definition=("text", measure, days),
    )


def latest_sessions(sessions: "ir.Table", _: Collection[str]) -> "ir.Table":
    """One row a user and day on which a session closed."""
    import ibis

    newest_first = ibis.window(
        group_by=[sessions.day, sessions.user_id],
        order_by=[ibis.desc(sessions.ended_at), ibis.desc(sessions.session_id)],
    )
    ranked = sessions.mutate(place=ibis.row_number().over(newest_first))
    rows = ranked.filter(ranked.place == 0)
    items = rows.item_ids.filter(lambda item: item.notnull())
    return rows.mutate(
        entity_id=rows.user_id,
        first_action=rows.actions[0],
        last_action=rows.actions[rows.actions.length() - 1],
        last_item=(items.length() > 0).ifelse(items[items.length() - 1], NO_TEXT),
    )


def latest_session_columns(dataset: Dataset) -> dict[str, StateColumn]:
    """The columns of a user's daily state that are made of the day's last session: one row."""
    from ibis import _

    columns = {
        "sessions": (WHOLE, _.count()),
        "session_end": (TIMESTAMP, _.ended_at.max()),
        "session_events": (WHOLE, _.length.max()),
        "session_seconds": (pa.float64(), _.duration_seconds.max()),
        "session_items": (WHOLE, _.distinct_items.max()),
        "session_value": (pa.float64(), _.value.max()),
        "session_first_action": (pa.string(), _.first_action.max()),
        "session_last_action": (pa.string(), _.last_action.max()),
        "session_last_item": (pa.string(), _.last_item.max()),
    }
    for action in told_actions(dataset):
        of_action = _.actions.filter(lambda each, action=action: each == action)
        columns[f"session_action_{action}"] = (WHOLE, of_action.length().max())
    return {name: StateColumn(kind, of, "last") for name, (kind, of) in columns.items()}
