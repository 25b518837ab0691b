"""What the gate says of a day, and the step that makes a day visible.

In:  a verdict, while the staging folder with its files is there. Out: the published day, its
description beside it, and its refused rows in quarantine. A stopped day leaves what was published
before as it was.
"""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file, remove_files
from validation.profile import write_description
from validation.quarantine import quarantine_day


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
