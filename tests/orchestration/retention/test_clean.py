"""What nothing needs goes, what somebody needs stays, and nobody who reads is disturbed."""

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from contracts.base.clock import now
from contracts.base.locks import OwnFolder
from contracts.config.automation import Retention
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake, spill_folder
from contracts.lake.publishing import publish_json
from contracts.lake.versions import CONFIG, WEIGHTS, all_versions, is_trained, trial_folder
from features.store import apply_registry, repository
from features.store.serving.read_counts import ReadCounter, Reads, recent_reads
from features.store.similar import similar_users
from orchestration.promotion.candidates import versions_to_serve
from orchestration.retention.clean import clean
from orchestration.retention.report import Report
from tests.builders.datasets import dataset_like, shop
from tests.builders.retention import (
    GONE,
    NEWEST,
    SERVED,
    age,
    check_pointers,
    contents,
    old_lake,
    publish_sequences,
    put,
)
from tests.crash import dies_at, preload, steps_of

LATER = dt.timedelta(hours=25)
preload("orchestration.retention.clean", "features.store", "contracts.config.dataset")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that is copied for each test: to make it, Feast must be loaded."""
    lake = Lake(tmp_path_factory.mktemp("made") / "lake" / "shop")
    old_lake(lake)
    return lake


@pytest.fixture
def old(made: Lake, lake: Lake) -> Lake:
    """The lake of a shop that nobody has touched for 100 days."""
    return copied(made, lake)


def copied(made: Lake, lake: Lake) -> Lake:
    shutil.copytree(made.root, lake.root)
    return lake


def cleaned(lake: Lake, dataset: Dataset | None = None, **options: object) -> Report:
    return clean(dataset or shop(), lake, None, now(), **options)  # pyright: ignore


def trial(lake: Lake, version: str) -> Path:
    return next(v.folder(lake) for v in all_versions(lake) if v.version == version)


def removed(report: Report, kind: str) -> set[str]:
    return {each.name for each in report.of("removed") if each.kind == kind}


def why(report: Report, name: str) -> str:
    return next(each.why for each in report.judged if each.name == name)


def test_a_version_that_nothing_names_goes_as_a_whole_and_in_order(old: Lake):
    lake = old
    dataset = shop()
    first = cleaned(lake)
    assert removed(first, "model versions") == {GONE}
    assert removed(first, "similar-user indexes") == {f"{GONE}.json"}
    assert not (trial(lake, GONE) / CONFIG).exists()
    # Who has found it before can read on.
    assert (trial(lake, GONE) / WEIGHTS).exists()
    assert list(lake.table(f"user_embeddings/{GONE}").glob("*.parquet"))
    assert len(list((lake.root / "feature_store" / "similar").glob(f"{GONE}-*"))) == 1

    last = clean(dataset, lake, None, now() + LATER)
    assert removed(last, "embeddings") == {GONE}
    left = {path.name for path in trial(lake, GONE).iterdir()}
    assert left == {"curves.parquet", "metrics.json"}
    assert not lake.table(f"user_embeddings/{GONE}").exists()
    assert not list((lake.root / "feature_store" / "similar").glob(f"{GONE}-*"))
    # Its name is not given to another, and those that stay are whole.
    assert GONE in [version.version for version in all_versions(lake)]
    for version in (SERVED, *NEWEST):
        assert is_trained(lake, trial(lake, version).name)
        assert similar_users(lake, "u0", k=2, version=version)
        assert lake.table(f"user_embeddings/{version}").exists()
    assert why(last, SERVED) == "a feature service names it"
    check_pointers(lake)
    # The feature store and promotion go on without it.
    assert f"user_embeddings_{SERVED}" in apply_registry(dataset, lake).views
    assert GONE not in versions_to_serve(dataset, lake)


def test_the_newest_versions_stay_as_many_as_the_yaml_says(old: Lake):
    lake = old
    one = dataset_like("shop", automation={"keep": {"versions": 1}})
    assert removed(cleaned(lake, one), "model versions") == {GONE, *NEWEST[:2]}


def test_what_is_young_stays(old: Lake):
    lake = old
    age(lake, 20)
    assert removed(cleaned(lake), "model versions") == set()
    age(lake, 0.5)
    few = dataset_like("shop", automation={"keep": {"versions": 1, "days": 1, "sequences": 1}})
    report = cleaned(lake, few)
    assert report.of("removed") == []
    assert report.of("waiting") == []


def test_old_sequences_go_and_those_that_trainings_need_stay(old: Lake):
    lake = old
    report = cleaned(lake)
    assert removed(report, "training sequences") == {
        "2026-01-01.json",
        "2026-01-10__0123abcd.json",  # of a day that is embedded
    }
    # 2026-01-05: the models were trained on it; the newest two.
    kept = {path.stem for path in (lake.root / "sequences").glob("*.json")}
    assert kept == {"2026-01-05", "2026-01-08", "2026-01-09"}
    assert len(list((lake.root / "sequences").glob("*/item.npy"))) == 5
    clean(shop(), lake, None, now() + LATER)
    assert len(list((lake.root / "sequences").glob("*/item.npy"))) == 3
    check_pointers(lake)


def test_a_reader_who_has_read_a_pointer_or_opened_a_file_reads_on(old: Lake):
    lake = old
    pointer = lake.root / "sequences" / "2026-01-01.json"
    folder = pointer.parent / json.loads(pointer.read_text())["folder"]
    cleaned(lake)
    opened = np.load(folder / "item.npy", mmap_mode="r")  # by the pointer of before
    clean(shop(), lake, None, now() + LATER)
    assert not folder.exists()
    assert opened.sum() == sum(range(1000))


def test_what_is_made_again_in_the_meantime_stays(old: Lake):
    lake = old
    cleaned(lake)
    again = publish_sequences(lake, "2026-01-01", "2026-01-01")
    clean(shop(), lake, None, now() + LATER / 2)
    check_pointers(lake)
    # Nobody names it, but it was there again not long ago.
    (lake.root / "sequences" / "2026-01-01.json").unlink()
    clean(shop(), lake, None, now() + LATER / 2)
    assert (again / "item.npy").exists()


def test_a_second_clean_does_nothing(old: Lake):
    lake = old
    cleaned(lake)
    before = contents(lake)
    assert cleaned(lake).of("removed") == []
    assert contents(lake) == before
    clean(shop(), lake, None, now() + LATER)
    before = contents(lake)
    assert clean(shop(), lake, None, now() + LATER).of("removed") == []
    assert contents(lake) == before


def test_a_dry_run_tells_the_same_and_changes_nothing(old: Lake):
    lake = old
    before = contents(lake)
    told = cleaned(lake, dry_run=True)
    assert contents(lake) == before
    assert told.lines == cleaned(lake).lines
    assert str(told).endswith("would be removed")


def test_leftovers_of_programs_go(old: Lake):
    lake = old
    put(lake, "trials/killed/state.safetensors", "x")
    age(lake, 100)
    gone = {each.name for each in cleaned(lake).of("removed")}
    assert {"embed-x.json", "running/measure-left", "_staging/left", "events/old.html"} <= gone
    assert "labels_of_seeds/2026-01-05-split1.parquet" in gone
    assert (lake.root / "data_docs" / "events" / "new.html").exists()
    assert not (lake.work / "trials" / "killed" / "state.safetensors").exists()
    assert not (lake.work / "_staging" / "left").exists()


def test_a_training_that_was_killed_may_go_on_for_the_days_that_are_kept(old: Lake):
    lake = old
    state = put(lake, "trials/killed/state.safetensors", "x")
    age(lake, 20)
    cleaned(lake)
    assert state.exists()


def test_spill_files_of_processes_that_have_ended_go(lake: Lake):
    own = spill_folder()
    left = OwnFolder(own.parent)
    left._lock.release()  # as the end of a process does
    for folder in (left.path, own):
        (folder / "block").write_bytes(b"x" * 10)
        for path in (folder / "block", folder):
            os.utime(path, (time.time() - 90_000,) * 2)
    assert removed(cleaned(lake), "spill files") == {left.path.name}
    assert not left.path.exists()
    assert own.exists()


def unnamed(lake: Lake, name: str, days: int) -> Path:
    folder = trial_folder(lake, name)
    for file in (CONFIG, WEIGHTS, "curves.parquet"):
        put(lake, f"trials/{name}/{file}", "x" * 2000)
        os.utime(folder / file, (time.time() - days * 86400,) * 2)
    return folder


def small_room() -> Dataset:
    return dataset_like("shop", automation={"keep": {"unnamed_gb": 1e-6}})


def test_trials_without_a_name_share_a_room(lake: Lake):
    for name, days in (("old", 90), ("new", 40), ("now", 0)):
        unnamed(lake, name, days)
    report = cleaned(lake, small_room())
    assert removed(report, "trials without a name") == {"old", "new"}
    assert {path.name for path in trial_folder(lake, "old").iterdir()} == {"curves.parquet"}
    assert is_trained(lake, "now")  # whatever the room, it may be being read


def test_a_planned_comparison_holds_trials_and_sequences_until_it_is_shown(old: Lake):
    lake = old
    dataset = small_room()
    unnamed(lake, "old", 90)
    publish_json(lake, {}, lake.root / "comparisons" / "mine" / "plan.json")
    report = cleaned(lake, dataset)
    assert removed(report, "trials without a name") == set()
    assert why(report, "2026-01-01.json") == "comparison mine is planned and not finished"
    put(lake, "comparisons/mine/mine.md", "x")
    report = cleaned(lake, dataset)
    assert removed(report, "trials without a name") == {"old"}
    assert "2026-01-01.json" in removed(report, "training sequences")


def test_what_a_running_program_reads_stays(old: Lake, tmp_path: Path):
    lake = old
    unnamed(lake, "old", 90)
    job = tmp_path / "job.json"
    sequences = lake.work / "sequences" / "2026-01-01.json"
    files = {"sequences": str(sequences), "checkpoint": str(trial_folder(lake, "old"))}
    job.write_text(json.dumps({"io": files}))
    nothing = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", nothing, "models.embed", str(job)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout
        assert program.stdin
        program.stdout.readline()
        report = cleaned(lake, small_room())
        assert why(report, "2026-01-01.json") == "a program is reading or writing it"
        assert removed(report, "trials without a name") == set()
        program.stdin.close()
    assert "2026-01-01.json" in removed(cleaned(lake), "training sequences")


def test_what_a_job_whose_lock_is_held_reads_stays(old: Lake):
    lake = old
    unnamed(lake, "old", 90)
    text = json.dumps({"io": {"checkpoint": str(trial_folder(lake, "old"))}})
    put(lake, "runs/measure-1.json", text)
    with lake.locked("locks/measure-1"):
        report = cleaned(lake, small_room())
        assert removed(report, "trials without a name") == set()
    assert removed(cleaned(lake, small_room()), "trials without a name") == {"old"}


def test_a_lake_of_nothing_has_nothing_to_clean(lake: Lake):
    assert [each for each in cleaned(lake).judged if each.kind != "spill files"] == []


def test_defaults_keep_what_a_newcomer_may_still_want():
    keep = shop().automation.keep
    assert keep == Retention()
    assert keep.unnamed_bytes == pytest.approx(2e9)


def clean_in(home: str, hours: float) -> None:
    os.environ["FOOTPATH_HOME"] = home
    clean(shop(), Lake.of("shop"), None, now() + dt.timedelta(hours=hours))


def kill_and_go_on(made: Lake, folder: Path, stride: int) -> None:
    """Kills a clean, or the one after it, before every so manieth of its steps."""

    def fresh(name: str) -> Lake:
        return copied(made, Lake(folder / name / "lake" / "shop"))

    undisturbed, home = fresh("undisturbed"), str(folder / "undisturbed")
    first, second = (steps_of(clean_in, home, hours) for hours in (0, 25))
    assert first > 5
    assert second > 5
    for step in range(stride // 2, first + second, stride):
        lake, home = fresh(f"killed{step}"), str(folder / f"killed{step}")
        if step < first:
            assert dies_at(step, clean_in, home, 0)
        else:
            clean_in(home, 0)
            assert dies_at(step - first, clean_in, home, 25)
        check_pointers(lake)
        clean_in(home, 26)
        clean_in(home, 52)
        left, wanted = ({*contents(each)} - {"retired.json"} for each in (lake, undisturbed))
        assert left == wanted


def test_killed_it_leaves_a_whole_lake(made: Lake, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path))
    kill_and_go_on(made, tmp_path, stride=12)


@pytest.mark.long
def test_killed_before_any_of_its_steps_it_leaves_a_whole_lake(made: Lake, tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path))
    kill_and_go_on(made, tmp_path, stride=1)


def test_counts_of_reads_go_once_retire_cannot_ask_for_them(old: Lake, monkeypatch):
    lake, moment = old, now()

    def at(days: float) -> None:
        monkeypatch.setenv("FOOTPATH_NOW", (moment + dt.timedelta(days)).isoformat())

    for back in range(30):
        at(-back)
        counter = ReadCounter(lake)
        counter.note("user_representation__v1", users=2)
        counter.flush()
    later = [n / 2 - 1 for n in range(20)]  # by a clock that is a day behind, too

    def asked() -> list[Reads]:
        found = []
        for days in later:
            at(days)
            found.append(recent_reads(lake, "user_representation__v1"))
        at(0)
        return found

    before = asked()
    age(lake, 2)
    report = cleaned(lake)
    assert asked() == before
    assert before[2].requests == 8
    counted = sorted(path.name for path in (repository(lake) / "reads").iterdir())
    assert len(counted) == 9
    assert removed(report, "counts of reads") == {
        str((moment - dt.timedelta(back)).date()) for back in range(9, 30)
    }
    assert removed(cleaned(lake), "counts of reads") == set()
