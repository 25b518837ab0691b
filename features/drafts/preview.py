"""Preview: what a sample of a data set's landing files would become, in counts.

In:  a data set and the folder of its files. Out: events, refused rows and counts, in memory; what
looks wrong in them, findings.py says. Nothing is written, and nothing is stopped: the gate will,
where it must. It goes the way of `land`: the same reader, the same expressions, the same refusals;
and the rules of the gate, where they are handed in, are counted over the events.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from contracts.base.sql import literals, name, names
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.schemas import EVENT_FIELDS
from features.drafts.coverage import Coverage, coverage
from features.drafts.sample import SECONDS, sample_files
from features.sessionization.agreement import agreement

# Fewer events than this tell nothing of their kind.
ENOUGH = 20

# What exporters write where there is none, in small letters.
NULL_WORDS = ("nan", "\\n", "null", "none", "nil", "undefined", "n/a", "#n/a", "<na>", "(null)")
NULL_WORDS += ("(none)", "(not set)", "not set", "[object object]")
IDS = ("user_id", "item_id", "event_id", "session_id")


@dataclass(frozen=True)
class Gate:
    """The gate: audited columns of an event, and rules over them that are true of a broken one."""

    columns: Mapping[str, str] = field(default_factory=dict)  # name -> SQL over an event
    rules: Mapping[str, str] = field(default_factory=dict)  # name -> SQL over those columns


@dataclass(frozen=True)
class Preview:
    """The sample, and what it would become."""

    file: str  # the first landing file
    files: int  # how many there are
    looked_at: int  # and how many of them were sampled
    faults: list[str]  # a sentence for each of these that landing would refuse
    rows: int  # that the sample became, one for each element where rows explode
    refused_rows: int
    events: pa.Table  # the first ones: source_line, day and the fields of an event
    refused: pa.Table  # the first ones of each rule: source_file, source_line, broken, detail, raw
    coverage: dict[str, Coverage]  # of `items` and `users`
    refused_by: dict[str, tuple[int, int]]  # at landing, by rule: rows, and files that have some
    broken_by: dict[str, int]  # by rule of the gate; a row may break several
    broken_days: dict[dt.date, tuple[int, int]]  # events that break any, and all; worst first
    days: int
    actions: dict[str, int]
    null_shares: dict[str, float]  # of events, by field
    distinct: dict[str, int]  # users, items, moments, ids of a day
    span: tuple[dt.datetime, dt.datetime] | None  # of all rows with a time, UTC
    is_midnight: bool  # every event lies at the beginning of its local day
    largest_user: tuple[str, int]  # and its events
    null_words: list[tuple[str, str, int]]  # field, word that may mean null, events
    sessions: tuple[int, int]  # events with a session id, and those where a gap says the same
    twins: dict[str, tuple[str, int]]  # field -> an id N, and how many are there as N and as N.0


def preview(
    dataset: Dataset,
    source: str,
    rows: int = 10,
    gate: Gate | None = None,
    seconds: float = SECONDS,
) -> Preview:
    """Reads a sample of every landing file below a folder or URL, and the lookup tables.

    Args:
      dataset: says what the files are.
      source: the folder, or a URL.
      rows: how many events, and how many refused rows, are given.
      gate: what is counted over the events.
      seconds: after which no more files are begun.

    Raises:
      FootpathError: there is no landing file, or an expression is wrong.
    """
    with connect() as connection:
        sample = sample_files(connection, dataset, source, seconds)
        total, bad = connection.sql("SELECT count(*), count(broken) FROM sampled").fetchall()[0]
        place = "source_file, source_line, source_element"
        events = connection.sql(
            f"SELECT source_line, day, {names(EVENT_FIELDS)} FROM sampled "
            f"WHERE broken IS NULL ORDER BY {place} LIMIT {int(rows)}"
        ).to_arrow_table()
        refused = connection.sql(
            "SELECT source_file, source_line, broken, detail, raw FROM sampled "
            # One row of each rule and file, before further ones of the same.
            "WHERE broken IS NOT NULL ORDER BY row_number() OVER "
            f"(PARTITION BY broken ORDER BY {place}), {place} LIMIT {int(rows)}"
        ).to_arrow_table()
        return Preview(
            file=sample.files[0],
            files=len(sample.files),
            looked_at=sample.looked_at,
            faults=sample.faults,
            rows=total,
            refused_rows=bad,
            events=events,
            refused=refused,
            coverage=coverage(connection, dataset, source),
            **_facts(connection, dataset),
            **_broken(connection, gate or Gate()),
        )


def _facts(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> dict:
    """Counts over the whole sample."""
    refused = connection.sql(
        "SELECT broken, count(*), count(DISTINCT source_file) FROM sampled "
        "WHERE broken IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    actions = connection.sql(
        "SELECT action, count(*) FROM sampled WHERE broken IS NULL AND action IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1000"
    ).fetchall()
    shares = ", ".join(f"avg(({name(field)} IS NULL)::INTEGER)" for field in EVENT_FIELDS)
    filled = connection.sql(f"SELECT {shares} FROM sampled WHERE broken IS NULL").fetchall()[0]
    users, items, moments, ids, midnight = connection.execute(
        "SELECT count(DISTINCT user_id), count(DISTINCT item_id), count(DISTINCT timestamp), "
        "count(DISTINCT (day, event_id)) FILTER (event_id IS NOT NULL), "
        "bool_and(date_trunc('day', timezone(?, timestamp)) = timezone(?, timestamp)) "
        "FROM sampled WHERE broken IS NULL",
        [dataset.timezone, dataset.timezone],
    ).fetchall()[0]
    low, high = connection.sql("SELECT min(timestamp), max(timestamp) FROM sampled").fetchall()[0]
    of_source = (
        "SELECT user_id, timestamp, row_number() OVER (ORDER BY source_file, source_line, "
        "source_element) AS sequence, session_id, true AS is_counted "
        "FROM sampled WHERE broken IS NULL"
    )
    return {
        **_odd_ids(connection),
        "sessions": agreement(connection, of_source, dataset.sessions),
        "refused_by": {rule: (rows, files) for rule, rows, files in refused},
        "actions": dict(actions),
        "null_shares": {f: s or 0.0 for f, s in zip(EVENT_FIELDS, filled, strict=True)},
        "distinct": {"users": users, "items": items, "moments": moments, "ids": ids},
        "span": (low, high) if low else None,
        "is_midnight": bool(midnight),
    }


def _odd_ids(connection: duckdb.DuckDBPyConnection) -> dict:
    """Ids that are hardly ids."""
    largest = connection.sql(
        "SELECT user_id, count(*) FROM sampled WHERE broken IS NULL AND user_id IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1"
    ).fetchall()
    words: list[tuple[str, str, int]] = []
    twins = {}
    for column in IDS:
        words += connection.sql(
            f"SELECT '{column}', {column}, count(*) FROM sampled WHERE broken IS NULL "
            f"AND lower({column}) IN ({literals(NULL_WORDS)}) GROUP BY ALL ORDER BY 3 DESC, 2"
        ).fetchall()
        ids = f"(SELECT DISTINCT {column} AS id FROM sampled WHERE broken IS NULL)"
        number, count = connection.sql(
            f"SELECT min(n.id), count(n.id) FROM {ids} AS n JOIN {ids} AS f ON n.id || '.0' = f.id "
            "WHERE regexp_full_match(n.id, '-?[0-9]+')"
        ).fetchall()[0]
        if count:
            twins[column] = (number, count)
    return {"largest_user": (largest or [("", 0)])[0], "null_words": words, "twins": twins}


def _broken(connection: duckdb.DuckDBPyConnection, gate: Gate) -> dict:
    """Counts the events that break each rule of the gate, and by day those that break any."""
    if not gate.rules:
        return {"broken_by": {}, "broken_days": {}, "days": 0}
    columns = ", ".join(f"({sql}) AS {name(column)}" for column, sql in gate.columns.items())
    counts = ", ".join(f"count(*) FILTER ({rule})" for rule in gate.rules.values())
    any_rule = " OR ".join(f"coalesce({rule}, false)" for rule in gate.rules.values())
    rows = f"(SELECT day AS __day, {columns} FROM sampled WHERE broken IS NULL)"
    found = connection.sql(f"SELECT {counts} FROM {rows}").fetchall()[0]
    by_day = connection.sql(
        f"SELECT __day, count(*) FILTER ({any_rule}), count(*) FROM {rows} "
        "GROUP BY 1 ORDER BY count(*) FILTER ({0}) / count(*) DESC, 1".format(any_rule)
    ).fetchall()
    return {
        "broken_by": {rule: n for rule, n in zip(gate.rules, found, strict=True) if n},
        "broken_days": {day: (broken, rows) for day, broken, rows in by_day if broken},
        "days": len(by_day),
    }
