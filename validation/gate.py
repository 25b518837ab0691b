"""Stage, audit, publish: what stands between a staged day and its readers.

In:  staged days. Out: a verdict on each, with the clean rows and the refused ones as files; and
`publish`, which makes them visible, one object a day, in one step.

A day of events with some broken rows goes on without them, and they go to quarantine. A day stops
when more of its rows are broken than `quality.max_broken_share`, or break one rule than
`quality.rules` allows, when all are, when ids repeat, when it has no rows though the YAML does not
allow that, when its schema is not the table's, or when it lies beyond a `stop` of
`quality.profile`; what lies beyond a `warn` is said, and the day goes on. A stopped day leaves what
was published before as it was. Tables of ours (sessions, behavior features) have no quarantine:
one broken row stops the day, for it is a fault of the code.

Rows delivered = published + quarantined + duplicates: asserted for every day of events, on the
files.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, remove_files, side_by_side
from contracts.lake.reading import stamps
from validation.audit import Finding, audit_days
from validation.descriptions import publish_description
from validation.row_quarantine import (
    Stage,
    quarantine_day,
    quarantine_folder,
    write_clean,
    write_refused,
)
from validation.table_rules import events_audit, features_audit, sessions_audit

NONE_BROKEN = np.empty(0, np.int64)
GATED: tuple[Stage, ...] = ("events", "stopped")


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
    warnings: list[str] = field(default_factory=list)  # sentences, what is strange about the day
    figures: dict[str, float] = field(default_factory=dict)  # how strange, where that is judged
    profile: dict[str, Any] = field(default_factory=dict)  # what describes the clean rows
    docs: str | None = None  # path of the Data Docs page
    duplicates: int = 0
    clean: Path | None = None  # staged, to be published; None for a stopped day
    refused: Path | None = None  # staged, for quarantine; None if no row is broken


class Staged(Protocol):
    """A staged day of events (features/ingestion/dedup.py)."""

    @property
    def path(self) -> Path:
        """The staged file: schema STAGED, without duplicates."""
        ...

    @property
    def fragment_rows(self) -> int:
        """Rows delivered, duplicates included."""
        ...

    @property
    def duplicates(self) -> int:
        """Rows that were left out as duplicates."""
        ...


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
    catalog = lake.single("items")
    audit = events_audit(dataset, str(catalog) if catalog.exists() else None)
    paths = {day: part.path for day, part in staged.items()}
    verdicts = {}
    with connect() as connection:
        rows, findings = audit_days(connection, dataset, lake, audit, paths)
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
    day: dt.date, staged: Staged, finding: Finding, clean: Path, refused: Path | None
) -> Verdict:
    passed = not finding.failures
    published = pq.read_metadata(clean).num_rows if passed else 0
    quarantined = pq.read_metadata(refused).num_rows if refused else 0
    assert not passed or staged.fragment_rows == published + quarantined + staged.duplicates, (
        f"events {day}: {staged.fragment_rows} rows were delivered, {published} are clean, "
        f"{quarantined} broken, {staged.duplicates} duplicates"
    )
    return Verdict(
        day=day,
        passed=passed,
        rows_in=staged.fragment_rows,
        rows_published=published,
        rows_quarantined=quarantined,
        broken=finding.counts.broken,
        failures=finding.failures,
        warnings=finding.warnings,
        figures=finding.figures,
        profile=finding.profile,
        docs=finding.docs,
        duplicates=staged.duplicates,
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
      table: sessions, or a table of features.
      staged: the days, with the staged file of each.
      folder: staging.
    """
    if not staged:
        return {}
    first = pq.read_metadata(next(iter(staged.values())))
    schema = first.schema.to_arrow_schema().with_metadata(first.metadata)
    audit = sessions_audit() if table == "sessions" else features_audit(schema, table)
    verdicts = {}
    with connect() as connection:
        _, findings = audit_days(connection, dataset, lake, audit, dict(staged))
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
            warnings=finding.warnings,
            profile=finding.profile,
            docs=finding.docs,
            clean=staged[day] if passed else None,
        )
    return verdicts


def publish(lake: Lake, table: str, verdicts: Mapping[dt.date, Verdict], folder: Path) -> None:
    """Makes each day that passed visible in one step; keeps the refused rows of either kind.

    Args:
      lake: whose.
      table: which.
      verdicts: of `audit_events` or `audit_table`.
      folder: the staging folder of their files.
    """
    kept = {stage: set(stamps(quarantine_folder(lake, stage))) for stage in GATED}
    side_by_side(lambda verdict: _publish(lake, table, verdict, folder, kept), verdicts.values())


def _publish(
    lake: Lake, table: str, verdict: Verdict, folder: Path, kept: Mapping[Stage, set[str]]
) -> None:
    """Publishes one day, and removes what quarantine `kept` of it from another time."""
    stage: Stage = "events" if verdict.passed else "stopped"
    if verdict.refused:
        publish_file(verdict.refused, quarantine_day(lake, stage, verdict.day))
    if verdict.clean:
        publish_file(verdict.clean, lake.day(table, verdict.day))
        if verdict.profile:
            publish_description(lake, table, verdict.day, verdict.profile, folder)
    if table == "events":
        for old in GATED:
            path = quarantine_day(lake, old, verdict.day)
            is_stale = not verdict.refused if old == stage else verdict.passed
            if is_stale and path.name in kept[old]:
                remove_files([path])
