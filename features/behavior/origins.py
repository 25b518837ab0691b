"""Columns of events, sessions and items that each feature is computed from.

In:  a feature's measures (measures.py). Out: pairs (table, column), as a catalogue shows them.
"""

from contracts.config.dataset import Dataset
from features.behavior.measures import CATEGORIES, PAUSES, action_of, stem_of
from features.behavior.tables import BEHAVIOR, FeatureTable
from features.behavior.terms import FeatureField

Origin = tuple[str, str]  # table, column

TIME, ACTION, VALUE = ("events", "timestamp"), ("events", "action"), ("events", "value")
ITEM, CATEGORY = ("events", "item_id"), ("items", "category")

OF_SESSIONS = {
    "sessions": ["session_id"],
    "session_events": ["length"],
    "session_events_max": ["length"],
    "session_others": ["item_ids"],
    "session_items": ["item_ids"],
    "session_last_item": ["item_ids"],
    "session_value": ["value"],
    "session_end": ["ended_at"],
}


def origins(dataset: Dataset, field: FeatureField, table: FeatureTable = BEHAVIOR) -> list[Origin]:
    """Columns that a feature is computed from, in order; who or what, and the day are of all."""
    found = {origin for measure, _ in field.term.needs for origin in _of(dataset, table, measure)}
    return sorted(found)


def _of(dataset: Dataset, table: FeatureTable, measure: str) -> list[Origin]:
    stem = stem_of(measure)
    if stem in PAUSES:
        return [("sessions", "started_at"), ("sessions", "ended_at")]
    if measure.startswith(("session", "day_gap")):
        of_actions = ["actions"] if "action" in measure else ["duration_seconds"]
        return [("sessions", column) for column in OF_SESSIONS.get(measure, of_actions)]
    of_action = [ACTION] if action_of(measure) or "action_" in measure else []
    if stem in CATEGORIES:
        return [ITEM, *([CATEGORY] if dataset.items else []), *of_action]
    if stem in ("items", "users"):
        return [("events", table.other), *of_action]
    if measure.startswith("value_"):
        return [VALUE, *of_action]
    return [*of_action, TIME]
