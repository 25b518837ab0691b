"""Several machines, each with a home of its own, share a lake on S3: none steps on another."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from contracts.lake.layout import Lake
from contracts.lake.publishing import change_json
from contracts.lake.reading import read_json
from features.ingestion.lookup_tables import build_items
from tests.s3 import chain, work
from tests.s3.conftest import Bucket

WORKERS = 3
MADE = ("landing/", "quarantine/", *(f"{table}/" for table in work.TABLES))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_workers_that_share_the_days_leave_what_one_would(
    bucket: Bucket, shop_folder: Path, tmp_path: Path, monkeypatch
):
    landing = bucket.put(shop_folder, "landing")
    environments = [
        {
            "FOOTPATH_HOME": str(tmp_path / f"machine{number}"),
            "FOOTPATH_LAKE": f"{bucket.url}/lake",
            "FOOTPATH_SOURCE_SHOP": landing,
        }
        for number in range(WORKERS)
    ]
    spawn = multiprocessing.get_context("spawn")
    for name, value in environments[0].items():
        monkeypatch.setenv(name, value)
    build_items(chain.SHOP, Lake.of("shop"))
    with ExitStack() as stack:
        machines = [
            stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for _ in environments
        ]
        for stage in work.STAGES:
            running = [
                machine.submit(work.run, stage, environment, chain.DAYS[number::WORKERS])
                for number, (machine, environment) in enumerate(
                    zip(machines, environments, strict=True)
                )
            ]
            for share in running:
                share.result()
    lake = Lake.of("shop")
    shared = chain.contents(lake, MADE)
    for table in work.TABLES:
        told = read_json(lake.root / "data_docs" / f"{table}.json")
        assert set(told) == set(map(str, chain.DAYS))  # of every worker

    monkeypatch.delenv("FOOTPATH_LAKE")
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "alone"))
    monkeypatch.setenv("FOOTPATH_SOURCE_SHOP", str(shop_folder))
    build_items(chain.SHOP, Lake.of("shop"))
    for stage in work.STAGES:
        work.run(stage, {})
    alone = chain.contents(Lake.of("shop"), MADE)
    assert shared.keys() == alone.keys()
    assert [name for name in alone if shared[name] != alone[name]] == []


def test_no_change_of_a_document_is_lost_to_another_machine(
    bucket: Bucket, lake_home: Path, monkeypatch
):
    monkeypatch.setenv("FOOTPATH_LAKE", f"{bucket.url}/lake")
    lake = Lake.of("shop")
    path = lake.root / "counts.json"

    def count(name: str) -> None:
        for _ in range(5):
            change_json(lake, path, lambda found: found | {name: found.get(name, 0) + 1})

    with ThreadPoolExecutor(3) as machines:
        list(machines.map(count, "abc"))
    assert read_json(path) == {"a": 5, "b": 5, "c": 5}
