"""Counts, day by day, the rows that break each rule: by DuckDB, and again by Great Expectations.

In:  staged files, one a day, and how their table is audited (validation/table_rules.py).
Out: for each day its rows and broken rows by rule, and what describes its clean rows; Great
Expectations' result; what the two engines disagree on.

Many days are counted in one query and audited as one batch, since a suite costs a quarter of a
second and a day of rows often nothing; days that are many rows together are counted a few at a
time, so that memory does not grow with the range. DuckDB sees every row. Up to GX_ROWS rows, so
does Great Expectations; beyond, it sees a sample of about so many, and its counts are held against
DuckDB's of the same sample. What needs a whole day (unique keys, shares, profiles) it judges over
one row a day of figures.
"""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.batches import chunks
from contracts.base.clock import day_window
from contracts.base.sql import literals, parquet
from contracts.lake.schemas import TIMESTAMP
from validation.profile import DayFrame
from validation.suites import (
    ROWS_RULE,
    build_suite,
    days_suite,
    together,
    unexpected_counts,
    validate,
)
from validation.table_rules import Audit

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

# Parts a sentence about a day from the value of a row that it shows.
EXAMPLE = ", such as "

# Rows that go through pandas, and how many broken ones may be among them on purpose.
GX_ROWS = 100_000
GX_BROKEN_ROWS = 20_000
HASHES = 1 << 30

# Rows that one query groups: what it holds grows with them.
COUNTED_ROWS = 1_000_000

_numbers = itertools.count()


