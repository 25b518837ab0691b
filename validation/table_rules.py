"""What the tables behind the gate must be: columns, rules, and what is unique within a day.

An audited column is SQL over a staged row and its day (`day_start`, `day_end`: UTC instants). Rules
are over audited columns, so that DuckDB and Great Expectations see the same values. `properties`
and other nested columns never go to pandas: their lengths do, where a rule needs them.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.types as pat

from contracts.base.errors import FieldError
from contracts.base.sql import literal, parquet
from contracts.config.dataset import Dataset
from contracts.config.policy import Expect
from contracts.lake.schemas import FEATURE_CLOCKS, SESSIONS, STAGED
from validation.descriptions import bin_of
from validation.drift import features_histograms, newest
from validation.rules import (
    Rule,
    at_least,
    at_most,
    equal,
    finite,
    less,
    matches,
    no_longer_than,
    not_less,
    number,
    one_of,
    present,
)

# Longer than any id of a sane source, and short enough to be a key everywhere.
LONGEST_ID = 512

# A session is named `<user>-<microseconds>`, or `<user>-<microseconds>-<id of the source>`, in
# which a character may take three.
LONGEST_SESSION_ID = LONGEST_ID + len("-") + len(str(-(2**63))) + len("-") + 3 * LONGEST_ID


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
    histograms: dict[str, str] = field(default_factory=dict)  # name -> bin of a clean row
    profile_join: str = ""  # SQL that joins what both need besides; {view}: audited rows

    @property
    def unique_rule(self) -> str:
        """The name under which repeated keys are counted."""
        return f"{'_'.join(self.unique)}_unique"


def events_audit(dataset: Dataset, catalog: str | None = None) -> Audit:
    """What a day of staged events must be, from the data set's YAML.

    Args:
      dataset: its rules.
      catalog: the table `items`, if there is one; gives the profile its categories.

    Raises:
      FieldError: `quality` names a rule that there is not, or says a thing twice.
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
        schema=STAGED,
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


def expected(dataset: Dataset) -> tuple[dict[str, str], list[Rule]]:
    """The audited columns (name -> SQL) and the rules that `quality.expect` asks for."""
    columns: dict[str, str] = {}
    rules: list[Rule] = []
    for entry in dataset.quality.expect:
        column, made = _compile(entry)
        columns |= column
        rules += made
    return columns, rules


def _compile(entry: Expect) -> tuple[dict[str, str], list[Rule]]:
    """The audited columns and rules of one entry."""
    source = _source(entry.column)
    of_actions = f"_of_{'_'.join(entry.actions)}" if entry.actions else ""
    name = f"{entry.column.replace('.', '_')}{of_actions}"
    told = f"{entry.column}{' of ' + ' or '.join(entry.actions) if entry.actions else ''}"
    applies = f"action IN ({', '.join(map(literal, entry.actions))})" if entry.actions else "true"
    columns = {name: f"CASE WHEN {applies} THEN {source} END"}
    rules: list[Rule] = []
    if entry.required:
        # `present` is broken by nulls: where nothing is required, something must stand.
        columns[f"{name}_or_none"] = f"CASE WHEN {applies} THEN ({source})::VARCHAR ELSE '' END"
        rule = present(f"{name}_or_none")
        rules.append(replace(rule, name=f"{name}_required", sentence=f"{told} must be there"))
    if entry.one_of:
        rules.append(one_of(name, entry.one_of))
    if entry.matches:
        rules.append(matches(name, entry.matches))
    if entry.min is not None:
        rules.append(at_least(name, entry.min))
    if entry.max is not None:
        rules.append(at_most(name, entry.max))
    suffix = "_expected" if not of_actions else ""
    return columns, [
        replace(
            rule,
            # The plain rules of the same column keep their names.
            name=rule.name if rule.name.endswith("_required") else f"{rule.name}{suffix}",
            sentence=rule.sentence.replace(name, told, 1),
        )
        for rule in rules
    ]


