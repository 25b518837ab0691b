"""Stage, audit, publish: how every daily table is built in Dagster.

A good day becomes visible in one step. A bad day leaves the published one as it was, and is not
recorded as materialized: the check fails and names it. Of a range with good days, the steps
downstream go on with these, and the last step of the run fails for the bad ones (`days_check`);
without a good day, the step itself fails. What is strange about a day but does not stop it is a
check of its own, which warns and blocks nothing.
"""

import datetime as dt
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from contracts.base.clock import now
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.remote import told
from features.staleness import MADE_OF
from features.stops import forget_stops, keep_stop, together
from orchestration import partitions
from orchestration.catalog import page
from orchestration.dagster_private import NOT_RECORDED, latest_materializations
from orchestration.partitions import days_of
from orchestration.runs.retries import retried
from orchestration.sqlite import stored_together
from orchestration.tags import DUE

CHECK = "audit"
EVERY_DAY = "every_day"
PROFILE = "profile"
DRIFT = "drift"

# Metadata of a step that the gate has stopped.
STOPPED = "days stopped"

DESCRIPTIONS = {
    CHECK: "Great Expectations suite of the staged day, and the row rules made from it.",
    PROFILE: "Volume, users, nulls, mixes and values against the trailing days.",
    DRIFT: "Population stability index of every feature against the trailing days.",
}
SEVERITIES = {
    CHECK: dg.AssetCheckSeverity.ERROR,
    PROFILE: dg.AssetCheckSeverity.WARN,
    DRIFT: dg.AssetCheckSeverity.WARN,
}

TOO_FEW = "too few days before"

EVALUATED = dg.DagsterEventType.ASSET_CHECK_EVALUATION

Stage = Callable[[list[dt.date], Path], Mapping[dt.date, Any]]
Audit = Callable[[Mapping[dt.date, Any], Path], Mapping[dt.date, Any]]
Describe = Callable[[list[dt.date]], Mapping[dt.date, dict[str, Any]]]


def build_days(
    context: dg.AssetExecutionContext,
    dataset: Dataset,
    table: str,
    stage: Stage,
    audit: Audit,
    describe: Describe = lambda _: {},
) -> Iterator[dg.MaterializeResult | dg.AssetCheckEvaluation | dg.Output]:
    """Builds the days of this run, whether one or a range, and yields what Dagster is to record.

    Days that this run has stopped in a table which this one is made of are left out. `describe`
    gives further metadata of published days.

    Raises:
      Failure: the gate has stopped every day.
    """
    from validation.gate import publish

    lake, asked = Lake.of(dataset.name), days_of(context)
    stopped = stopped_days(context.instance, context.run)
    left_out = {day for before in stopped for day in before.days if before.table in MADE_OF[table]}
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
    others = (set(asked) - left_out - verdicts.keys()) & set(lake.days(table))
    if bad and not good and not others:
        yield from _checks(context, dataset, bad)
        raise dg.Failure(
            description=_sentences(bad), metadata={STOPPED: _listed(bad)}, allow_retries=False
        )
    more = describe([verdict.day for verdict in good])
    metadata = {v.day: _metadata(v) | more.get(v.day, {}) for v in good}
    # Else every day of the run would count as materialized.
    partial = [verdict.day for verdict in good] != asked
    with stored_together(context.instance):
        for day in sorted(others) if bad or left_out else ():
            # It was not due. The run will fail, and days without a word would count as failed.
            context.log_event(
                dg.AssetMaterialization(
                    context.asset_key, partition=str(day), metadata={"unchanged": True}
                )
            )
        for verdict in good:
            if partial:
                context.log_event(
                    dg.AssetMaterialization(
                        context.asset_key,
                        partition=str(verdict.day),
                        metadata=metadata[verdict.day],
                    )
                )
            else:
                context.add_asset_metadata(metadata[verdict.day], partition_key=str(verdict.day))
    # First what was made: a check refers to what it has judged.
    yield dg.MaterializeResult(metadata={NOT_RECORDED: True} if partial else None)
    yield from _checks(context, dataset, [*verdicts.values()])


