"""Audits staged days by both engines, and writes what was found into the Data Docs.

In:  the staged days of one table, and how it is audited. Out: for each day its counts, why it stops
and what is strange about it, against its table's thresholds and against the days before it.
"""

import datetime as dt
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from validation.counts import EXAMPLE, AuditedDays, DayCounts, schema_fault
from validation.data_docs import Outcome, note_outcomes, write_page
from validation.descriptions import described, read_descriptions
from validation.drift import drift_warnings, with_drift
from validation.profile import Bound, DayFrame, bounds_of, figures_of
from validation.table_rules import Audit

# Stopped days that get a Data Docs page of their own; the others are on the page of the range.
PAGES_OF_STOPPED_DAYS = 10


@dataclass(frozen=True)
class Finding:
    """What an audit found in one staged day."""

    counts: DayCounts
    failures: list[str]
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)
    docs: str | None = None


def audit_days(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    audit: Audit,
    paths: dict[dt.date, Path],
) -> tuple[AuditedDays | None, dict[dt.date, Finding]]:
    """Audits days together, then those that stop on their own, and writes the Data Docs.

    Returns:
      The days whose schema is sound, open in DuckDB; what was found in each day, in order.
    """
    findings = {
        day: Finding(DayCounts(), [f"{audit.table} {day} was staged with another schema: {fault}"])
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


def _findings(rows: AuditedDays, dataset: Dataset, lake: Lake) -> dict[dt.date, Finding]:
    """Audits days whose schema is sound, by both engines."""
    counts = rows.count()
    failures = {day: failures_of(rows.audit, day, found) for day, found in counts.items()}
    profiles = {
        day: described(found.rows - found.broken_rows, found.profile)
        for day, found in counts.items()
        if rows.audit.profile or rows.audit.histograms
    }
    is_events = rows.audit.table == "events"
    if not is_events:
        profiles = with_drift(dataset, lake, rows.audit.table, profiles)
    strange = _strangeness(dataset, lake, profiles if is_events else {}, failures)
    frame = DayFrame(
        {
            day: {**shares_of(rows.audit, counts[day]), **strange.figures.get(day, {})}
            for day in counts
        },
        share_bounds(rows.audit) + strange.bounds,
    )
    disagreements, result, seen = rows.validate(counts, frame)
    findings = {}
    for day, found in counts.items():
        # That a day is empty is said once, not again by each figure.
        is_judged = day in strange.figures and (found.rows or not failures[day])
        beyond = strange.broken(day) if is_judged else []
        failures[day] = disagreements + failures[day]
        failures[day] += [told(rows.audit, strange, day, b) for b in beyond if b.stops]
        if failures[day]:
            path = {day: rows.paths[day]}
            alone = AuditedDays(rows.connection, rows.audit, path, dataset.timezone)
            failures[day] += examples_of(alone, day, found)
        findings[day] = Finding(
            found,
            failures[day],
            [told(rows.audit, strange, day, b) for b in beyond if not b.stops]
            + (
                drift_warnings(dataset, rows.audit.table, day, profiles.get(day, {}))
                if found.rows
                else []
            ),
            dict(strange.figures.get(day, {})),
            profiles.get(day, {}),
        )
    return _with_pages(rows, dataset, lake, frame, findings, result, seen)


def _with_pages(
    rows: AuditedDays,
    dataset: Dataset,
    lake: Lake,
    frame: DayFrame,
    findings: dict[dt.date, Finding],
    result: Any,
    seen: str,
) -> dict[dt.date, Finding]:
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


def _outcome(day: dt.date, finding: Finding) -> Outcome:
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


def shares_of(audit: Audit, counts: DayCounts) -> dict[str, float]:
    """The figures of a day that its table's own thresholds are about."""
    rows = max(counts.rows, 1)
    shares = {f"share of {rule}": counts.broken.get(rule, 0) / rows for rule in audit.rule_shares}
    repeated = counts.broken.get(audit.unique_rule, 0)
    return shares | {"broken share": counts.broken_rows / rows, "repeated keys": float(repeated)}


def share_bounds(audit: Audit) -> list[Bound]:
    """The table's own thresholds."""
    key = " and ".join(audit.unique)
    whole = [
        Bound("broken share", audit.max_broken_share, True, "the share of rows that break a rule"),
        Bound("repeated keys", 0, True, f"rows that share their {key} with another row of the day"),
    ]
    return whole + [
        Bound(f"share of {rule}", most, True, f"the share of rows that break {rule}")
        for rule, most in audit.rule_shares.items()
    ]


def told(audit: Audit, frame: DayFrame, day: dt.date, bound: Bound) -> str:
    """Which bound a day lies beyond, in a sentence."""
    kind = "stop" if bound.stops else "warn"
    return (
        f"{audit.table} {day}: {bound.sentence} is {frame.figures[day][bound.figure]:.3g}, and "
        f"{bound.most:g} may be (quality.profile.{bound.figure.partition('.')[0]}.{kind})"
    )


def failures_of(audit: Audit, day: dt.date, counts: DayCounts) -> list[str]:
    """Why a day stops, in sentences; none if it passes."""
    where = f"{audit.table} {day}"
    if not counts.rows and not audit.may_be_empty:
        return [
            f"{where}: there are no rows: no landing file that was read has an event of this day; "
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


def examples_of(rows: AuditedDays, day: dt.date, counts: DayCounts) -> list[str]:
    """Names the rules that the most rows of a stopped day break, each with an example."""
    rules = {rule.name: rule for rule in rows.audit.rules}
    worst = sorted(((n, name) for name, n in counts.broken.items() if name in rules), reverse=True)
    return [
        f"{rules[name].sentence} ({name}): {n:,} rows of {day}{EXAMPLE}{rows.example(day, name)}"
        for n, name in worst[:3]
    ]
