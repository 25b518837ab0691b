"""A user who was forgotten is nowhere below home, stays so, and nobody else notices."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.sources import link_source
from contracts.lake.forgotten import add_forgotten
from contracts.lake.layout import Lake, home
from contracts.lake.reading import read_json
from features.ingestion.landing import land
from features.ingestion.lookup_tables import build_users, changed_lookups
from features.ingestion.manifest import file_id
from features.reconciliation import reconcile
from features.staleness import find_stale
from features.store import materialize
from features.store.freshness import store_behind
from features.store.similar import similar_users
from orchestration.forgetting.forget import Forgot, forget
from orchestration.forgetting.ids import Ids
from tests import crash
from tests.builders.daily import build
from tests.builders.landing import Source, row
from tests.builders.planted import (
    DAYS,
    OTHERS,
    PLANTED,
    SHOP,
    VERSION,
    open_instance,
    other_rows,
    plant,
    touch,
)
from tests.builders.traces import traces

KEY = "a secret of this test"
crash.preload("tests.builders.planted", "orchestration.forgetting.forget")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the home and the source of a shop, built once."""
    folder = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(folder / "home"))
        plant(folder / "home", folder / "source")
        yield folder


@pytest.fixture
def folder(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    shutil.copytree(planted, tmp_path / "copy")
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "copy" / "home"))
    monkeypatch.setenv("FOOTPATH_FORGET_KEY", KEY)
    link_source("shop", str(tmp_path / "copy" / "source"))
    return tmp_path / "copy"


def forget_planted(dry_run: bool = False) -> Forgot:
    with open_instance(home()) as instance:
        return forget(SHOP, Lake.of("shop"), instance, Ids([PLANTED]), dry_run)


@dataclass(frozen=True)
class Before:
    """What was there before a user was forgotten, and what forgetting said."""

    folder: Path
    places: set[str]
    rows: dict[str, list[tuple]]
    models: dict[Path, bytes]
    dry: Forgot
    done: Forgot


@pytest.fixture(scope="module")
def before(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Before]:
    """A copy of it in which the user was forgotten; no test changes it."""
    folder = tmp_path_factory.mktemp("forgotten") / "copy"
    shutil.copytree(planted, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(folder / "home"))
        patch.setenv("FOOTPATH_FORGET_KEY", KEY)
        link_source("shop", str(folder / "source"))
        places = {trace.split("/")[0] for trace in traces(folder / "home", PLANTED)}
        rows = other_rows(Lake.of("shop"))
        models = {path: path.read_bytes() for path in (folder / "home").rglob("trials/*/*")}
        dry = forget_planted(dry_run=True)
        assert other_rows(Lake.of("shop")) == rows
        yield Before(folder, places, rows, models, dry, forget_planted())


@pytest.mark.long
def test_nothing_of_a_forgotten_user_is_left_below_home(before: Before):
    assert before.places >= {"lake", "dagster", "production"}
    assert traces(before.folder / "home", PLANTED) == []
    assert before.done.lines == before.dry.lines
    assert {line.place for line in before.done.lines} >= {
        "landing/fragments", "quarantine/landing", "quarantine/events", "events", "sessions",
        "user_daily_activity", "user_behavior_features", "user_daily_sessions",
        "user_session_features", f"user_embeddings/{VERSION}", "labels",
        "head_features", "sequences", "feature_store/similar", "feature_store/online",
        "stopped/events", "users.parquet", "logs", "Dagster's databases",
    }  # fmt: skip
    log = before.folder / "home/production/log/code.log"
    assert log.read_text().endswith("\nand 12 others\n")


def test_nobody_else_notices_that_a_user_was_forgotten(before: Before):
    lake = Lake.of("shop")
    assert other_rows(lake) == before.rows
    accounts = reconcile(SHOP, lake, recount=True)
    assert accounts.faults == []
    # Of each day three rows of one file and one of another; two refused, a broken and a mended one.
    assert (accounts.forgotten, accounts.waiting) == (4 * 4 + 4, 0)
    assert not any(find_stale(SHOP, lake).reasons.values())
    assert (store_behind(SHOP, lake), changed_lookups(SHOP, lake)) == ([], {})
    assert [user for user, _ in similar_users(lake, "u1")] == ["u2", "u3"]
    report = materialize(SHOP, lake, verify_all=True)
    items = 1  # whose counts stay as they were known: they name nobody
    assert (report.rows, report.repaired, report.looked) == (0, {}, 3 * len(OTHERS) + items)


def test_models_and_source_files_are_named_and_not_touched(before: Before):
    named = before.done.sources
    assert named.versions == [VERSION]
    assert sorted(named.files) == sorted([
        "users.csv", f"events/{DAYS[1]}/11.jsonl.gz",
        *(f"events/{day}/{hour}.jsonl.gz" for day in DAYS for hour in ("09", "10")),
    ])  # fmt: skip
    assert len(traces(before.folder / "source", PLANTED)) == len(named.files)
    assert before.models == {path: path.read_bytes() for path in before.models}
    assert before.models


