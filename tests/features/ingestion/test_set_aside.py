"""A pass that is larger than memory: rows are set aside, and what is spilled is bounded."""

import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import Dataset
from contracts.lake.forgotten import add_forgotten
from contracts.lake.layout import Lake, home
from features.ingestion import partition, reader
from features.ingestion.formats import parquet
from features.ingestion.landing import land
from tests.builders.datasets import shop_like
from tests.builders.landing import linked

ROWS = [
    {
        "id": f"{n}",
        "user": ("ann", "bob", "eve", None)[n % 4],
        "ts": "soon" if n % 11 == 5 else f"2026-01-0{1 + n % 3}T10:00:00Z",
        "n": [n, n + 1] if n % 5 else None,
    }
    for n in range(60)
]


def write_jsonl(path: Path) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)


def dataset(kind: str, explode: bool) -> Dataset:
    columns = {"id": "VARCHAR", "user": "VARCHAR", "ts": "VARCHAR", "n": "BIGINT[]"}
    events = {"event_id": "id", "user_id": '"user"', "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)"}
    events |= {"action": "'view'"}
    if explode:
        events |= {"explode": "n", "item_id": "each::VARCHAR"}
    return shop_like(
        landing={"url": f"*.{kind}", "format": kind, "columns": columns}, events=events,
        quality={"max_refused_share": 1},
    )  # fmt: skip


def tables(lake: Lake) -> dict[str, list[dict]]:
    """Rows of fragments and quarantine, in order, and the manifests."""
    found = {}
    for table, pattern in (("landing", "fragments/*/*.parquet"), ("quarantine", "*/*.parquet")):
        for path in sorted(lake.table(table).glob(pattern)):
            found[path.name + path.parent.name] = pq.ParquetFile(path).read().to_pylist()
    for path in lake.table("landing").glob("files/*.json"):
        found[path.name] = [json.loads(path.read_text()) | {"stamp": ""}]
    return found


@pytest.mark.parametrize("explode", [False, True])
@pytest.mark.parametrize(("kind", "write"), [("jsonl", write_jsonl), ("parquet", write_parquet)])
def test_rows_that_were_set_aside_become_what_they_would_have_become(
    tmp_path, monkeypatch, kind, write, explode
):
    folder = linked(tmp_path / "source")
    monkeypatch.setenv("FOOTPATH_FORGET_KEY", "a key")
    for name in ("a", "b"):
        write(folder / f"{name}.{kind}")
    kept = []
    original = partition.Partitioner._set_aside
    for place in ("whole", "aside"):
        monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / place))
        linked(folder)
        lake, times = Lake.of("shop"), []
        if place == "aside":
            monkeypatch.setattr(reader, "BLOCK", 300)
            monkeypatch.setattr(reader, "CHUNK", 1000)
            monkeypatch.setattr(parquet, "CHUNKS", 10_000_000)
            monkeypatch.setattr(partition, "SHARE", 10**12)
            monkeypatch.setattr(
                partition.Partitioner,
                "_set_aside",
                lambda self, times=times: times.append(original(self)),
            )
        add_forgotten(lake, ["eve"])
        land(dataset(kind, explode), lake, None)
        kept.append(tables(lake))
    assert len(times) > 5
    assert kept[0] == kept[1]
    assert len(kept[0]) >= 8  # three days and refused rows of two files


def test_a_parquet_of_long_texts_spills_no_more_than_memory(tmp_path, lake, monkeypatch):
    folder, rows, memory = linked(tmp_path / "source"), 80_000, 100_000_000
    monkeypatch.setenv("FOOTPATH_MEMORY", "100MB")
    values = pa.array(["x" * 1000 + str(n) for n in range(7)])
    texts = pa.DictionaryArray.from_arrays(pa.array([n % 7 for n in range(rows)]), values)
    times = pa.array(["2026-01-05T10:00:00Z"] * rows).dictionary_encode()
    pq.write_table(pa.table({"user": texts, "ts": times}), folder / "a.parquet")
    assert (folder / "a.parquet").stat().st_size < 1_000_000  # of 80 MB
    columns = {"user": "VARCHAR", "ts": "VARCHAR"}
    events = {"user_id": 'left("user", 900)', "item_id": '"user"', "action": "'view'"}
    events |= {"timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)"}
    landing = {"url": "*.parquet", "format": "parquet", "columns": columns}
    shop = shop_like(landing=landing, events=events)
    most, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.02):
            sizes = 0
            for path in (home() / "spill").rglob("*"):
                try:
                    sizes += path.stat().st_size
                except FileNotFoundError:
                    continue
            most = max(most, sizes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert land(shop, lake, None).rows == rows
    finally:
        ended.set()
        watcher.join()
    assert 0 < most < memory
