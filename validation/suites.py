"""The rules of a table as Great Expectations suites, run over pandas.

In: an audit (validation/table_rules.py) and the audited columns of some days; figures of each day
with their bounds (validation/profile.py). Out: Great Expectations' own results, whose counts the
gate compares with DuckDB's. Row by row expectations hold over many days at once just as over each
of them; that every day has rows and that keys are unique within a day are written over the column
`day`. Telemetry and progress bars are off.
"""

import functools
import logging
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from contracts.base.batches import chunks
from validation.profile import DayFrame
from validation.table_rules import Audit

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.datasource.fluent.pandas_datasource import PandasDatasource

ROWS_RULE = "day_has_rows"

# Expectations that see one frame: for each of its columns, Great Expectations copies all of it.
EXPECTATIONS = 16


def build_suite(audit: Audit, days: list[str]) -> "ExpectationSuite":
    """The suite for rows of these days.

    Args:
      audit: the table's rules. A row rule tolerates the share that it may.
      days: ISO days that the rows are of, all of their rows; none if they are but a part of one.
    """
    gx = _great_expectations()
    expectations = [
        getattr(gx.expectations, rule.expectation)(
            **rule.arguments,
            mostly=1 - audit.rule_shares.get(rule.name, audit.max_broken_share),
            meta={"rule": rule.name},
            notes=rule.sentence,
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


def days_suite(audit: Audit, days: DayFrame) -> "ExpectationSuite":
    """The suite of the figures of days: each keeps its bounds on every day."""
    gx = _great_expectations()
    return gx.ExpectationSuite(
        name=f"{audit.table} by day",
        expectations=[
            gx.expectations.ExpectColumnValuesToBeBetween(
                column=bound.figure,
                max_value=bound.most,
                severity="critical" if bound.stops else "warning",
                meta={"rule": bound.name},
                notes=f"{bound.sentence} must be at most {bound.most:g}",
            )
            for bound in days.bounds
        ],
    )


@functools.cache
def _data_source() -> "PandasDatasource":
    """The data source of the process's one Great Expectations context."""
    context = _great_expectations().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context.data_sources.add_pandas("staged")


@functools.cache
def _batch_definition(suite_name: str) -> "BatchDefinition":
    asset = _data_source().add_dataframe_asset(suite_name)
    return asset.add_batch_definition_whole_dataframe("rows")


def validate(suite: "ExpectationSuite", rows: pa.Table) -> "ExpectationSuiteValidationResult":
    """Runs a suite over rows: audited columns, and `day` as an ISO day."""
    gx = _great_expectations()
    parts = chunks(((each, 1) for each in suite.expectations), EXPECTATIONS)
    return together(
        [_validate(gx.ExpectationSuite(suite.name, expectations=part), rows) for part in parts]
    )


def _validate(suite: "ExpectationSuite", rows: pa.Table) -> "ExpectationSuiteValidationResult":
    columns = sorted({"day"}.union(*map(_columns_of, suite.expectations)))
    # Categories: nulls are found, and copies made, without touching a string.
    frame = rows.select(columns).to_pandas(strings_to_categorical=True)
    batch = _batch_definition(suite.name).get_batch({"dataframe": frame})
    return batch.validate(suite, result_format="BASIC")


def _columns_of(expectation: Any) -> set[str]:
    given = (getattr(expectation, key, None) for key in ("column", "column_A", "column_B"))
    return {column for column in given if column} | set(getattr(expectation, "column_list", ()))


def together(
    parts: "list[ExpectationSuiteValidationResult]",
) -> "ExpectationSuiteValidationResult":
    """The results of several suites as those of one."""
    results = [result for part in parts for result in part.results]
    succeeded = sum(bool(result.success) for result in results)
    return type(parts[0])(
        success=succeeded == len(results),
        results=results,
        suite_name=parts[0].suite_name,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": succeeded,
            "unsuccessful_expectations": len(results) - succeeded,
            "success_percent": 100.0 * succeeded / len(results),
        },
        meta=parts[0].meta,
    )


def unexpected_counts(result: "ExpectationSuiteValidationResult") -> dict[str, int]:
    """Returns rule -> rows that break it; 1 for ROWS_RULE if a day has none, 0 if all have some.

    -1 stands for an expectation that could not be run.
    """
    counts = {}
    for expectation in result.results:
        config = expectation.expectation_config
        rule = (config.meta if config and config.meta else {})["rule"]
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
