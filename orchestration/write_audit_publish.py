"""Stage, audit, publish: how every daily table is built in Dagster.

A good day becomes visible in one step. A bad day leaves the published one as it was, and is not
recorded as materialized: the failed check is yielded and the step fails, naming the bad days. What
is strange about a day but does not stop it is a check of its own, which warns and blocks nothing.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.remote import told
from orchestration.partitions import days_of
from orchestration.tags import REBUILD

CHECK = "audit"
PROFILE = "profile"
DRIFT = "drift"

TOO_FEW = "too few days before"

Stage = Callable[[list[dt.date], Path], Mapping[dt.date, Any]]
Audit = Callable[[Mapping[dt.date, Any], Path], Mapping[dt.date, Any]]


def build_days(
    context: dg.AssetExecutionContext, dataset: Dataset, table: str, stage: Stage, audit: Audit
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """Builds the days of this run, whether one or a range, and yields what Dagster is to record.

    Raises:
      Failure: a day was stopped by the gate. The good days are published and recorded.
    """
    from features.staleness import days_to_build
    from validation.gate import publish

    lake, days = Lake.of(dataset.name), days_of(context)
    if REBUILD in context.run.tags:
        # The range of a rebuild holds days that are as they should be.
        days = days_to_build(dataset, lake, table, days)
    with told(str(lake.root)), lake.staging() as folder:
        verdicts = audit(stage(days, folder), folder)
        for verdict in verdicts.values():
            publish(lake, table, verdict)
    good = [verdict for verdict in verdicts.values() if verdict.passed]
    bad = [verdict for verdict in verdicts.values() if not verdict.passed]
    checks = [_check_result(context.asset_key, good, bad)]
    profile = dg.AssetCheckKey(context.asset_key, PROFILE)
    if profile in context.selected_asset_check_keys:
        checks.append(_profile_result(profile, [*good, *bad]))
    drift = dg.AssetCheckKey(context.asset_key, DRIFT)
    if drift in context.selected_asset_check_keys:
        checks.append(_drift_result(drift, dataset, lake, [*good, *bad]))
    for verdict in good:
        if bad:
            # Nothing that is returned counts when a step fails, so the good days are told now.
            context.log_event(
                dg.AssetMaterialization(
                    context.asset_key, partition=str(verdict.day), metadata=_metadata(verdict)
                )
            )
        else:
            context.add_asset_metadata(_metadata(verdict), partition_key=str(verdict.day))
    if bad:
        yield from checks
        raise dg.Failure(
            description="\n".join(sentence for verdict in bad for sentence in verdict.failures),
            metadata={"days stopped": ", ".join(str(verdict.day) for verdict in bad)},
            allow_retries=False,
        )
    yield dg.MaterializeResult(check_results=checks)


def check_spec(asset_key: list[str]) -> dg.AssetCheckSpec:
    """Blocking check that goes with a gated table."""
    return dg.AssetCheckSpec(
        CHECK,
        asset=dg.AssetKey(asset_key),
        blocking=True,
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
            "days stopped": len(bad),
            "rows quarantined": sum(verdict.rows_quarantined for verdict in verdicts),
            "broken rows by rule": by_rule or "none",
        }
        | ({"data docs": dg.MetadataValue.path(docs)} if docs else {}),
    )
