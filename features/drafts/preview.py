"""Preview: what a sample of a data set's first landing file would become, and what looks wrong.

In:  a data set and the folder of its files. Out: events, refused rows and counts, in memory; and a
sentence for each thing that a person should look at, with what to do. Nothing is written, and
nothing is stopped: the gate will, where it must. It goes the way of `land`: the same reader, the
same expressions, the same refusals; and the rules of the gate, where they are handed in, are
counted over the events.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from contracts.base.clock import day_window
from contracts.base.errors import FootpathError
from contracts.base.sql import literals, name, names
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.schemas import EVENT_FIELDS
from features.ingestion.listing import find_arrivals
from features.ingestion.mapping import (
    OUT_OF_RANGE,
    TOO_LATE,
    UNDATED,
    UNREADABLE,
    check_mapping,
)
from features.ingestion.partition import Partitioner
from features.ingestion.reader import RowReader

SAMPLE_BYTES = 4 << 20

# Fewer events than this tell nothing of their kind.
ENOUGH = 20

# What exporters write where there is none, in small letters.
NULL_WORDS = ("nan", "\\n", "null", "none", "nil", "undefined", "n/a", "#n/a", "<na>", "(null)")
NULL_WORDS += ("(none)", "(not set)", "not set", "[object object]")
IDS = ("user_id", "item_id", "event_id", "session_id")

# A user with this share of all events, and so many times the mean, is hardly one person.
LARGE_SHARE, TIMES_MEAN = 0.1, 5


@dataclass(frozen=True)
class Gate:
    """The gate: audited columns of an event, and rules over them that are true of a broken one."""

    columns: Mapping[str, str] = field(default_factory=dict)  # name -> SQL over an event
    rules: Mapping[str, str] = field(default_factory=dict)  # name -> SQL over those columns


@dataclass(frozen=True)
class Preview:
    """The sample, and what it would become."""

    file: str
    files: int  # how many landing files there are
    rows: int  # that the sample became, one for each element where rows explode
    refused_rows: int
    events: pa.Table  # the first ones: source_line, day and the fields of an event
    refused: pa.Table  # the first ones: source_line, broken, detail, raw
    refused_by: dict[str, int]  # at landing, by rule
    broken_by: dict[str, int]  # by rule of the gate; a row may break several
    broken_rows: int
    actions: dict[str, int]
    null_shares: dict[str, float]  # of events, by field
    distinct: dict[str, int]  # users, items, moments, ids of a day
    span: tuple[dt.datetime, dt.datetime] | None  # of all rows with a time, UTC
    is_midnight: bool  # every event lies at the beginning of its local day
    largest_user: tuple[str, int]  # and its events
    null_words: list[tuple[str, str, int]]  # field, word that may mean null, events
    twins: dict[str, tuple[str, int]]  # field -> an id N, and how many are there as N and as N.0


def preview(dataset: Dataset, source: str, rows: int = 10, gate: Gate | None = None) -> Preview:
    """Reads a sample of the first landing file below a folder or URL.

    Raises:
      FootpathError: there is no landing file, the file is broken, or an expression is wrong.
    """
    arrivals = find_arrivals(dataset, None, source)
    if not arrivals:
        raise FootpathError(f"there is no {dataset.landing.url} under {source}")
    first = [next((a for a in arrivals if not a.file.fault), arrivals[0])]
    with connect() as connection:
        check_mapping(connection, dataset)
        reader = RowReader(connection, dataset.landing, [first[0].file], SAMPLE_BYTES)
        partitioner = Partitioner(connection, dataset, first)
        for _ in reader.chunks():
            partitioner.add_rows()
        if reader.faults:
            raise FootpathError(reader.faults[0])
        fields = names(EVENT_FIELDS)
        total, bad = connection.sql("SELECT count(*), count(broken) FROM landed").fetchall()[0]
        events = connection.sql(
            f"SELECT source_line, day, {fields} FROM landed WHERE broken IS NULL "
            f"ORDER BY source_line, source_element LIMIT {int(rows)}"
        ).to_arrow_table()
        refused = connection.sql(
            "SELECT source_line, broken, detail, raw FROM landed WHERE broken IS NOT NULL "
            f"ORDER BY source_line, source_element LIMIT {int(rows)}"
        ).to_arrow_table()
        facts = _facts(connection, dataset) | _broken(connection, gate or Gate())
    return Preview(first[0].file.path, len(arrivals), total, bad, events, refused, **facts)


def _facts(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> dict:
    """Counts over the whole sample."""
    refused = connection.sql(
        "SELECT broken, count(*) FROM landed WHERE broken IS NOT NULL GROUP BY 1 ORDER BY 2 DESC"
    ).fetchall()
    actions = connection.sql(
        "SELECT action, count(*) FROM landed WHERE broken IS NULL AND action IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1000"
    ).fetchall()
    shares = ", ".join(f"avg(({name(field)} IS NULL)::INTEGER)" for field in EVENT_FIELDS)
    filled = connection.sql(f"SELECT {shares} FROM landed WHERE broken IS NULL").fetchall()[0]
    users, items, moments, ids, midnight = connection.execute(
        "SELECT count(DISTINCT user_id), count(DISTINCT item_id), count(DISTINCT timestamp), "
        "count(DISTINCT (day, event_id)) FILTER (event_id IS NOT NULL), "
        "bool_and(date_trunc('day', timezone(?, timestamp)) = timezone(?, timestamp)) "
        "FROM landed WHERE broken IS NULL",
        [dataset.timezone, dataset.timezone],
    ).fetchall()[0]
    low, high = connection.sql("SELECT min(timestamp), max(timestamp) FROM landed").fetchall()[0]
    return {
        **_odd_ids(connection),
        "refused_by": dict(refused),
        "actions": dict(actions),
        "null_shares": {f: s or 0.0 for f, s in zip(EVENT_FIELDS, filled, strict=True)},
        "distinct": {"users": users, "items": items, "moments": moments, "ids": ids},
        "span": (low, high) if low else None,
        "is_midnight": bool(midnight),
    }


def _odd_ids(connection: duckdb.DuckDBPyConnection) -> dict:
    """Ids that are hardly ids."""
    largest = connection.sql(
        "SELECT user_id, count(*) FROM landed WHERE broken IS NULL AND user_id IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1"
    ).fetchall()
    words: list[tuple[str, str, int]] = []
    twins = {}
    for column in IDS:
        words += connection.sql(
            f"SELECT '{column}', {column}, count(*) FROM landed WHERE broken IS NULL "
            f"AND lower({column}) IN ({literals(NULL_WORDS)}) GROUP BY ALL ORDER BY 3 DESC, 2"
        ).fetchall()
        ids = f"(SELECT DISTINCT {column} AS id FROM landed WHERE broken IS NULL)"
        number, count = connection.sql(
            f"SELECT min(n.id), count(n.id) FROM {ids} AS n JOIN {ids} AS f ON n.id || '.0' = f.id "
            "WHERE regexp_full_match(n.id, '-?[0-9]+')"
        ).fetchall()[0]
        if count:
            twins[column] = (number, count)
    return {"largest_user": (largest or [("", 0)])[0], "null_words": words, "twins": twins}


def _broken(connection: duckdb.DuckDBPyConnection, gate: Gate) -> dict:
    """Counts the events that break each rule of the gate, and those that break any."""
    if not gate.rules:
        return {"broken_by": {}, "broken_rows": 0}
    columns = ", ".join(f"({sql}) AS {name(column)}" for column, sql in gate.columns.items())
    counts = ", ".join(f"count(*) FILTER ({rule})" for rule in gate.rules.values())
    any_rule = " OR ".join(f"coalesce({rule}, false)" for rule in gate.rules.values())
    *found, rows = connection.sql(
        f"SELECT {counts}, count(*) FILTER ({any_rule}) FROM "
        f"(SELECT {columns} FROM landed WHERE broken IS NULL)"
    ).fetchall()[0]
    broken = {rule: count for rule, count in zip(gate.rules, found, strict=True) if count}
    return {"broken_by": broken, "broken_rows": rows}


def findings(dataset: Dataset, sample: Preview) -> list[str]:
    """A sentence for each thing that a person should look at."""
    return [
        *_refused(dataset, sample),
        *_actions(dataset, sample),
        *_broken_rules(dataset, sample),
        *_fields(dataset, sample),
        *_shape(sample),
        *_ids(dataset, sample),
    ]


def _refused(dataset: Dataset, sample: Preview) -> Iterator[str]:
    advice = {
        UNREADABLE: "fix landing.columns, csv or the expression that is named, "
        "or ask the source for rows that can be read",
        UNDATED: "fix events.timestamp",
        OUT_OF_RANGE: "fix partitions, or events.timestamp",
        TOO_LATE: "raise lateness.allowed_days, or fix events.timestamp",
    }
    first = {row["broken"]: row for row in reversed(sample.refused.to_pylist())}
    for rule, count in sample.refused_by.items():
        example = f" (line {first[rule]['source_line']}: {first[rule]['detail']})"
        where = example if rule in first else ""
        yield f"{_of(count, sample.rows)} rows are refused as {rule}{where}: {advice[rule]}."
    if OUT_OF_RANGE in sample.refused_by and sample.span:
        start, end = dataset.partitions.start, dataset.partitions.end
        low, high = sample.span
        if low < day_window(start, dataset.timezone)[0]:
            yield f"The sample begins on {low:%Y-%m-%d}, and partitions.start is {start}."
        if end and high >= day_window(end, dataset.timezone)[1]:
            yield f"The sample ends on {high:%Y-%m-%d}, and partitions.end is {end}."


def _actions(dataset: Dataset, sample: Preview) -> Iterator[str]:
    declared = set(dataset.actions)
    odd = {action: count for action, count in sample.actions.items() if action not in declared}
    if odd:
        shown = ", ".join(f"'{action}' ({count:,})" for action, count in list(odd.items())[:8])
        more = f" and {len(odd) - 8} more" if len(odd) > 8 else ""
        yield (
            f"{_of(sum(odd.values()), _events(sample))} events have an action that `actions` does "
            f"not list: {shown}{more}. Add them, or map them to others in events.action."
        )
    unseen = [action for action in dataset.actions if action not in sample.actions]
    if unseen and _events(sample) >= ENOUGH:
        yield f"`actions` lists {', '.join(unseen)}, which the sample does not have."


def _broken_rules(dataset: Dataset, sample: Preview) -> Iterator[str]:
    for rule, count in sample.broken_by.items():
        if rule != "action_known":  # told above, by action
            yield f"{_of(count, _events(sample))} events break the rule {rule}: to quarantine."
    broken, limit = sample.broken_rows, dataset.quality.max_broken_share
    if broken > limit * max(_events(sample), 1):
        yield (
            f"{broken / _events(sample):.0%} of events break a rule, and quality.max_broken_share "
            f"is {limit:.0%}: a day like this sample would stop."
        )


def _fields(dataset: Dataset, sample: Preview) -> Iterator[str]:
    if not _events(sample):
        yield "No row becomes an event."
        return
    for column in ("event_id", "item_id", "value", "session_id"):
        if getattr(dataset.events, column) and sample.null_shares[column] == 1:
            yield f"events.{column} is null in every event: fix it, or leave it out."
    repeated = round(_events(sample) * (1 - sample.null_shares["event_id"]))
    repeated -= sample.distinct["ids"]
    if repeated > 0:
        yield (
            f"{_of(repeated, _events(sample))} events have the event_id of another of their day "
            "and would count as its duplicates: is events.event_id the id of one event?"
        )


def _shape(sample: Preview) -> Iterator[str]:
    events, users = _events(sample), sample.distinct["users"]
    if events < ENOUGH:
        return
    if sample.distinct["moments"] == 1:
        yield "All events are at one moment, so there are no sessions: fix events.timestamp."
    elif sample.is_midnight:
        yield (
            "Every event is at midnight: the source has days and no times, or events.timestamp "
            "drops them. What lies on one day will be one session."
        )
    if users == 1:
        yield "All events are one user's: fix events.user_id."
    elif users >= 0.95 * events:
        yield (
            f"{events:,} events have {users:,} users, about one each: is events.user_id the user, "
            "or the id of something that happens once?"
        )


def _ids(dataset: Dataset, sample: Preview) -> Iterator[str]:
    for column, word, count in sample.null_words:
        if word not in dataset.landing.nulls:
            yield (
                f"{_of(count, _events(sample))} events have the {column} '{word}': if that means "
                f"none, list it in landing.nulls: [{_yaml_text(word)}]."
            )
    for column, (number, count) in sample.twins.items():
        sql = getattr(dataset.events, column)
        yield (
            f"events.{column} has {count:,} ids both as a whole number and with .0 ({number} and "
            f"{number}.0), which are two: use regexp_replace({sql}, '\\.0$', '') if they are one."
        )
    (user, count), users = sample.largest_user, sample.distinct["users"]
    if _events(sample) < ENOUGH or users < 2:
        return
    if count >= max(LARGE_SHARE, TIMES_MEAN / users) * _events(sample):
        yield (
            f"{_of(count, _events(sample))} events are of one user, '{user[:40]}', among "
            f"{users:,}: if that means none, list it in landing.nulls: [{_yaml_text(user)}]."
        )


def _yaml_text(text: str) -> str:
    """A text as YAML reads it back, in one line."""
    return "'" + text.replace("'", "''") + "'"


def _events(sample: Preview) -> int:
    return sample.rows - sample.refused_rows


def _of(count: int, total: int) -> str:
    share = count / max(total, 1)
    shown = f"{share:.1%}" if 0.001 <= share < 1 else ("all" if share == 1 else "under 0.1%")
    return f"{count:,} of {total:,} ({shown})"
