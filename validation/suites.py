"""The rules of a table as a Great Expectations suite, run over pandas.

In:  an audit (validation/tables.py) and the audited columns of some days. Out: Great Expectations'
own result, whose counts the gate compares with DuckDB's. Row by row expectations hold over many
days at once just as over each of them; that every day has rows and that keys are unique within a
day are written over the column `day`. Telemetry and progress bars are off.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from validation.tables import Audit

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult

ROWS_RULE = "day_has_rows"


def build_suite(audit: Audit, days: list[str]) -> "ExpectationSuite":
    """Returns the suite for rows of these days.

    Args:
      audit: the table's rules. A row rule tolerates what `max_broken_share` does.
      days: ISO days that the rows are of, all of their rows; none if they are but a part of one.
    """
    gx = _great_expectations()
    mostly = 1 - audit.max_broken_share
    expectations = [
        getattr(gx.expectations, rule.expectation)(
            **rule.arguments, mostly=mostly, meta={"rule": rule.name}, notes=rule.sentence
        )
        for rule in audit.rules
    ]
    if days:
        expectations.append(
            gx.expectations.ExpectCompoundColumnsToBeUnique(
                column_list=["day", *audit.unique],
                ignore_row_if="any_value_is_missing",
                meta={"rule": audit.unique_rule},
                notes=f"{' and '.join(audit.unique)} must name one row of a day",
            )
        )
    if days and not audit.may_be_empty:
        expectations.append(
            gx.expectations.ExpectColumnDistinctValuesToContainSet(
                column="day",
                value_set=days,
                meta={"rule": ROWS_RULE},
                notes="every day must have rows",
            )
        )
    return gx.ExpectationSuite(name=audit.table, expectations=expectations)


def validate(suite: "ExpectationSuite", rows: pa.Table) -> "ExpectationSuiteValidationResult":
    """Runs a suite over rows: the audited columns, and `day` as an ISO day."""
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("staged").add_dataframe_asset(suite.name)
    batch = asset.add_batch_definition_whole_dataframe("rows").get_batch(
        {"dataframe": rows.to_pandas()}
    )
    return batch.validate(suite, result_format="SUMMARY")


def unexpected_counts(result: "ExpectationSuiteValidationResult") -> dict[str, int]:
    """Returns rule -> rows that break it; 1 for ROWS_RULE if a day has none, 0 if all have some.

    -1 stands for an expectation that could not be run.
    """
    counts = {}
    for expectation in result.results:
        rule = (expectation.expectation_config.meta or {})["rule"]
        if expectation.exception_info.get("raised_exception", True):
            counts[rule] = -1
        elif rule == ROWS_RULE:
            counts[rule] = int(not expectation.success)
        else:
            counts[rule] = expectation.result.get("unexpected_count", 0)
    return counts


def _great_expectations() -> Any:
    """Imports Great Expectations, which takes seconds, with telemetry off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return great_expectations
