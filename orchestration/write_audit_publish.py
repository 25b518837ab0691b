"""Stage, audit, publish: how every daily table is built in Dagster.

A good day becomes visible in one step. A bad day leaves the published one as it was, and is not
recorded as materialized: the check fails and names it. Of a range with good days, the steps
downstream go on with these, and the last step of the run fails for the bad ones (`days_check`);
without a good day, the step itself fails. What is strange about a day but does not stop it is a
check of its own, which warns and blocks nothing.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from contracts.base.clock import now
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.remote import told
from orchestration.dagster_private import NOT_RECORDED
from orchestration.partitions import days_of
from orchestration.retries import retried
from orchestration.tags import DUE

CHECK = "audit"
EVERY_DAY = "every_day"
PROFILE = "profile"
DRIFT = "drift"

# Metadata of a failed audit.
STOPPED = "days stopped"

TOO_FEW = "too few days before"

EVALUATED = dg.DagsterEventType.ASSET_CHECK_EVALUATION

Stage = Callable[[list[dt.date], Path], Mapping[dt.date, Any]]
Audit = Callable[[Mapping[dt.date, Any], Path], Mapping[dt.date, Any]]


def build_days(
    context: dg.AssetExecutionContext, dataset: Dataset, table: str, stage: Stage, audit: Audit
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Builds the days of this run, whether one or a range, and yields what Dagster is to record.

    Days that this run has stopped in a table before this one are left out.

    Raises:
      Failure: the gate has stopped every day.
    """
    from features.stops import forget_stops, keep_stop
    from validation.gate import publish

    lake, asked = Lake.of(dataset.name), days_of(context)
    stopped = stopped_days(context.instance, context.run)
    left_out = {day for before in stopped for day in before.days if before.table != table}
    days = [day for day in asked if day not in left_out]
    if DUE in context.run.tags:
        days = _due_of(dataset, lake, table, days)
    with retried(context), told(str(lake.root)), lake.staging() as folder:
        staged = stage(days, folder)
        built_from = {day: _built_from(part) for day, part in staged.items()}
        verdicts = audit(staged, folder)
        publish(lake, table, verdicts, folder)
        for day, verdict in verdicts.items():
            if not verdict.passed:
                keep_stop(dataset, lake, table, day, built_from[day], verdict.failures)
        forget_stops(lake, table, [v.day for v in verdicts.values() if v.passed])
    good = [verdict for verdict in verdicts.values() if verdict.passed]
    bad = [verdict for verdict in verdicts.values() if not verdict.passed]
    checks = [_check_result(context.asset_key, good, bad)]
    profile = dg.AssetCheckKey(context.asset_key, PROFILE)
    if profile in context.selected_asset_check_keys:
        checks.append(_profile_result(profile, [*good, *bad]))
    drift = dg.AssetCheckKey(context.asset_key, DRIFT)
    if drift in context.selected_asset_check_keys:
        checks.append(_drift_result(drift, dataset, lake, [*good, *bad]))
    if bad and not good:
        yield from checks
        raise dg.Failure(
            description=_sentences(bad), metadata={STOPPED: _listed(bad)}, allow_retries=False
        )
    # Else every day of the run would count as materialized.
    partial = [verdict.day for verdict in good] != asked
    for verdict in good:
        if partial:
            context.log_event(
                dg.AssetMaterialization(
                    context.asset_key, partition=str(verdict.day), metadata=_metadata(verdict)
                )
            )
        else:
            context.add_asset_metadata(_metadata(verdict), partition_key=str(verdict.day))
    unrecorded = {NOT_RECORDED: True} if partial else None
    yield dg.MaterializeResult(check_results=checks, metadata=unrecorded)


def _due_of(dataset: Dataset, lake: Lake, table: str, days: list[dt.date]) -> list[dt.date]:
    """Those of the days of a requested range that are due: the others are as they should be."""
    from features.ingestion.completeness import look_at
    from features.staleness import find_stale

    due = find_stale(dataset, lake, look_at(dataset, lake, now()).expected.days).reasons[table]
    return [day for day in days if day in due]


