"""Stage, audit, publish: what stands between a staged day and its readers.

In:  staged days. Out: a verdict on each, with the clean rows and the refused ones as files; and
`publish`, which makes them visible, one object a day, in one step.

A day of events with some broken rows goes on without them, and they go to quarantine. A day stops
when more of its rows are broken than `quality.max_broken_share`, when all are, when ids repeat,
when it has no rows though the YAML does not allow that, or when its schema is not the table's. A
stopped day leaves what was published before as it was. Tables of ours (sessions, behaviour
features) have no quarantine: one broken row stops the day, for it is a fault of the code.

Rows delivered = published + quarantined + repeats: asserted for every day of events, on the files.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import duckdb
import numpy as np
import pyarrow.parquet as pq

from contracts.dataset import Dataset
from contracts.engine import connect
from contracts.lake import Lake, publish_file
from validation.counts import AuditedDays, DayCounts, schema_fault
from validation.quarantine import quarantine_day
from validation.split import write_clean, write_refused
from validation.tables import Audit, events_audit, features_audit, sessions_audit

# Stopped days that get a Data Docs page of their own; the others are on the page of the range.
PAGES_OF_STOPPED_DAYS = 10

NONE_BROKEN = np.empty(0, np.int64)


class Staged(Protocol):
    """A staged day of events (features/events.py)."""

    @property
    def path(self) -> Path:
        """The staged file: schema FRAGMENT, without repeats."""
        ...

    @property
    def fragment_rows(self) -> int:
        """Rows delivered, repeats included."""
        ...

    @property
    def repeats(self) -> int:
        """Rows that were left out as repeats."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one day of one table."""

    day: dt.date
    passed: bool
    rows_in: int  # delivered or staged
    rows_published: int  # 0 for a stopped day
    rows_quarantined: int  # for a stopped day, those that break rules
    broken: dict[str, int] = field(default_factory=dict)  # rule -> rows
    failures: list[str] = field(default_factory=list)  # sentences, why the day stopped
    docs: str | None = None  # path of the Data Docs page
    repeats: int = 0
    clean: Path | None = None  # staged, to be published; None for a stopped day
    refused: Path | None = None  # staged, for quarantine; None if no row is broken


@dataclass(frozen=True)
class _Finding:
    """What an audit found in one staged day."""

    counts: DayCounts
    failures: list[str]
    docs: str | None


def audit_events(
    dataset: Dataset, lake: Lake, staged: Mapping[dt.date, Staged], folder: Path
) -> dict[dt.date, Verdict]:
    """Audits staged days of events, and separates clean rows from broken ones.

    Args:
      dataset: gives the rules (actions, quality) and the time zone.
      lake: gets the Data Docs.
      staged: the days, with what was staged of each.
      folder: staging; gets the files that `publish` makes visible.
    """
    audit = events_audit(dataset)
    paths = {day: part.path for day, part in staged.items()}
    verdicts = {}
    with connect() as connection:
        rows, findings = _audit(connection, dataset, lake, audit, paths)
        has_broken = any(finding.counts.broken_rows for finding in findings.values())
        broken = write_refused(rows, folder / "refused") if rows and has_broken else {}
    for day, finding in findings.items():
        clean = folder / "clean" / f"{day}.parquet"
        if not finding.failures:
            write_clean(paths[day], broken.get(day, NONE_BROKEN), clean)
        refused = folder / "refused" / f"{day}.parquet" if day in broken else None
        verdicts[day] = _events_verdict(day, staged[day], finding, clean, refused)
    return verdicts


def _events_verdict(
    day: dt.date, staged: Staged, finding: _Finding, clean: Path, refused: Path | None
) -> Verdict:
    passed = not finding.failures
    published = pq.read_metadata(clean).num_rows if passed else 0
    quarantined = pq.read_metadata(refused).num_rows if refused else 0
    assert not passed or staged.fragment_rows == published + quarantined + staged.repeats, (
        f"events {day}: {staged.fragment_rows} rows were delivered, {published} are clean, "
        f"{quarantined} broken, {staged.repeats} repeats"
    )
    return Verdict(
        day=day,
        passed=passed,
        rows_in=staged.fragment_rows,
        rows_published=published,
        rows_quarantined=quarantined,
        broken=finding.counts.broken,
        failures=finding.failures,
        docs=finding.docs,
        repeats=staged.repeats,
        clean=clean if passed else None,
        refused=refused,
    )


