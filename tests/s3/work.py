"""What tests of kills and of several workers run in processes of their own: one stage of a lake.

Modules are imported here, once, for all children (tests/crash.py).
"""

import datetime as dt
import os

import great_expectations  # noqa: F401 - takes seconds in every child otherwise
import ibis.backends.duckdb  # noqa: F401
import s3fs  # noqa: F401

from contracts.lake.layout import Lake
from features.ingestion.landing import land
from tests.builders.daily import TABLES, build_days
from tests.s3 import chain

STAGES = ("land", *TABLES)


def run(stage: str, environment: dict[str, str], days: list[dt.date] | None = None) -> None:
    """Runs a stage of some days, or of all: lands, or stages, audits and publishes a table."""
    os.environ.update(environment)
    lake = Lake.of("shop")
    if stage == "land":
        land(chain.SHOP, lake, days)
        return
    build_days(chain.SHOP, lake, stage, days or chain.DAYS)
