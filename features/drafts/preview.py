"""What a sample of a data set's first landing file would become, before anything runs.

In: a data set and the folder of its files. Out: events, refused rows and counts, in memory. Nothing
is written. It goes the way of `land`: the same reader, the same expressions, the same refusals; and
the rules of the gate, where they are handed in, are counted over the events.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.base.sql import name, names
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from features.ingestion.listing import find_arrivals
from features.ingestion.mapping import FIELDS, check_mapping
from features.ingestion.partition import Partitioner
from features.ingestion.reader import RowReader

SAMPLE_BYTES = 4 << 20


@dataclass(frozen=True)
class Gate:
    """What the gate asks of an event: audited columns, and rules over them that say `broken`."""

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


def preview(dataset: Dataset, source: str, rows: int = 10, gate: Gate | None = None) -> Preview:
    """Reads a sample of the first landing file below a folder or URL.

    Raises:
      FootpathError: there is no landing file, the file is broken, or an expression is wrong.
    """
    arrivals = find_arrivals(dataset, None, source)
    if not arrivals:
        raise FootpathError(f"there is no {dataset.landing.url} under {source}")
    first = arrivals[:1]
    with connect() as connection:
        check_mapping(connection, dataset)
        reader = RowReader(connection, dataset.landing, [first[0].file], SAMPLE_BYTES)
        partitioner = Partitioner(connection, dataset, first)
        for _ in reader.chunks():
            partitioner.add_rows()
        if reader.faults:
            raise FootpathError(reader.faults[0])
        fields = names(FIELDS)
        total, bad = connection.sql("SELECT count(*), count(broken) FROM landed").fetchall()[0]
        events = connection.sql(
            f"SELECT source_line, day, {fields} FROM landed WHERE broken IS NULL "
            f"ORDER BY source_line, place LIMIT {int(rows)}"
        ).to_arrow_table()
        refused = connection.sql(
            "SELECT source_line, broken, detail, raw FROM landed WHERE broken IS NOT NULL "
            f"ORDER BY source_line, place LIMIT {int(rows)}"
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
    shares = ", ".join(f"avg(({name(field)} IS NULL)::INTEGER)" for field in FIELDS)
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
        "refused_by": dict(refused),
        "actions": dict(actions),
        "null_shares": {f: s or 0.0 for f, s in zip(FIELDS, filled, strict=True)},
        "distinct": {"users": users, "items": items, "moments": moments, "ids": ids},
        "span": (low, high) if low else None,
        "is_midnight": bool(midnight),
    }


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