def audit_table(
    dataset: Dataset,
    lake: Lake,
    table: str,
    staged: Mapping[dt.date, Path],
    folder: Path,  # noqa: ARG001 - staging, as for events; a derived day is published as it is
) -> dict[dt.date, Verdict]:
    """Audits staged days of a derived table.

    Args:
      dataset: gives the time zone.
      lake: gets the Data Docs.
      table: sessions or user_behavior_features.
      staged: the days, with the staged file of each.
      folder: staging.
    """
    if not staged:
        return {}
    first = pq.read_schema(next(iter(staged.values())))
    audit = sessions_audit() if table == "sessions" else features_audit(first)
    assert table == audit.table, f"there are no rules for table {table}"
    verdicts = {}
    with connect() as connection:
        _, findings = _audit(connection, dataset, lake, audit, dict(staged))
    for day, finding in findings.items():
        passed = not finding.failures
        verdicts[day] = Verdict(
            day=day,
            passed=passed,
            rows_in=finding.counts.rows,
            rows_published=finding.counts.rows if passed else 0,
            rows_quarantined=0,
            broken=finding.counts.broken,
            failures=finding.failures,
            docs=finding.docs,
            clean=staged[day] if passed else None,
        )
    return verdicts


def publish(lake: Lake, table: str, verdict: Verdict) -> None:
    """Makes a day that passed visible in one step; keeps the refused rows of either kind.

    Args:
      lake: whose.
      table: which.
      verdict: of `audit_events` or `audit_table`, while its staging folder is there.
    """
    kept = quarantine_day(lake, "events" if verdict.passed else "stopped", verdict.day)
    if verdict.refused:
        publish_file(verdict.refused, kept)
    if verdict.clean:
        publish_file(verdict.clean, lake.day(table, verdict.day))
    if table == "events" and not verdict.refused:
        kept.unlink(missing_ok=True)
    if table == "events" and verdict.passed:
        quarantine_day(lake, "stopped", verdict.day).unlink(missing_ok=True)


def _audit(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    audit: Audit,
    paths: dict[dt.date, Path],
) -> tuple[AuditedDays | None, dict[dt.date, _Finding]]:
    """Audits days together, then those that stop on their own.

    Returns:
      The days whose schema is sound, open in DuckDB; what was found in each day, in order.
    """
    pages = lake.root / "data_docs"
    faults = {day: fault for day, path in paths.items() if (fault := schema_fault(audit, path))}
    sound = {day: paths[day] for day in sorted(paths.keys() - faults.keys())}
    counts: dict[dt.date, DayCounts] = {}
    disagreements: list[str] = []
    together = docs = None
    if sound:
        together = AuditedDays(connection, audit, sound, dataset.timezone)
        counts = together.count()
        disagreements, docs = together.disagreements(counts, pages)
    findings: dict[dt.date, _Finding] = {}
    stopped = 0
    for day in sorted(paths):
        if day in faults:
            sentence = f"{audit.table} {day} was staged with another schema: {faults[day]}"
            findings[day] = _Finding(DayCounts(), [sentence], None)
            continue
        failures = disagreements + _failures(audit, day, counts[day])
        page = docs
        if failures:
            alone = AuditedDays(connection, audit, {day: paths[day]}, dataset.timezone)
            failures += _examples(alone, day, counts[day])
            if len(paths) > 1 and stopped < PAGES_OF_STOPPED_DAYS:
                _, page = alone.disagreements({day: counts[day]}, pages)
                stopped += 1
        findings[day] = _Finding(counts[day], failures, page)
    return together, findings


def _failures(audit: Audit, day: dt.date, counts: DayCounts) -> list[str]:
    """Returns why a day stops, in sentences; none if it passes."""
    where = f"{audit.table} {day}"
    if not counts.rows and not audit.may_be_empty:
        return [
            f"{where} has no rows: no landing file that was read has an event of this day; "
            f"land the files, or set quality.allow_empty_days if the source has such days"
        ]
    failures = []
    if repeated := counts.broken.get(audit.unique_rule):
        key = " and ".join(audit.unique)
        failures.append(f"{where}: {repeated:,} rows share their {key} with another row")
    share = counts.broken_rows / counts.rows if counts.rows else 0
    if share > audit.max_broken_share or share == 1:
        allowed = f", and {audit.max_broken_share:.1%} may be" if audit.max_broken_share else ""
        failures.append(
            f"{where}: {counts.broken_rows:,} of {counts.rows:,} rows are broken "
            f"({share:.1%}{allowed})"
        )
    return failures


def _examples(rows: AuditedDays, day: dt.date, counts: DayCounts) -> list[str]:
    """Names the rules that the most rows of a stopped day break, each with an example."""
    rules = {rule.name: rule for rule in rows.audit.rules}
    worst = sorted(((n, name) for name, n in counts.broken.items() if name in rules), reverse=True)
    return [
        f"{rules[name].sentence} ({name}): {n:,} rows of {day}, such as {rows.example(day, name)}"
        for n, name in worst[:3]
    ]
