"""The shipped data sets on the real files: every row is accounted for, and the counts are theirs.

The plain tests land a few of them; the long ones run the chain up to the daily tables. Each skips
where its files are not there. FOOTPATH_TEST_DATA says where they are.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from contracts.config.dataset import load_dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.drafts.preview import preview
from features.ingestion.landing import land
from features.ingestion.lookup_tables import build_items, build_users
from tests.conftest import REAL_DATA
from tests.orchestration.conftest import footpath


@dataclass(frozen=True)
class Facts:
    """What is known of a data set from outside of this project."""

    folder: str
    rows: int
    users: int
    items: int  # that events name
    actions: dict[str, int]
    sessions: int | None = None
    added: int = 0  # by explode
    quarantined: dict[str, int] = field(default_factory=dict)
    catalog: int = 0
    described_users: int = 0


# Figures of shared/data's README and of the publishers; those of actions were counted with DuckDB
# over the files themselves.
FACTS = {
    "ml-1m": Facts(
        "ml-1m", 1_000_209, 6_040, 3_706, {"rate": 1_000_209},
        catalog=3_883, described_users=6_040,
    ),
    "online-retail": Facts(
        "online-retail", 541_909, 4_372, 3_684, {"purchase": 397_924, "cancel": 8_905},
        quarantined={"user_id_present": 135_080}, catalog=3_922,
    ),
    "globo-clicks": Facts(
        "globo-clicks", 2_230_131, 280_578, 34_647, {"click": 2_230_131},
    ),
    "trivago-2019": Facts(
        "trivago-2019", 100_003, 6_593, 107_603,
        {
            "impression": 312_539, "interaction_item_image": 68_538, "clickout_item": 13_597,
            "filter_selection": 5_303, "search_for_destination": 3_060,
            "change_of_sort_order": 2_948, "interaction_item_info": 1_829,
            "interaction_item_rating": 1_445, "interaction_item_deals": 1_159,
            "search_for_poi": 1_080, "search_for_item": 1_044,
        },
        added=312_539, described_users=6_593,
    ),
    # A session lies within one day there, and is the user.
    "eshop-2008": Facts(
        "eshop-2008", 165_474, 24_026, 217, {"view": 165_474},
        sessions=24_026, catalog=217, described_users=24_026,
    ),
    # A row is a user.
    "s3rec-beauty": Facts(
        "s3rec", 22_363, 22_363, 12_101, {"review": 198_502},
        added=198_502 - 22_363, catalog=12_101,
    ),
    "s3rec-yelp": Facts(
        "s3rec", 30_431, 30_431, 20_033, {"review": 316_354},
        added=316_354 - 30_431, catalog=20_033,
    ),
}  # fmt: skip


def folder_of(name: str) -> Path:
    folder = REAL_DATA / FACTS[name].folder
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: put the files of {name} in it (docs/your-data.md)")
    return folder


@pytest.mark.parametrize("name", ["s3rec-beauty", "eshop-2008"])
def test_every_row_of_the_files_is_in_a_fragment_or_in_quarantine(name, lake_home):
    facts, dataset, lake = FACTS[name], load_dataset(name), Lake.of(name)
    link_source(name, str(folder_of(name)))
    report = land(dataset, lake, None)
    assert (report.rows, report.quarantined) == (facts.rows, 0)
    assert sum(sum(file.days.values()) for file in report.files) == facts.rows + facts.added
    assert (build_items(dataset, lake), build_users(dataset, lake)) == (
        facts.catalog,
        facts.described_users,
    )


@pytest.mark.parametrize("name", FACTS)
def test_a_sample_of_every_data_set_becomes_events(name, lake_home):
    sample = preview(load_dataset(name), str(folder_of(name)), seconds=2)
    assert sample.rows > 1000
    assert sample.refused_rows == 0
    assert sample.actions.keys() <= set(load_dataset(name).actions)
    assert not any(action not in FACTS[name].actions for action in sample.actions)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FACTS)
def test_the_chain_accounts_for_every_row(name, tmp_path):
    facts, folder = FACTS[name], folder_of(name)
    arguments = ("run", "--dataset", name, "--data", str(folder), "--until", "daily")
    result = footpath(tmp_path, *arguments, timeout=3500)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(rf"landing {facts.rows:,}\b", result.stdout), result.stdout
    lake = tmp_path / "lake" / name
    with duckdb.connect() as connection:

        def rows(query: str) -> list[tuple]:
            return connection.execute(query).fetchall()

        events = f"read_parquet('{lake}/events/*.parquet')"
        assert dict(rows(f"SELECT action, count(*) FROM {events} GROUP BY 1")) == facts.actions
        ids = rows(
            f"SELECT count(DISTINCT user_id), count(DISTINCT item_id), count(DISTINCT event_id) "
            f"FROM {events}"
        )[0]
        total = sum(facts.actions.values())
        assert ids == (facts.users, facts.items, total)
        refused: dict[str, int] = {}
        if any((lake / "quarantine").glob("*/*.parquet")):
            broken = f"SELECT unnest(broken) FROM read_parquet('{lake}/quarantine/*/*.parquet')"
            refused = dict(rows(f"SELECT b, count(*) FROM ({broken}) AS t(b) GROUP BY 1"))
        assert refused == facts.quarantined
        # No row repeats another: what is not refused is published.
        assert total + sum(refused.values()) == facts.rows + facts.added
        sessions = f"read_parquet('{lake}/sessions/*.parquet')"
        count, length = rows(f"SELECT count(*), sum(length) FROM {sessions}")[0]
        assert length == total
        assert count == (facts.sessions or count)
        for table, expected in (("items", facts.catalog), ("users", facts.described_users)):
            path = lake / f"{table}.parquet"
            assert path.exists() == bool(expected)
            if expected:
                assert rows(f"SELECT count(*) FROM '{path}'") == [(expected,)]
        if name == "online-retail":
            assert _identical_rows(connection, lake) == (5_225, 43)


def _identical_rows(connection: duckdb.DuckDBPyConnection, lake: Path) -> tuple[int, int]:
    """Returns how many rows equal an earlier one: published, and in quarantine. 5,268 in all."""
    fields = "user_id, timestamp, action, item_id, value, properties"
    published = f"SELECT {fields} FROM read_parquet('{lake}/events/*.parquet')"
    # Their ids tell identical rows apart, so they are left out.
    quarantined = (
        'SELECT regexp_replace(raw, \'"event_id":"[^"]*"\', \'\') AS raw '
        f"FROM read_parquet('{lake}/quarantine/events/*.parquet')"
    )
    counts = [
        connection.execute(
            f"SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT * FROM ({rows}))) "
            f"FROM ({rows})"
        ).fetchall()[0][0]
        for rows in (published, quarantined)
    ]
    return counts[0], counts[1]


ML_20M = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,29,3.5,1112484676\n"
    "138493,71619,2.5,1255811136\n",
    "movies.csv": "movieId,title,genres\n"
    "2,Jumanji (1995),Adventure|Children|Fantasy\n"
    '29,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Sci-Fi\n'
    "71619,Coco (2009) ,(no genres listed)\n",
}


def test_movielens_20m_is_read_in_its_genuine_format(tmp_path, lake_home):
    for file, content in ML_20M.items():
        (tmp_path / file).write_text(content, encoding="utf-8")
    dataset, lake = load_dataset("ml-20m"), Lake.of("ml-20m")
    link_source("ml-20m", str(tmp_path))
    assert land(dataset, lake, None).rows == 3
    events = preview(dataset, str(tmp_path)).events.to_pylist()
    assert [(e["user_id"], e["item_id"], e["value"]) for e in events] == [
        ("1", "2", 3.5),
        ("1", "29", 3.5),
        ("138493", "71619", 2.5),
    ]
    assert events[0]["timestamp"].isoformat() == "2005-04-02T23:53:47+00:00"
    assert build_items(dataset, lake) == 3
    items = duckdb.read_parquet(str(lake.single("items"))).order("item_id").fetchall()
    assert [(item[1], item[2], dict(item[3]).get("year")) for item in items] == [
        ("Jumanji (1995)", "adventure", "1995"),
        ("City of Lost Children, The (Cité des enfants perdus, La) (1995)", "adventure", "1995"),
        ("Coco (2009) ", None, "2009"),
    ]