def _source(column: str) -> str:
    if column == "value":
        return number("value")
    _, _, key = column.partition(".")
    return f"properties[{literal(key)}]" if key else column


def _check_rules(dataset: Dataset, names: list[str]) -> None:
    where = f"data set '{dataset.name}'"
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        text = f"says the same thing twice: {', '.join(twice)}"
        raise FieldError(where, [(("quality", "expect"), text)])
    known = f"is no rule of this data set: there are {', '.join(sorted(names))}"
    unknown = sorted(dataset.quality.rules.keys() - set(names))
    if unknown:
        raise FieldError(where, [(("quality", "rules", rule), known) for rule in unknown])


def events_profile(dataset: Dataset, catalog: str | None) -> tuple[dict[str, str], str]:
    """The aggregates that describe a day of events, and the join that they need.

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
        f"FROM {parquet(literal(catalog))} GROUP BY item_id) ON known_item = item_id"
    )


def sessions_audit() -> Audit:
    """What a day of sessions must be."""
    # A session that the bot rule cut closes with the day; any other one closes before its end.
    last = "CASE WHEN is_cut THEN day_end ELSE day_end - INTERVAL 1 MICROSECOND END"
    plain = ("session_id", "user_id", "started_at", "ended_at", "closes_at", "length", "day_start")
    columns = {column: column for column in plain}
    columns |= {column: number(column) for column in ("duration_seconds", "value")}
    columns |= {"last_instant": last, "distinct_items": "distinct_items"}
    columns |= {"action_count": "len(actions)", "item_count": "len(item_ids)"}
    rules = [present(field.name) for field in SESSIONS if field.name in columns]
    rules += [no_longer_than("session_id", LONGEST_SESSION_ID)]
    rules += [no_longer_than("user_id", LONGEST_ID)]
    rules += [at_least("length", 1), at_least("duration_seconds", 0), at_least("distinct_items", 0)]
    rules += [finite("duration_seconds"), finite("value")]
    rules += [not_less("ended_at", "started_at"), not_less("closes_at", "ended_at")]
    rules += [not_less("closes_at", "day_start"), not_less("last_instant", "closes_at")]
    rules += [equal("action_count", "length"), equal("item_count", "length")]
    rules += [not_less("length", "distinct_items")]
    return _derived("sessions", SESSIONS, columns, rules, ("session_id",))


def features_audit(staged: pa.Schema, table: str = "user_behavior_features") -> Audit:
    """What a day of a table of features must be, whichever features it has.

    Args:
      staged: the schema of a staged file, which all days of the range share: first who or what a
        row is of; whole numbers are counts, floats may be negative.
      table: its name.
    """
    key = staged.names[0]
    keys = [pa.field(key, pa.string()), *FEATURE_CLOCKS]
    names = [field.name for field in keys]
    schema = pa.schema([*keys, *(field for field in staged if field.name not in names)])
    columns = {key: key, "day_end": "day_end"}
    columns |= {field.name: field.name for field in FEATURE_CLOCKS}
    rules = [present(column) for column in columns if column != "day_end"]
    rules += [no_longer_than(key, LONGEST_ID), equal("event_timestamp", "day_end")]
    rules += [not_less("created", "event_timestamp")]
    for column in staged:
        if pat.is_integer(column.type):
            columns[column.name] = column.name
            rules.append(at_least(column.name, 0))
        elif pat.is_floating(column.type):
            columns[column.name] = number(column.name)
            rules.append(finite(column.name))
    audit = _derived(table, schema, columns, rules, (key, "created"))
    return replace(audit, histograms=features_histograms(staged), profile_join=newest(key))


def _derived(
    table: str, schema: pa.Schema, columns: dict[str, str], rules: list[Rule], unique: tuple
) -> Audit:
    """The audit of a table of ours: no row may be broken, and a day may be empty."""
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
