"""Columns of events, sessions and items that each behavior feature is computed from.

In:  a feature's measures (measures.py). Out: pairs (table, column), as a catalogue shows them.
"""

from contracts.config.dataset import Dataset
from features.behavior.measures import CATEGORIES, PAUSES, action_of, session_columns, stem_of
from features.behavior.terms import FeatureField

Origin = tuple[str, str]  # table, column

TIME, ACTION, VALUE = ("events", "timestamp"), ("events", "action"), ("events", "value")
ITEM, CATEGORY = ("events", "item_id"), ("items", "category")

OF_SESSIONS = {
    "sessions": ["session_id"],
    "session_events": ["length"],
    "session_events_max": ["length"],
}


def origins(dataset: Dataset, field: FeatureField) -> list[Origin]:
    """Columns that a feature is computed from, in order; the user and the day are of all."""
    found = {origin for measure, _ in field.term.needs for origin in _of(dataset, measure)}
    return sorted(found)


def _of(dataset: Dataset, measure: str) -> list[Origin]:
    stem = stem_of(measure)
    if stem in PAUSES:
        return [("sessions", "started_at"), ("sessions", "ended_at")]
    if measure in session_columns():
        columns = OF_SESSIONS.get(measure, ["duration_seconds"])
        return [("sessions", column) for column in columns]
    of_action = [ACTION] if action_of(measure) or "action_" in measure else []
    if stem in CATEGORIES:
        return [ITEM, *([CATEGORY] if dataset.items else []), *of_action]
    if stem == "items":
        return [ITEM, *of_action]
    if measure.startswith("value_"):
        return [VALUE, *of_action]
    return [*of_action, TIME]
