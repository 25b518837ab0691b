"""Landing may die at any moment: what readers see is whole, and the next run puts all right."""

import os

import pyarrow.parquet as pq

from contracts.lake.layout import Lake
from features.ingestion.editable import read_editable
from features.ingestion.landing import land
from features.ingestion.manifest import committed_fragments
from features.ingestion.replay import repair
from tests import crash
from tests.builders.datasets import shop_like
from tests.builders.landing import landed, refused, row
from tests.features.ingestion.test_replay import mended

SHOP = shop_like()
DAYS = [SHOP.partitions.start.replace(day=n) for n in range(1, 11)]
crash.preload("features.ingestion.landing", "tests.builders.landing")


def run_landing(home: str) -> None:
    os.environ["FOOTPATH_HOME"] = home
    land(SHOP, Lake.of("shop"), None)


FILE = "2026-01-05/09"
A, B, C = (row(i, f"2026-01-0{n}T10:00:00Z") for i, n in (("a", 5), ("b", 4), ("c", 3)))


def counted_rows(lake: Lake) -> set[str]:
    """Returns the ids in the fragments that count, all of which must be readable."""
    fragments = committed_fragments(lake, DAYS)
    return {i for part in fragments for i in pq.read_table(part.path)["event_id"].to_pylist()}


def test_a_file_counts_whole_or_not_at_all_wherever_landing_dies(source, lake_home):
    lake = Lake.of("shop")
    seen = []
    died = True
    while died:
        source.write(FILE, A, B, "{")
        land(SHOP, lake, None)
        source.write(FILE, A, C)
        died = crash.dies_at(len(seen), run_landing, str(lake_home))
        seen.append(counted_rows(lake))
        land(SHOP, lake, None)
        assert landed(lake) == {"2026-01-05": ["a"], "2026-01-03": ["c"]}
        assert refused(lake) == []
    old, new = {"a", "b"}, {"a", "c"}
    # Fragments and quarantine come before the change, what is left of the old ones goes after it.
    assert seen == sorted(seen, key=[old, new].index)
    assert seen.count(old) >= 4
    assert seen.count(new) >= 3


def test_what_a_killed_run_left_is_not_read_if_the_file_has_changed_since(source, lake_home):
    lake = Lake.of("shop")
    source.write(FILE, A, B)
    assert crash.dies_at(2, run_landing, str(lake_home))
    source.write(FILE, A, C)
    land(SHOP, lake, None)
    assert landed(lake) == {"2026-01-05": ["a"], "2026-01-03": ["c"]}


def test_mended_rows_stay_mended_wherever_a_file_that_is_read_anew_dies(
    source, lake_home, tmp_path
):
    lake = Lake.of("shop")
    path = source.write(FILE, A, "{")
    land(SHOP, lake, None)
    row_b = {"id": "b", "user": "u1", "ts": "2026-01-04T10:00:00Z", "type": "view"}
    repair(SHOP, lake, read_editable(mended(lake, SHOP, tmp_path, unreadable=row_b)))
    whole = {"2026-01-05": ["a"], "2026-01-04": ["b"]}
    assert landed(lake) == whole
    died, step = True, 0
    while died:
        os.utime(path, (step, step))  # delivered again as it was
        died = crash.dies_at(step, run_landing, str(lake_home))
        land(SHOP, lake, None)
        assert landed(lake) == whole
        assert refused(lake) == []
        step += 1
    assert step >= 6
