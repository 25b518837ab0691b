"""What the tables behind the gate must be: columns, rules, and what is unique within a day.

An audited column is SQL over a staged row and its day (`day_start`, `day_end`: UTC instants). Rules
are over audited columns, so that DuckDB and Great Expectations see the same values. `properties`
and other nested columns never go to pandas: their lengths do, where a rule needs them.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.types as pat

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.schemas import FEATURE_CLOCKS, FRAGMENT, SESSIONS
from validation.drift import features_profile
from validation.expect import expected
from validation.rules import (
    Rule,
    at_least,
    at_most,
    equal,
    finite,
    less,
    literal,
    no_longer_than,
    not_less,
    number,
    one_of,
    present,
)
from validation.sketch import bin_of

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
    rule_shares: dict[str, float] = field(default_factory=dict)  # rule -> the same, of one rule
    profile: dict[str, str] = field(default_factory=dict)  # name -> aggregate over clean rows
    profile_join: str = ""  # SQL that joins what the profile needs besides

    @property
    def unique_rule(self) -> str:
        """The name under which repeated keys are counted."""
        return f"{'_'.join(self.unique)}_unique"


def events_audit(dataset: Dataset, catalog: str | None = None) -> Audit:
    """Returns what a day of staged events must be, from the data set's YAML.

    Args:
      dataset: its rules.
      catalog: the table `items`, if there is one; gives the profile its categories.

    Raises:
      FootpathError: `quality` names a rule, an action or a property that there is not.
    """
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
    columns, more_rules = expected(dataset)
    rules += more_rules
    _check_rules(dataset, [rule.name for rule in rules])
    aggregates, join = events_profile(dataset, catalog)
    return Audit(
        table="events",
        schema=FRAGMENT,
        columns={column: column for column in plain} | {"value": number("value")} | columns,
        rules=tuple(rules),
        unique=("event_id",),
        place="source_file || ' line ' || source_line",
        may_be_empty=quality.allow_empty_days,
        max_broken_share=quality.max_broken_share,
        rule_shares=dict(quality.rules),
        profile=aggregates,
        profile_join=join,
    )


def _check_rules(dataset: Dataset, names: list[str]) -> None:
    where = f"data set '{dataset.name}': quality"
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise FootpathError(f"{where}.expect says the same thing twice: {', '.join(twice)}")
    if unknown := dataset.quality.rules.keys() - set(names):
        raise FootpathError(
            f"{where}.rules names {', '.join(sorted(unknown))}, which is no rule of this data "
            f"set: there are {', '.join(sorted(names))}"
        )


def events_profile(dataset: Dataset, catalog: str | None) -> tuple[dict[str, str], str]:
    """Returns the aggregates that describe a day of events, and the join that they need.

    Args:
      dataset: says which columns there are.
      catalog: the table `items`, if there is one.
    """
    mapped = {
        "item_id": dataset.events.item_id,
        "value": dataset.events.value,
        "session_id": dataset.events.session_id,
    }
    aggregates = {"users": "count(DISTINCT user_id)", "mix.action": "histogram(action)"}
    aggregates |= {f"present.{name}": f"count({name})" for name, sql in mapped.items() if sql}
    for key in dataset.events.properties:
        aggregates[f"present.properties.{key}"] = f"count(staged.properties[{literal(key)}])"
    if dataset.events.value:
        aggregates["bins.value"] = f"histogram({bin_of('value')})"
    if not catalog:
        return aggregates, ""
    aggregates["mix.category"] = "histogram(category)"
    return aggregates, (
        "LEFT JOIN (SELECT item_id AS known_item, any_value(category) AS category "
        f"FROM read_parquet({literal(catalog)}) GROUP BY item_id) ON known_item = item_id"
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
    """Returns what a day of behavior features must be, whichever features it has.

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
    for column in staged:
        if pat.is_integer(column.type):
            columns[column.name] = column.name
            rules.append(at_least(column.name, 0))
        elif pat.is_floating(column.type):
            columns[column.name] = number(column.name)
            rules.append(finite(column.name))
    audit = _derived("user_behavior_features", schema, columns, rules, ("user_id", "created"))
    return replace(audit, profile=features_profile(staged))


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