def _checks(
    context: dg.AssetExecutionContext, dataset: Dataset, verdicts: list
) -> Iterator[dg.AssetCheckEvaluation | dg.Output]:
    """Yields the checks of every day, which Dagster would only take of a run of one day."""
    key, table = context.asset_key, context.asset_key.path[-1]
    judged = latest_materializations(context.instance, key, [str(v.day) for v in verdicts])
    for check in context.selected_asset_check_keys:
        results = RESULTS[check.name](dataset, table, verdicts)
        with stored_together(context.instance):
            for verdict, result in zip(verdicts, results, strict=True):
                yield dg.AssetCheckEvaluation(
                    key,
                    check.name,
                    partition=str(verdict.day),
                    severity=SEVERITIES[check.name],
                    target_materialization_data=judged.get(str(verdict.day)),
                    **result,
                )
        spec = context.assets_def.get_spec_for_check_key(check)
        yield dg.Output(None, output_name=spec.get_python_identifier())


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
    found: dict[str, dict[dt.date, str]] = {}
    audited: set[tuple[dg.AssetKey, str | None]] = set()
    after: dg.DagsterRun | None = run
    while after:
        # The latest audit of a day counts: its step may have been retried.
        for entry in reversed(instance.all_logs(after.run_id, of_type=EVALUATED)):
            assert entry.dagster_event
            check = entry.dagster_event.asset_check_evaluation_data
            day = (check.asset_key, check.partition)
            if check.check_name != CHECK or day in audited:
                continue
            audited.add(day)
            if check.partition and not check.passed:
                of_table = found.setdefault(check.asset_key.path[-1], {})
                of_table[dt.date.fromisoformat(check.partition)] = check.description or ""
        after = instance.get_run_by_id(after.parent_run_id) if after.parent_run_id else None
    return [StoppedDays(table, sorted(days), together(days)) for table, days in found.items()]


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


def check_specs(dataset: Dataset, asset_key: list[str], *names: str) -> list[dg.AssetCheckSpec]:
    """Checks of a daily table, each day by itself; the gate has kept back what fails its audit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # partitions of a check
        return [
            dg.AssetCheckSpec(
                name,
                asset=dg.AssetKey(asset_key),
                description=DESCRIPTIONS[name],
                partitions_def=partitions.days(dataset),
            )
            for name in names
        ]


def _listed(verdicts: list) -> str:
    return ", ".join(str(verdict.day) for verdict in verdicts)


def _sentences(verdicts: list) -> str:
    return together({verdict.day: "; ".join(verdict.failures) for verdict in verdicts})


def _metadata(verdict: Any) -> dict[str, int | float]:
    counts = {
        "dagster/row_count": verdict.rows_published,
        "rows_in": verdict.rows_in,
        "rows_quarantined": verdict.rows_quarantined,
    }
    figures = {f"profile/{name}": round(value, 4) for name, value in verdict.figures.items()}
    broken = {f"broken/{rule}": count for rule, count in sorted(verdict.broken.items())}
    return counts | broken | figures


def _audits(_: Dataset, _of: str, verdicts: list) -> list[dict[str, Any]]:
    """Whether each day has passed the gate, and which rules its rows break."""
    return [
        {
            "passed": verdict.passed,
            "description": _told(verdict.failures),
            "metadata": {
                "rows": verdict.rows_in,
                "rows quarantined": verdict.rows_quarantined,
                "broken rows by rule": _table("rule", "rows", verdict.broken) or "none",
            }
            | ({"data docs": page(verdict.docs)} if verdict.docs else {}),
        }
        for verdict in verdicts
    ]


def _profiles(_: Dataset, _of: str, verdicts: list) -> list[dict[str, Any]]:
    """Whether each day is like those before it, and by which figure how much."""
    return [
        _warned(verdict, {"figures": _table("figure", "z", verdict.figures) or TOO_FEW})
        for verdict in verdicts
    ]


def _drifts(dataset: Dataset, table: str, verdicts: list) -> list[dict[str, Any]]:
    """Whether the features of each day are distributed as before; one page draws all days."""
    from validation.drift import PSI, write_drift_page

    written = write_drift_page(dataset, Lake.of(dataset.name), table)
    drawn = {"drift by day": page(written)} if written else {}
    found = []
    for verdict in verdicts:
        worst = sorted((verdict.profile.get(PSI) or {}).items(), key=lambda item: -item[1])[:10]
        shown = _table("feature", "index", {name: float(value) for name, value in worst})
        found.append(_warned(verdict, {"index": shown or TOO_FEW} | drawn))
    return found


def _warned(verdict: Any, shown: dict[str, Any]) -> dict[str, Any]:
    """What a check says that warns of a strange day and blocks nothing."""
    return {
        "passed": not verdict.warnings,
        "description": _told(verdict.warnings),
        "metadata": shown,
    }


def _told(sentences: list[str]) -> str | None:
    """Sentences as a check shows them; None where there is none."""
    return "; ".join(sentences)[:2000] or None


def _table(key: str, value: str, rows: Mapping[str, int | float]) -> dg.TableMetadataValue | None:
    """Table of two columns as the UI shows it, with three digits; None without a row."""
    records = [
        dg.TableRecord({key: name, value: n if isinstance(n, int) else float(f"{n:.3g}")})
        for name, n in sorted(rows.items())
    ]
    return dg.MetadataValue.table(records) if records else None


RESULTS = {CHECK: _audits, PROFILE: _profiles, DRIFT: _drifts}