def _built_from(staged: Any) -> str:
    """Fingerprint of what a staged day was built from."""
    from features.provenance import fingerprint, read_inputs

    return fingerprint(read_inputs(getattr(staged, "path", staged)))


@dataclass(frozen=True)
class StoppedDays:
    """Days of a table that the gate has stopped in a run, and why."""

    table: str
    days: list[dt.date]
    reason: str


def stopped_days(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[StoppedDays]:
    """Days that a run has stopped, table by table, from the failed audits in its event log.

    Where a run goes on with another that failed, the audits of that one count too.
    """
    found: dict[dg.AssetKey, StoppedDays] = {}
    audited: set[dg.AssetKey] = set()
    after: dg.DagsterRun | None = run
    while after:
        # The latest audit of a table counts: its step may have been retried.
        for entry in reversed(instance.all_logs(after.run_id, of_type=EVALUATED)):
            assert entry.dagster_event
            check = entry.dagster_event.asset_check_evaluation_data
            if check.check_name != CHECK or check.asset_key in audited:
                continue
            audited.add(check.asset_key)
            if not check.passed:
                days = str(check.metadata[STOPPED].value).split(", ")
                found[check.asset_key] = StoppedDays(
                    check.asset_key.path[-1],
                    [dt.date.fromisoformat(day) for day in days],
                    check.description or "",
                )
        after = instance.get_run_by_id(after.parent_run_id) if after.parent_run_id else None
    return list(found.values())


def days_check(dataset: Dataset, tables: list[str]) -> dg.AssetChecksDefinition:
    """Last step of a daily run: it fails if the gate has stopped some of the days."""

    @dg.multi_asset_check(
        name=f"{dataset.slug}_{EVERY_DAY}",
        specs=[
            dg.AssetCheckSpec(
                EVERY_DAY,
                asset=dg.AssetKey([dataset.slug, table]),
                description="Fails the run if the gate has stopped some of its days.",
            )
            for table in tables
        ],
        can_subset=True,
    )
    def every_day(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        stopped = {found.table: found for found in stopped_days(context.instance, context.run)}
        bad = []
        for key in sorted(context.selected_asset_check_keys):
            found = stopped.get(key.asset_key.path[-1])
            bad += [found] if found else []
            yield dg.AssetCheckResult(
                passed=not found,
                asset_key=key.asset_key,
                check_name=key.name,
                description=found.reason if found else None,
            )
        if bad:
            raise dg.Failure("\n".join(found.reason for found in bad), allow_retries=False)

    return every_day


def check_spec(asset_key: list[str]) -> dg.AssetCheckSpec:
    """Check that goes with a gated table; the gate itself has kept back what fails it."""
    return dg.AssetCheckSpec(
        CHECK,
        asset=dg.AssetKey(asset_key),
        description="Great Expectations suite of the staged day, and the row rules made from it.",
    )


def profile_spec(asset_key: list[str]) -> dg.AssetCheckSpec:
    """Check that warns of days unlike those before them."""
    return dg.AssetCheckSpec(
        PROFILE,
        asset=dg.AssetKey(asset_key),
        description="Volume, users, nulls, mixes and values against the trailing days.",
    )


def drift_spec(asset_key: list[str]) -> dg.AssetCheckSpec:
    """Check that warns of features whose distribution has moved."""
    return dg.AssetCheckSpec(
        DRIFT,
        asset=dg.AssetKey(asset_key),
        description="Population stability index of every feature against the trailing days.",
    )


def column_schema(schema: pa.Schema, descriptions: Mapping[str, str] | None = None) -> dict:
    """Metadata that shows an Arrow schema in the UI."""
    columns = [
        dg.TableColumn(
            field.name,
            str(field.type),
            description=(descriptions or {}).get(field.name),
            constraints=dg.TableColumnConstraints(nullable=field.nullable),
        )
        for field in schema
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def _listed(verdicts: list) -> str:
    return ", ".join(str(verdict.day) for verdict in verdicts)


def _sentences(verdicts: list) -> str:
    return "\n".join(sentence for verdict in verdicts for sentence in verdict.failures)


def _metadata(verdict: Any) -> dict[str, int | float]:
    counts = {
        "dagster/row_count": verdict.rows_published,
        "rows_in": verdict.rows_in,
        "rows_quarantined": verdict.rows_quarantined,
    }
    figures = {f"profile/{name}": round(value, 4) for name, value in verdict.figures.items()}
    broken = {f"broken/{rule}": count for rule, count in sorted(verdict.broken.items())}
    return counts | broken | figures


def _profile_result(key: dg.AssetCheckKey, verdicts: list) -> dg.AssetCheckResult:
    """Says which days are strange, and how much the strangest is by each figure."""
    judged = [verdict for verdict in verdicts if verdict.figures]
    most: dict[str, float] = {}
    for verdict in judged:
        for name, value in verdict.figures.items():
            most[name] = max(value, most.get(name, 0.0))
    figures = _table(
        "figure", "most", {name: float(f"{value:.3g}") for name, value in most.items()}
    )
    return _warned(key, verdicts, len(judged), {"figures": figures or TOO_FEW})


def _drift_result(
    key: dg.AssetCheckKey, dataset: Dataset, lake: Lake, verdicts: list
) -> dg.AssetCheckResult:
    """Says which features have drifted, and draws the index over days."""
    from validation.drift import PSI, write_drift_page

    page = write_drift_page(dataset, lake)
    judged = [verdict for verdict in verdicts if verdict.profile.get(PSI)]
    latest = judged[-1].profile[PSI] if judged else {}
    worst = sorted(latest.items(), key=lambda item: -item[1])[:10]
    last = _table("feature", "index", {name: round(float(value), 3) for name, value in worst})
    shown: dict[str, Any] = {"last day": last or TOO_FEW}
    if page:
        shown["drift by day"] = dg.MetadataValue.path(page)
    return _warned(key, verdicts, len(judged), shown)


def _warned(
    key: dg.AssetCheckKey, verdicts: list, judged: int, shown: dict[str, Any]
) -> dg.AssetCheckResult:
    """Result of a check that warns of what is strange and blocks nothing."""
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not any(verdict.warnings for verdict in verdicts),
        severity=dg.AssetCheckSeverity.WARN,
        description=_told(verdict.warnings for verdict in verdicts),
        metadata={
            "days judged": judged,
            "days with a warning": sum(bool(verdict.warnings) for verdict in verdicts),
        }
        | shown,
    )


def _told(sentences: Iterable[list[str]]) -> str | None:
    """Sentences of some days as a check shows them; None where there is none."""
    return "; ".join(itertools.chain.from_iterable(sentences))[:2000] or None


def _table(key: str, value: str, rows: Mapping[str, int | float]) -> dg.TableMetadataValue | None:
    """Table of two columns as the UI shows it; None without a row."""
    records = [dg.TableRecord({key: name, value: number}) for name, number in rows.items()]
    return dg.MetadataValue.table(records) if records else None


def _check_result(key: dg.AssetKey, good: list, bad: list) -> dg.AssetCheckResult:
    verdicts = [*good, *bad]
    broken: dict[str, int] = {}
    for verdict in verdicts:
        for rule, count in verdict.broken.items():
            broken[rule] = broken.get(rule, 0) + count
    by_rule = _table("rule", "rows", dict(sorted(broken.items())))
    docs = next((verdict.docs for verdict in verdicts if verdict.docs), None)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not bad,
        description=_told(verdict.failures for verdict in bad),
        metadata={
            "days audited": len(verdicts),
            STOPPED: _listed(bad) or "none",
            "rows quarantined": sum(verdict.rows_quarantined for verdict in verdicts),
            "broken rows by rule": by_rule or "none",
        }
        | ({"data docs": dg.MetadataValue.path(docs)} if docs else {}),
    )