@dataclass
class DayCounts:
    """What was found in one staged day."""

    rows: int = 0
    broken_rows: int = 0  # rows that break a row rule
    broken: dict[str, int] = field(default_factory=dict)  # rule -> rows, without zeros
    profile: dict[str, Any] = field(default_factory=dict)  # what describes the clean rows


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
        self.timezone = timezone
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
        listed = f"[{literals(files['filename'])}]"
        files_with_rows = parquet(listed, "filename = true", "file_row_number = true")
        connection.execute(
            f"CREATE TEMP VIEW {self.view} AS SELECT day, {columns}, {audit.place} AS place, "
            f"file_row_number AS place_in_file, staged "
            f"FROM {files_with_rows} AS staged JOIN audited_files_{number} USING (filename)"
        )

    @property
    def broken(self) -> str:
        """The SQL that tells whether a row of the view breaks any row rule."""
        return " OR ".join(f"coalesce({rule.broken}, false)" for rule in self.audit.rules)

    def parts(self) -> Iterator["AuditedDays"]:
        """Yields these days a few at a time, each a view of its own; all at once if they are few.

        A day of very many rows stands alone.
        """
        sizes = {day: pq.read_metadata(path).num_rows for day, path in self.paths.items()}
        for days in chunks(sizes.items(), COUNTED_ROWS):
            if len(days) == len(self.paths):
                yield self
            else:
                some = {day: self.paths[day] for day in days}
                yield AuditedDays(self.connection, self.audit, some, self.timezone)

    def count(self) -> dict[dt.date, DayCounts]:
        """Counts every day's rows and broken rows, and describes its clean ones."""
        counts = {day: DayCounts() for day in self.paths}
        for part in self.parts():
            counts |= part._count_rows()
            if self.audit.histograms:
                part._add_histograms(counts)
            rows = sum(counts[day].rows for day in part.paths)
            for day, repeated in part._repeated_keys(rows).items():
                counts[day].broken[self.audit.unique_rule] = repeated
        return counts

    def _count_rows(self) -> dict[dt.date, DayCounts]:
        """Counts and describes in one pass the days that have rows."""
        counts = {}
        names = [rule.name for rule in self.audit.rules]
        by_rule = [f"count(*) FILTER ({rule.broken})" for rule in self.audit.rules]
        profile = [f"{sql} FILTER (NOT is_broken)" for sql in self.audit.profile.values()]
        join = self._profile_join if profile else ""
        for day, rows, broken_rows, *found in self.connection.execute(
            f"SELECT {', '.join(['day', 'count(*)', 'count_if(is_broken)', *by_rule, *profile])} "
            f"FROM (SELECT *, {self.broken} AS is_broken FROM {self.view}) {join} GROUP BY day"
        ).fetchall():
            broken = {name: n for name, n in zip(names, found[: len(names)], strict=True) if n}
            described = dict(zip(self.audit.profile, found[len(names) :], strict=True))
            counts[day] = DayCounts(rows, broken_rows, broken, described)
        return counts

    @property
    def _profile_join(self) -> str:
        return self.audit.profile_join.replace("{view}", self.view)

    def _add_histograms(self, counts: dict[dt.date, DayCounts]) -> None:
        """Adds the histograms of the days that have rows to what describes them."""
        bins = [f'{sql} AS "{name}"' for name, sql in self.audit.histograms.items()]
        # As many of DuckDB's `histogram`s take it seconds to plan, of however few rows.
        found = self.connection.execute(
            f"SELECT day, name, bin, count(*) FROM (UNPIVOT (SELECT day, {', '.join(bins)} "
            f"FROM {self.view} {self._profile_join} WHERE NOT ({self.broken})) "
            "ON COLUMNS(* EXCLUDE day) INTO NAME name VALUE bin) GROUP BY ALL"
        ).fetchall()
        for day in self.paths:
            if counts[day].rows:
                counts[day].profile |= {name: {} for name in self.audit.histograms}
        for day, name, place, rows in found:
            counts[day].profile[name][place] = rows

    def _repeated_keys(self, rows: int) -> dict[dt.date, int]:
        """The days in which keys repeat, and how many rows share theirs with another.

        Args:
          rows: of these days; a day of very many is looked through in several passes, each over a
            share of its keys.
        """
        keys = ", ".join(self.audit.unique)
        whole = " AND ".join(f"{column} IS NOT NULL" for column in self.audit.unique)
        passes = -(-rows // COUNTED_ROWS)
        found: Counter[dt.date] = Counter()
        for number in range(passes):
            share = f"AND hash({keys}) % {passes} = {number}" if passes > 1 else ""
            repeated = self.connection.execute(
                f"SELECT day, sum(rows)::BIGINT FROM (SELECT day, count(*) AS rows "
                f"FROM {self.view} WHERE {whole} {share} GROUP BY day, {keys} "
                "HAVING count(*) > 1) GROUP BY day"
            ).fetchall()
            found.update(dict(repeated))
        return found

    def validate(
        self, counts: dict[dt.date, DayCounts], days: DayFrame | None = None
    ) -> tuple[list[str], "ExpectationSuiteValidationResult", str]:
        """Audits the days by Great Expectations, and compares with what DuckDB counted.

        Args:
          counts: of `count`.
          days: figures of each day and their bounds, which are expectations as well.

        Returns:
          Sentences on what Great Expectations counts otherwise; its result; which rows it saw.
        """
        total = sum(found.rows for found in counts.values())
        is_whole = total <= GX_ROWS
        expected: Counter[str] = Counter()
        if is_whole:
            rows, seen = self._fetch(), f"all {total:,} rows"
            for found in counts.values():
                expected.update(found.broken)
            expected[ROWS_RULE] = int(any(not found.rows for found in counts.values()))
        else:
            rows = self._draw(total, sum(found.broken_rows for found in counts.values()))
            seen = f"a sample of {len(rows):,} of {total:,} rows; the row rules saw every row"
            expected.update(self._broken_in(rows))
        suite = build_suite(self.audit, [str(day) for day in sorted(counts)] if is_whole else [])
        results = [validate(suite, rows)]
        if days and days.bounds:
            results.append(validate(days_suite(self.audit, days), days.table))
            expected.update(days.outside())
        result = together(results)
        faults = [
            f"{self.audit.table}: Great Expectations finds {found:,} rows that break '{rule}', "
            f"and the row rules find {expected[rule]:,}: this is a fault of Footpath, please "
            f"report it"
            for rule, found in sorted(unexpected_counts(result).items())
            if found != expected[rule]
        ]
        return faults, result, seen

    def _draw(self, rows: int, broken_rows: int) -> pa.Table:
        """Returns about GX_ROWS of the rows, as `_fetch` does.

        Rows are drawn by a hash of their place, so that the same day gives the same sample. Broken
        ones are drawn more often: a rule whose two sides differ must not hide among the sound.
        """
        shares = [GX_ROWS / rows, GX_BROKEN_ROWS / broken_rows if broken_rows else 0]
        sound, broken = (int(min(1, share) * HASHES) for share in (shares[0], max(shares)))
        is_drawn = (
            f"hash(day, place_in_file) % {HASHES} < "
            f"CASE WHEN {self.broken} THEN {broken} ELSE {sound} END"
        )
        # As Arrow: a table of DuckDB's would hold a block of each column for every row group read.
        return pa.concat_tables(part._fetch(is_drawn) for part in self.parts())

    def _fetch(self, condition: str = "true") -> pa.Table:
        """The audited columns of some rows, and `day` as an ISO day."""
        columns = ", ".join(self.audit.columns)
        return self.connection.sql(
            f"SELECT day::VARCHAR AS day, {columns} FROM {self.view} WHERE {condition}"
        ).to_arrow_table()

    def _broken_in(self, rows: pa.Table) -> dict[str, int]:
        """Counts the rows of `_fetch` that break each rule."""
        by_rule = ", ".join(f"count(*) FILTER ({rule.broken})" for rule in self.audit.rules)
        name = f"rows_of_{self.view}"
        self.connection.register(name, rows)
        found = self.connection.execute(f"SELECT {by_rule} FROM {name}").fetchall()[0]
        self.connection.unregister(name)
        return dict(zip([rule.name for rule in self.audit.rules], found, strict=True))

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
    """What a staged file lacks of its table's columns."""
    found = pq.read_schema(path)
    for wanted in audit.schema:
        if wanted.name not in found.names:
            return f"column '{wanted.name}' is missing"
        kind = found.field(wanted.name).type
        if kind != wanted.type:
            return f"column '{wanted.name}' is {kind} and should be {wanted.type}"
    return None
