"""Stage, audit, publish: what stands between a staged day and its readers.

In:  staged days. Out: a verdict on each, with the clean rows and the refused ones as files; and
`publish`, which makes them visible, one object a day, in one step.

A day of events with some broken rows goes on without them, and they go to quarantine. A day stops
when more of its rows are broken than `quality.max_broken_share`, or break one rule than
`quality.rules` allows, when all are, when ids repeat, when it has no rows though the YAML does not
allow that, when its schema is not the table's, or when it lies beyond a `stop` of
`quality.profile`; what lies beyond a `warn` is said, and the day goes on. A stopped day leaves what
was published before as it was. Tables of ours (sessions, behaviour features) have no quarantine:
one broken row stops the day, for it is a fault of the code.

Rows delivered = published + quarantined + repeats: asserted for every day of events, on the files.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow.parquet as pq

from contracts.dataset import Dataset
from contracts.engine import connect
from contracts.lake import Lake, publish_file, remove_files
from validation.bounds import Bound, DayFrame
from validation.counts import AuditedDays, DayCounts, schema_fault
from validation.docs import Outcome, note_outcomes, write_page
from validation.drift import drift_warnings, with_drift
from validation.profile import (
    bounds_of,
    described,
    figures_of,
    read_descriptions,
    write_description,
)
from validation.quarantine import quarantine_day
from validation.split import write_clean, write_refused
from validation.tables import Audit, events_audit, features_audit, sessions_audit

# Stopped days that get a Data Docs page of their own; the others are on the page of the range.
PAGES_OF_STOPPED_DAYS = 10

# Parts a sentence from the value that it shows.
EXAMPLE = ", such as "

NONE_BROKEN = np.empty(0, np.int64)


class Staged(Protocol):
    """A staged day of events (features/ingestion/events.py)."""

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
    warnings: list[str] = field(default_factory=list)  # sentences, what is strange about the day
    figures: dict[str, float] = field(default_factory=dict)  # how strange, where that is judged
    profile: dict[str, Any] = field(default_factory=dict)  # what describes the clean rows
    docs: str | None = None  # path of the Data Docs page
    repeats: int = 0
    clean: Path | None = None  # staged, to be published; None for a stopped day
    refused: Path | None = None  # staged, for quarantine; None if no row is broken


@dataclass(frozen=True)
class _Finding:
    """What an audit found in one staged day."""

    counts: DayCounts
    failures: list[str]
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)
    docs: str | None = None


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
    catalogue = lake.single("items")
    audit = events_audit(dataset, str(catalogue) if catalogue.exists() else None)
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
        warnings=finding.warnings,
        figures=finding.figures,
        profile=finding.profile,
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
            warnings=finding.warnings,
            profile=finding.profile,
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
        if verdict.profile:
            write_description(lake, table, verdict.day, verdict.profile)
    if table == "events" and not verdict.refused:
        remove_files([kept])
    if table == "events" and verdict.passed:
        remove_files([quarantine_day(lake, "stopped", verdict.day)])


def _audit(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    audit: Audit,
    paths: dict[dt.date, Path],
) -> tuple[AuditedDays | None, dict[dt.date, _Finding]]:
    """Audits days together, then those that stop on their own, and writes the Data Docs.

    Returns:
      The days whose schema is sound, open in DuckDB; what was found in each day, in order.
    """
    findings = {
        day: _Finding(DayCounts(), [f"{audit.table} {day} was staged with another schema: {fault}"])
        for day, path in paths.items()
        if (fault := schema_fault(audit, path))
    }
    sound = {day: paths[day] for day in sorted(paths.keys() - findings.keys())}
    together = None
    if sound:
        together = AuditedDays(connection, audit, sound, dataset.timezone)
        findings |= _findings(together, dataset, lake)
    findings = dict(sorted(findings.items()))
    outcomes = [_outcome(day, finding) for day, finding in findings.items()]
    note_outcomes(lake, audit.table, outcomes, {day: f.docs for day, f in findings.items()})
    return together, findings


def _findings(rows: AuditedDays, dataset: Dataset, lake: Lake) -> dict[dt.date, _Finding]:
    """Audits days whose schema is sound, by both engines."""
    counts = rows.count()
    failures = {day: _failures(rows.audit, day, found) for day, found in counts.items()}
    profiles = {
        day: described(found.rows - found.broken_rows, found.profile)
        for day, found in counts.items()
        if rows.audit.profile
    }
    is_events = rows.audit.table == "events"
    if not is_events:
        profiles = with_drift(dataset, lake, profiles)
    strange = _strangeness(dataset, lake, profiles if is_events else {}, failures)
    frame = DayFrame(
        {
            day: {**_shares(rows.audit, counts[day]), **strange.figures.get(day, {})}
            for day in counts
        },
        _share_bounds(rows.audit) + strange.bounds,
    )
    disagreements, result, seen = rows.validate(counts, frame)
    findings = {}
    for day, found in counts.items():
        beyond = strange.broken(day) if day in strange.figures else []
        failures[day] = disagreements + failures[day]
        failures[day] += [_told(rows.audit, strange, day, b) for b in beyond if b.stops]
        if failures[day]:
            path = {day: rows.paths[day]}
            alone = AuditedDays(rows.connection, rows.audit, path, dataset.timezone)
            failures[day] += _examples(alone, day, found)
        findings[day] = _Finding(
            found,
            failures[day],
            [_told(rows.audit, strange, day, b) for b in beyond if not b.stops]
            + drift_warnings(dataset, day, profiles.get(day, {})),
            dict(strange.figures.get(day, {})),
            profiles.get(day, {}),
        )
    return _with_pages(rows, dataset, lake, frame, findings, result, seen)


def _with_pages(
    rows: AuditedDays,
    dataset: Dataset,
    lake: Lake,
    frame: DayFrame,
    findings: dict[dt.date, _Finding],
    result: Any,
    seen: str,
) -> dict[dt.date, _Finding]:
    """Writes a page for all days, and one for each of the first few that stop."""
    table, days = rows.audit.table, list(findings)
    label = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
    outcomes = [_outcome(day, finding) for day, finding in findings.items()]
    docs = write_page(lake, table, label, result, seen, outcomes)
    findings = {day: replace(finding, docs=docs) for day, finding in findings.items()}
    stopped = [day for day in days if findings[day].failures and len(days) > 1]
    for day in stopped[:PAGES_OF_STOPPED_DAYS]:
        finding = findings[day]
        alone = AuditedDays(rows.connection, rows.audit, {day: rows.paths[day]}, dataset.timezone)
        of_day = DayFrame({day: frame.figures[day]}, frame.bounds)
        _, result, seen = alone.validate({day: finding.counts}, of_day)
        page = write_page(lake, table, str(day), result, seen, [_outcome(day, finding)])
        findings[day] = replace(finding, docs=page)
    return findings


def _outcome(day: dt.date, finding: _Finding) -> Outcome:
    status = "stopped" if finding.failures else "warned" if finding.warnings else "clean"
    # Examples of values stay out of the pages.
    said = [s for s in finding.failures + finding.warnings if EXAMPLE not in s]
    return Outcome(day, status, finding.counts.rows, finding.counts.broken_rows, said)


def _strangeness(
    dataset: Dataset,
    lake: Lake,
    profiles: dict[dt.date, dict[str, Any]],
    failures: dict[dt.date, list[str]],
) -> DayFrame:
    """Holds each day against those before it, in order: the published, and those of the run."""
    config = dataset.quality.profile
    if not profiles:
        return DayFrame({}, [])
    first, last = min(profiles), max(profiles)
    reach = dt.timedelta(days=config.days)
    before = read_descriptions(lake, "events", first - reach, last)
    before = {day: found for day, found in before.items() if day not in profiles}
    figures = {}
    for day in sorted(profiles):
        figures[day] = figures_of(dataset.quality, day, profiles[day], before)
        of_day = DayFrame({day: figures[day]}, bounds_of(dataset.quality, {day: figures[day]}))
        if not failures[day] and not any(bound.stops for bound in of_day.broken(day)):
            before[day] = profiles[day]
    return DayFrame(figures, bounds_of(dataset.quality, figures))


def _shares(audit: Audit, counts: DayCounts) -> dict[str, float]:
    """Returns the figures of a day that its table's own thresholds are about."""
    rows = max(counts.rows, 1)
    shares = {f"share of {rule}": counts.broken.get(rule, 0) / rows for rule in audit.rule_shares}
    repeated = counts.broken.get(audit.unique_rule, 0)
    return shares | {"broken share": counts.broken_rows / rows, "repeated keys": float(repeated)}


