"""The online store: what changed goes there, and what is there is looked at."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.behavior.tables import feature_tables
from orchestration.catalog import check_specs
from orchestration.progress import Progress
from orchestration.runs.retries import retried

if TYPE_CHECKING:
    from features.store import ViewFigures

FRESH = "views_are_fresh"


class OnlineRun(dg.Config):
    """What a run of the online store may be told."""

    verify_all: bool = False  # every row is read back, not a bucket of each view


def online_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Returns `online_features`."""
    key = dg.AssetKey([dataset.slug, "online_features"])
    checks = check_specs(
        key,
        {
            "online_equals_offline": "What Feast serves of 100 users or items a view is what it "
            "joins offline.",
            "online_as_written": "The rows that were looked at are those that were written.",
            FRESH: "Every served view is of the newest day, and has a row of who is active.",
        },
    )
    upstream = ["feature_registry", *(t.name for t in feature_tables(dataset)), "user_embeddings"]

    @dg.asset(
        key=key,
        group_name=f"{dataset.slug}_serving",
        owners=["team:data-platform"],
        kinds={"feast"},
        deps=[dg.AssetDep(dg.AssetKey([dataset.slug, name])) for name in upstream],
        check_specs=checks,
    )
    def online_features(
        context: dg.AssetExecutionContext, config: OnlineRun, progress: Progress
    ) -> dg.MaterializeResult:
        """What changed since last time, moved to the online store, and compared with it."""
        from features.store import check_online, materialize, view_figures

        lake = Lake.of(dataset.name)
        with retried(context):
            told = progress.of(context, "online rows")
            report = materialize(dataset, lake, told, config.verify_all)
        comparison, figures = check_online(dataset, lake), view_figures(dataset, lake)
        behind = [fault for found in figures for fault in found.faults(dataset)]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": report.rows,
                "views": dg.MetadataValue.table([_record(found) for found in figures]),
            }
            | {f"coverage/{f.view}": f.coverage for f in figures if f.coverage is not None}
            | {f"days behind/{f.view}": f.days_behind for f in figures},
            check_results=[
                dg.AssetCheckResult(
                    check_name="online_equals_offline",
                    passed=not comparison.mismatches,
                    description="; ".join(comparison.mismatches[:5]) or None,
                    metadata={"values compared": comparison.sampled, "equal": comparison.equal},
                ),
                dg.AssetCheckResult(
                    check_name="online_as_written",
                    passed=not report.repaired,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=str(report),
                    metadata={"rows looked at": report.looked, "rows": report.of},
                ),
                dg.AssetCheckResult(
                    check_name=FRESH,
                    passed=not behind,
                    severity=dg.AssetCheckSeverity.WARN,
                    description="; ".join(behind) or None,
                ),
            ],
        )

    return online_features


def _record(found: "ViewFigures") -> dg.TableRecord:
    """A row of the table that the UI shows."""
    cells = {name: value for name, value in asdict(found).items() if name != "is_served"}
    return dg.TableRecord(
        {
            name: str(value) if name in ("newest", "empty") else value
            for name, value in cells.items()
            if value is not None
        }
    )
