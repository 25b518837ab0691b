"""Counts, day by day, the rows that break each rule: by DuckDB, and again by Great Expectations.

In:  staged files, one a day, and how their table is audited (validation/tables.py).
Out: for each day its rows and broken rows by rule; what the two engines disagree on; the Data Docs
page of the run.

Many days are counted in one query and audited as one batch, since a suite costs a quarter of a
second and a day of rows often nothing. Beyond GX_ROWS rows the suite sees them batch by batch:
the expectations that hold row by row add up, and what needs a whole day (unique keys, days without
rows) is then DuckDB's alone.
"""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.clock import day_window
from contracts.tables import TIMESTAMP
from validation.docs import write_page
from validation.rules import literal
from validation.suites import ROWS_RULE, build_suite, unexpected_counts, validate
from validation.tables import Audit

# Rows that go through pandas at a time: about half a gigabyte.
GX_ROWS = 1_000_000
BATCH_ROWS = 100_000

_numbers = itertools.count()


@dataclass
class DayCounts:
    """What was found in one staged day."""

    rows: int = 0
    broken_rows: int = 0  # rows that break a row rule
    broken: dict[str, int] = field(default_factory=dict)  # rule -> rows, without zeros


class AuditedDays:
    """Staged days, open for counting and for splitting.

    Args:
      connection: DuckDB; gets a view of the audited columns, `day`, `place` (for a person),
        `place_in_file` (from 0), and the whole staged row as `staged`.
      audit: how the table is audited.
      paths: the staged file of each day, all of the audit's schema.
      timezone: of the data set.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        audit: Audit,
        paths: dict[dt.date, Path],
        timezone: str,
    ) -> None:
        self.connection = connection
        self.audit = audit
        self.paths = paths
        windows = [day_window(day, timezone) for day in paths]
        files = {
            "filename": [str(path) for path in paths.values()],
            "day": pa.array(paths, pa.date32()),
            "day_start": pa.array([start for start, _ in windows], TIMESTAMP),
            "day_end": pa.array([end for _, end in windows], TIMESTAMP),
        }
        number = next(_numbers)
        self.view = f"audited_{number}"
        connection.register(f"audited_files_{number}", pa.table(files))
        # Parquet's statistics leave NaN out, and DuckDB believes them: it would fold isnan to false
        # and skip row groups that hold nothing but NaN above a bound.
        connection.execute("SET disabled_optimizers = 'statistics_propagation,filter_pushdown'")
        columns = ", ".join(f"{sql} AS {column}" for column, sql in audit.columns.items())
        connection.execute(
            f"CREATE TEMP VIEW {self.view} AS SELECT day, {columns}, {audit.place} AS place, "
            f"file_row_number AS place_in_file, staged "
            f"FROM read_parquet({_literals(files['filename'])}, filename = true, "
            f"file_row_number = true) AS staged JOIN audited_files_{number} USING (filename)"
        )

    @property
    def broken(self) -> str:
        """The SQL that tells whether a row of the view breaks any row rule."""
        return " OR ".join(f"coalesce({rule.broken}, false)" for rule in self.audit.rules)

    def count(self) -> dict[dt.date, DayCounts]:
        """Counts every day's rows and broken rows by DuckDB."""
        counts = {day: DayCounts() for day in self.paths}
        names = [rule.name for rule in self.audit.rules]
        by_rule = ", ".join(f"count(*) FILTER ({rule.broken})" for rule in self.audit.rules)
        for day, rows, broken_rows, *broken in self.connection.execute(
            f"SELECT day, count(*), count(*) FILTER ({self.broken}), {by_rule} "
            f"FROM {self.view} GROUP BY day"
        ).fetchall():
            found = {name: n for name, n in zip(names, broken, strict=True) if n}
            counts[day] = DayCounts(rows, broken_rows, found)
        for day, rows in self._repeated_keys():
            counts[day].broken[self.audit.unique_rule] = rows
        return counts

    def _repeated_keys(self) -> list[tuple[dt.date, int]]:
        """Returns the days in which keys repeat, and how many rows share theirs with another."""
        keys = ", ".join(self.audit.unique)
        whole = " AND ".join(f"{column} IS NOT NULL" for column in self.audit.unique)
        return self.connection.execute(
            f"SELECT day, sum(rows)::BIGINT FROM (SELECT day, count(*) AS rows FROM {self.view} "
            f"WHERE {whole} GROUP BY day, {keys} HAVING count(*) > 1) GROUP BY day"
        ).fetchall()

    def disagreements(
        self, counts: dict[dt.date, DayCounts], pages: Path
    ) -> tuple[list[str], str | None]:
        """Audits the days by Great Expectations, and compares.

        Returns:
          Sentences on what it counts otherwise than DuckDB did; the (first) Data Docs page.
        """
        days = sorted(counts)
        total = sum(found.rows for found in counts.values())
        is_whole = total <= GX_ROWS
        suite = build_suite(self.audit, [str(day) for day in days] if is_whole else [])
        label = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
        unexpected: Counter[str] = Counter()
        first_page = None
        for part, rows in enumerate(self._batches(), start=1):
            result = validate(suite, rows)
            unexpected.update(unexpected_counts(result))
            name = label if is_whole else f"{label} part {part}"
            page = write_page(pages, self.audit.table, name, result)
            first_page = first_page or page
        expected: Counter[str] = Counter()
        for found in counts.values():
            expected.update(found.broken)
        expected[ROWS_RULE] = int(any(not found.rows for found in counts.values()))
        return [
            f"{self.audit.table}: Great Expectations finds {found:,} rows that break '{rule}', and "
            f"the row rules find {expected[rule]:,}: this is a fault of Footpath, please report it"
            for rule, found in sorted(unexpected.items())
            if found != expected[rule]
        ], first_page

    def _batches(self) -> Iterator[pa.Table]:
        """Yields the audited columns, at most GX_ROWS rows at a time; once if there are none."""
        columns = ", ".join(self.audit.columns)
        rows = self.connection.sql(f"SELECT day::VARCHAR AS day, {columns} FROM {self.view}")
        reader = rows.to_arrow_reader(min(GX_ROWS, BATCH_ROWS))
        parts: list[pa.RecordBatch] = []
        is_empty = True
        for part in reader:
            if parts and sum(map(len, [*parts, part])) > GX_ROWS:
                yield pa.Table.from_batches(parts)
                parts, is_empty = [], False
            parts.append(part)
        if parts or is_empty:
            yield pa.Table.from_batches(parts, reader.schema)

    def example(self, day: dt.date, rule: str) -> str:
        """Describes a row of a day that breaks a row rule."""
        column, broken = next((r.column, r.broken) for r in self.audit.rules if r.name == rule)
        value, place = self.connection.execute(
            f"SELECT {column}::VARCHAR, place FROM {self.view} WHERE day = ? AND {broken} "
            "ORDER BY place LIMIT 1",
            [day],
        ).fetchall()[0]
        return f"{column} = {'null' if value is None else value[:60]} in {place}"


def schema_fault(audit: Audit, path: Path) -> str | None:
    """Tells what a staged file lacks of its table's columns."""
    found = pq.read_schema(path)
    for wanted in audit.schema:
        if wanted.name not in found.names:
            return f"column '{wanted.name}' is missing"
        kind = found.field(wanted.name).type
        if kind != wanted.type:
            return f"column '{wanted.name}' is {kind} and should be {wanted.type}"
    return None


def _literals(values: list[str]) -> str:
    return f"[{', '.join(map(literal, values))}]"
