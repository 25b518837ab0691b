"""The tables of a lake without some users, days of events with what the gate has refused of them.

In:  what was found. Out: the objects anew, and for each table which of them were replaced.
"""

from collections import defaultdict
from pathlib import Path

from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import stamps
from orchestration.forgetting.found import Found
from orchestration.forgetting.ids import Ids
from orchestration.forgetting.online import Moved
from orchestration.forgetting.refused import Refused
from orchestration.forgetting.tables import rewrite, settle_events, without_users


def rewrite_tables(dataset: Dataset, lake: Lake, ids: Ids, found: Found, is_resumed: bool) -> Moved:
    """Removes the users from all tables.

    Args:
      dataset: maps refused rows to users.
      lake: is changed.
      ids: who goes.
      found: where they are.
      is_resumed: every day of events is held to what is there, since a call before was killed.
    """
    of_table: dict[Path, list[Path]] = defaultdict(list)
    for path in found.tables:
        of_table[path.parent].append(path)
    before = {folder: stamps(folder) for folder in of_table}
    _rewrite_events(dataset, lake, ids, found, is_resumed)
    for folder, paths in of_table.items():
        for path in paths if folder != lake.table("events") else ():
            # What is known of the online store goes with the rows in it (online.py).
            if folder.name != "online" or folder.parent.name != "feature_store":
                without_users(lake, path, ids)
    for copy in found.copies:
        copy.unlink(missing_ok=True)
    return {
        folder.relative_to(lake.root).as_posix(): {
            name: (before[folder][name], stamp)
            for name, stamp in stamps(folder).items()
            if before[folder].get(name, stamp) != stamp
        }
        for folder in of_table
    }


def _rewrite_events(dataset: Dataset, lake: Lake, ids: Ids, found: Found, is_resumed: bool) -> None:
    """First what the gate has refused, then the days, whose footers count both."""
    refused = [path for path in found.landed.refused if path.parent.name != "landing"]
    with connect() as connection:
        judge = Refused(connection, dataset, ids)
        for path in refused:
            rewrite(lake, path, judge.gone)
    events = lake.table("events")
    days = {path.name for path in [*refused, *(p for p in found.tables if p.parent == events)]}
    for name in sorted(stamps(events)):
        if is_resumed or name in days:
            settle_events(lake, events / name, ids, lake.table("quarantine") / "events" / name)