def test_the_record_counts_what_went(before: Before):
    records = sorted(path for path in (Lake.of("shop").root / "forgotten").glob("*.json"))
    assert [path.name for path in records][1:] == ["hashes.json"]
    record = read_json(records[0])
    rows = {line["place"]: line["rows"] for line in record["removed"]}
    assert (record["users"], record["models"]) == (1, before.done.sources.versions)
    assert (rows["events"], rows["quarantine/events"], rows["quarantine/landing"]) == (13, 1, 2)


@pytest.mark.long
def test_the_same_source_landed_again_brings_a_forgotten_user_nowhere(folder: Path):
    lake = Lake.of("shop")
    forget_planted()
    tables, manifests = other_rows(lake), manifests_by_file(lake)
    touch(folder / "source")
    Source(folder / "source").write(f"{DAYS[3]}/12", row("late", f"{DAYS[0]}T09:30:00Z", PLANTED))

    report = land(SHOP, lake, None)
    build_users(SHOP, lake)
    stale = find_stale(SHOP, lake).reasons
    build(SHOP, lake, [*stale["events"]], ("events",))

    assert traces(folder / "home", PLANTED) == []
    assert {name: rows for name, rows in other_rows(lake).items() if name in tables} == {
        name: rows for name, rows in tables.items() if not name.startswith(MENDED)
    }
    assert [file.forgotten for file in report.files] == [4, 1]
    # The late file has a row of the first day. Of the second, nobody mends the user's row again;
    # no other digest of what was read before has changed.
    assert list(stale["events"]) == DAYS[:2]
    found = manifests_by_file(lake)
    assert {file: found[file] for file in manifests} == manifests
    accounts = reconcile(SHOP, lake, recount=True)
    assert (accounts.faults, accounts.forgotten, accounts.waiting) == ([], 21, 0)


# Fragments of the file of which a row was mended: their names follow from what was mended.
MENDED = f"landing/fragments/{DAYS[1]}/{file_id(f'events/{DAYS[1]}/11.jsonl.gz')}"


def manifests_by_file(lake: Lake) -> dict[str, dict]:
    """Manifests but for when their files were written, without that of the mended row."""
    found = map(read_json, (lake.root / "landing" / "files").glob("*.json"))
    return {each["path"]: each | {"stamp": ""} for each in found if not each["repairs"]}


def forget_in(home_folder: str) -> None:
    os.environ["FOOTPATH_HOME"] = home_folder
    forget_planted()


@pytest.mark.long
def test_a_call_that_was_killed_again_and_again_ends_as_one_that_was_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    killed = sum(crash.dies_at(step, forget_in, str(folder / "home")) for step in (8, 33))
    assert killed == 2
    forget_planted()
    assert traces(folder / "home", PLANTED) == []
    here, accounts = other_rows(Lake.of("shop")), reconcile(SHOP, Lake.of("shop"), recount=True)
    (record,) = Lake.of("shop").root.glob("forgotten/*Z.json")
    monkeypatch.setenv("FOOTPATH_HOME", str(whole / "home"))
    forget_planted()
    assert (accounts.faults, accounts.forgotten) == ([], 20)
    assert here == other_rows(Lake.of("shop"))
    (other,) = Lake.of("shop").root.glob("forgotten/*Z.json")
    assert read_json(record)["removed"] == read_json(other)["removed"]


def test_without_its_key_nobody_lands_or_forgets(folder: Path, monkeypatch: pytest.MonkeyPatch):
    lake = Lake.of("shop")
    monkeypatch.delenv("FOOTPATH_FORGET_KEY")
    with pytest.raises(FootpathError, match="FOOTPATH_FORGET_KEY is not set, and forgetting"):
        forget_planted()
    monkeypatch.setenv("FOOTPATH_FORGET_KEY", KEY)
    add_forgotten(lake, [PLANTED])
    monkeypatch.setenv("FOOTPATH_FORGET_KEY", "another")
    with pytest.raises(FootpathError, match="is not the key with which"):
        land(SHOP, lake, None)
    monkeypatch.delenv("FOOTPATH_FORGET_KEY")
    with pytest.raises(FootpathError, match="FOOTPATH_FORGET_KEY is not set, and users of shop"):
        land(SHOP, lake, None)


def test_a_run_under_way_is_waited_for(folder: Path):
    with open_instance(home()) as instance:
        run = instance.get_runs()[0]
    database = next((folder / "home" / "dagster").rglob("runs.db"))
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE runs SET status = 'STARTED', run_body = replace(run_body, "
                           "'SUCCESS', 'STARTED')")  # fmt: skip
    with pytest.raises(FootpathError, match=f"under way, such as {run.run_id}"):
        forget_planted()
    assert traces(folder / "home", PLANTED)
    assert pq.read_table(Lake.of("shop").single("users"))["user_id"].to_pylist()[-1] == PLANTED