def _share_bounds(audit: Audit) -> list[Bound]:
    """Returns the table's own thresholds."""
    key = " and ".join(audit.unique)
    whole = [
        Bound("broken share", audit.max_broken_share, True, "the share of rows that break a rule"),
        Bound("repeated keys", 0, True, f"rows that share their {key} with another row of the day"),
    ]
    return whole + [
        Bound(f"share of {rule}", most, True, f"the share of rows that break {rule}")
        for rule, most in audit.rule_shares.items()
    ]


def _told(audit: Audit, frame: DayFrame, day: dt.date, bound: Bound) -> str:
    """Says which bound a day lies beyond, in a sentence."""
    kind = "stop" if bound.stops else "warn"
    return (
        f"{audit.table} {day}: {bound.sentence} is {frame.figures[day][bound.figure]:.3g}, and "
        f"{bound.most:g} may be (quality.profile.{bound.figure.partition('.')[0]}.{kind})"
    )


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
    failures += [
        f"{where}: {counts.broken[rule]:,} of {counts.rows:,} rows break {rule} "
        f"({counts.broken[rule] / counts.rows:.2%}, and {most:.2%} may)"
        for rule, most in audit.rule_shares.items()
        if counts.broken.get(rule, 0) > most * counts.rows
    ]
    return failures


def _examples(rows: AuditedDays, day: dt.date, counts: DayCounts) -> list[str]:
    """Names the rules that the most rows of a stopped day break, each with an example."""
    rules = {rule.name: rule for rule in rows.audit.rules}
    worst = sorted(((n, name) for name, n in counts.broken.items() if name in rules), reverse=True)
    return [
        f"{rules[name].sentence} ({name}): {n:,} rows of {day}{EXAMPLE}{rows.example(day, name)}"
        for n, name in worst[:3]
    ]
