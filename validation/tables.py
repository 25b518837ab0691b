"""What the tables behind the gate must be: columns, rules, and what is unique within a day.

An audited column is SQL over a staged row and its day (`day_start`, `day_end`: UTC instants). Rules
are over audited columns, so that DuckDB and Great Expectations see the same values. `properties`
and other nested columns never go to pandas: their lengths do, where a rule needs them.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pat

from contracts.dataset import Dataset
from contracts.tables import FEATURE_CLOCKS, FRAGMENT, SESSIONS
from validation.rules import (
    Rule,
    at_least,
    at_most,
    equal,
    finite,
    less,
    no_longer_than,
    not_less,
    number,
    one_of,
    present,
)

# Longer than any id of a sane source, and short enough to be a key everywhere.
LONGEST_ID = 512


@dataclass(frozen=True)
class Audit:
    """How one table is audited."""

    table: str
    schema: pa.Schema  # columns that a staged file must have
    columns: dict[str, str]  # audited column -> SQL
    rules: tuple[Rule, ...]
    unique: tuple[str, ...]  # audited columns that name a row within a day
    place: str  # SQL that says where a row is, for a person
    may_be_empty: bool
    max_broken_share: float  # of a day's rows

    @property
    def unique_rule(self) -> str:
        """The name under which repeated keys are counted."""
        return f"{'_'.join(self.unique)}_unique"


def events_audit(dataset: Dataset) -> Audit:
    """Returns what a day of staged events must be, from the data set's YAML."""
    quality = dataset.quality
    ids = ("event_id", "user_id", "item_id", "session_id")
    rules = [present(column) for column in ("event_id", "user_id", "timestamp", "action")]
    rules += [no_longer_than(column, LONGEST_ID) for column in ids]
    rules += [one_of("action", dataset.actions), finite("value")]
    rules += [not_less("timestamp", "day_start"), less("timestamp", "day_end")]
    if quality.min_value is not None:
        rules.append(at_least("value", quality.min_value))
    if quality.max_value is not None:
        rules.append(at_most("value", quality.max_value))
    plain = (*ids, "timestamp", "action", "day_start", "day_end")
    return Audit(
        table="events",
        schema=FRAGMENT,
        columns={column: column for column in plain} | {"value": number("value")},
        rules=tuple(rules),
        unique=("event_id",),
        place="source_file || ' line ' || source_line",
        may_be_empty=quality.allow_empty_days,
        max_broken_share=quality.max_broken_share,
    )


def sessions_audit() -> Audit:
    """Returns what a day of sessions must be."""
    # A session that the bot rule cut closes with the day; any other one closes before its end.
    last = "CASE WHEN is_cut THEN day_end ELSE day_end - INTERVAL 1 MICROSECOND END"
    plain = ("session_id", "user_id", "started_at", "ended_at", "closes_at", "length", "day_start")
    columns = {column: column for column in plain}
    columns |= {column: number(column) for column in ("duration_seconds", "value")}
    columns |= {"last_instant": last, "distinct_items": "distinct_items"}
    columns |= {"action_count": "len(actions)", "item_count": "len(item_ids)"}
    rules = [present(field.name) for field in SESSIONS if field.name in columns]
    rules += [no_longer_than(column, LONGEST_ID) for column in ("session_id", "user_id")]
    rules += [at_least("length", 1), at_least("duration_seconds", 0), at_least("distinct_items", 0)]
    rules += [finite("duration_seconds"), finite("value")]
    rules += [not_less("ended_at", "started_at"), not_less("closes_at", "ended_at")]
    rules += [not_less("closes_at", "day_start"), not_less("last_instant", "closes_at")]
    rules += [equal("action_count", "length"), equal("item_count", "length")]
    rules += [not_less("length", "distinct_items")]
    return _derived("sessions", SESSIONS, columns, rules, ("session_id",))


def features_audit(staged: pa.Schema) -> Audit:
    """Returns what a day of behaviour features must be, whichever features it has.

    Args:
      staged: the schema of a staged file, which all days of the range share: whole numbers are
        counts, floats may be negative.
    """
    keys = [pa.field("user_id", pa.string()), *FEATURE_CLOCKS]
    names = [key.name for key in keys]
    schema = pa.schema([*keys, *(field for field in staged if field.name not in names)])
    columns = {"user_id": "user_id", "day_end": "day_end"}
    columns |= {field.name: field.name for field in FEATURE_CLOCKS}
    rules = [present(column) for column in columns if column != "day_end"]
    rules += [no_longer_than("user_id", LONGEST_ID), equal("event_timestamp", "day_end")]
    rules += [not_less("created", "event_timestamp")]
    for field in staged:
        if pat.is_integer(field.type):
            columns[field.name] = field.name
            rules.append(at_least(field.name, 0))
        elif pat.is_floating(field.type):
            columns[field.name] = number(field.name)
            rules.append(finite(field.name))
    return _derived("user_behavior_features", schema, columns, rules, ("user_id", "created"))


def _derived(
    table: str, schema: pa.Schema, columns: dict[str, str], rules: list[Rule], unique: tuple
) -> Audit:
    """Returns the audit of a table of ours: no row may be broken, and a day may be empty."""
    return Audit(
        table=table,
        schema=schema,
        columns=columns,
        rules=tuple(rules),
        unique=unique,
        place=" || ' ' || ".join(f"{column}::VARCHAR" for column in unique),
        may_be_empty=True,
        max_broken_share=0.0,
    )
