"""A row that holds a list becomes an event for each element, and none is lost or made up."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from contracts.lake.reading import read_json
from features.drafts.preview import preview
from features.ingestion.dedup import stage_events
from features.ingestion.editable import write_editable
from features.ingestion.landing import land
from tests.builders.datasets import dataset_like

START = "2026-01-05T00:00:00+00:00"


def lists(columns: dict[str, str] | None = None, **events: Any) -> Dataset:
    """Returns a data set whose rows are a user's whole list of items."""
    mapping = {
        "explode": "items::VARCHAR[]",
        "user_id": "user",
        "timestamp": f"TIMESTAMPTZ '{START}' + to_seconds(coalesce(place, 0))",
        "action": "'view'",
        "item_id": "each",
        "value": "place",
    }
    return dataset_like(
        "shop",
        timezone="UTC",
        partitions={"start": dt.date(2026, 1, 1), "end": dt.date(2026, 1, 10)},
        landing={
            "url": "*.jsonl",
            "format": "jsonl",
            "columns": columns or {"user": "VARCHAR", "items": "JSON"},
        },
        events=mapping | events,
    )


def write(folder: Path, *rows: dict | str) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")


def pieces(lake: Lake) -> list[tuple]:
    """Returns (line, user, item, place) of every fragment row, in order."""
    found = [
        (row["source_line"], row["user_id"], row["item_id"], row["value"])
        for path in (lake.table("landing") / "fragments").glob("*/*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    return sorted(found, key=lambda piece: (piece[0], piece[3] or 0))


def test_each_element_is_an_event_with_its_place(folder):
    write(
        folder,
        {"user": "u1", "items": ["a", "b", "a"]},
        {"user": "u2", "items": []},
        {"user": "u3", "items": None},
        {"user": "u4", "items": [None, "c"]},
    )
    lake = Lake.of("shop")
    report = land(lists(), lake, None)
    assert pieces(lake) == [
        (1, "u1", "a", 1),
        (1, "u1", "b", 2),
        (1, "u1", "a", 3),
        (2, "u2", None, None),
        (3, "u3", None, None),
        (4, "u4", None, 1),
        (4, "u4", "c", 2),
    ]
    (file,) = report.files
    assert (file.rows, file.added, report.quarantined) == (4, 3, 0)
    (manifest,) = (lake.table("landing") / "files").glob("*.json")
    assert read_json(manifest)["added"] == 3


ROW = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["u1", "u2"]),
        "items": st.none() | st.lists(st.sampled_from(["a", "b", "", None]), max_size=6),
    }
)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(ROW, max_size=12), chunk=st.sampled_from([40, 1 << 20]))
def test_rows_and_what_was_added_are_what_was_landed(tmp_path_factory, rows, chunk):
    folder = tmp_path_factory.mktemp("source")
    write(folder, *rows, "{broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr("features.ingestion.reader.CHUNK", chunk)
        link_source("shop", str(folder))
        lake = Lake.of("shop")
        (file,) = land(lists(), lake, None).files
        assert file.rows == len(rows) + 1
        assert file.unreadable == 1
        assert pieces(lake) == [
            (line, row["user"], item or None, place)
            for line, row in enumerate(rows, 1)
            for place, item in enumerate(row["items"] or [None], 1 if row["items"] else 0)
            for place in [place or None]
        ]


def test_a_piece_that_has_no_timestamp_is_refused_alone(folder):
    write(folder, {"user": "u1", "items": ["2026-01-05", "soon", "2026-01-06"]})
    lake = Lake.of("shop")
    (file,) = land(lists(timestamp="each"), lake, None).files
    assert (file.rows, file.added, file.undated) == (1, 2, 1)
    assert {day.isoformat() for day in file.days} == {"2026-01-05", "2026-01-06"}
    (path,) = (lake.table("quarantine") / "landing").glob("*.parquet")
    (refused,) = pq.read_table(path).to_pylist()
    assert (refused["source_line"], refused["broken"]) == (1, ["undated"])


def test_a_row_with_many_refused_pieces_is_kept_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_MEMORY", "200MB")
    write(
        folder,
        {"user": "u1", "items": ["a"] * 5_000, "text": "x" * 100_000},
        {"user": "u2", "items": ["b"] * 3},
        {"user": "u3", "items": ["c"] * 2},
        {"user": "u4", "items": ["d"] * 6_000},
    )
    dated = "\"user\" = 'u4' OR (\"user\" = 'u2' AND place < 3)"
    dataset = lists(timestamp=f"CASE WHEN {dated} THEN TIMESTAMPTZ '{START}' END")
    land(dataset, Lake.of("shop"), None)
    (path,) = (Lake.of("shop").table("quarantine") / "landing").glob("*.parquet")
    refused = pq.read_table(path)
    kept = [row["source_line"] for row in refused.to_pylist() if row["raw"] is not None]
    assert (len(refused), kept) == (5_003, [1, 2, 3])
    assert write_editable(dataset, refused, tmp_path / "rows.jsonl") == 3
    rows = [json.loads(line)["row"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["user"] for row in rows] == ["u1", "u2", "u3"]


def test_a_row_whose_list_cannot_be_made_is_refused_whole(folder):
    write(folder, {"user": "u1", "items": ["a"]}, {"user": "u2", "items": {"not": "a list"}})
    lake = Lake.of("shop")
    (file,) = land(lists(), lake, None).files
    assert (file.rows, file.added, file.unreadable) == (2, 0, 1)
    (path,) = (lake.table("quarantine") / "landing").glob("*.parquet")
    detail = pq.read_table(path)["detail"][0].as_py()
    assert detail == (
        'events.explode: `items::VARCHAR[]` fails where items is \'{"not":"a list"}\': '
        "`TRY_CAST(items AS VARCHAR[])` gives null there"
    )


def test_without_ids_equal_pieces_are_told_apart_and_ids_do_not_change(folder, tmp_path):
    same_time = lists(timestamp=f"TIMESTAMPTZ '{START}'", value=None)
    write(folder, {"user": "u1", "items": ["a", "a", "b"]}, {"user": "u1", "items": ["a"]})
    lake = Lake.of("shop")
    land(same_time, lake, None)
    ids = []
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        staged = stage_events(same_time, lake, [dt.date(2026, 1, 5)], tmp_path / turn)
        table = pq.read_table(staged[dt.date(2026, 1, 5)].path)
        assert sorted(table["item_id"].to_pylist()) == ["a", "a", "a", "b"]
        ids.append(table["event_id"].to_pylist())
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4


@pytest.mark.parametrize(
    ("columns", "explode", "sentence"),
    [
        (None, "user", "explode: `user` gives a VARCHAR, not a list"),
        (None, "things", "explode: `things` is not valid over the declared columns"),
        (
            {"user": "VARCHAR", "items": "JSON", "each": "VARCHAR"},
            "items::VARCHAR[]",
            "explode: it gives the columns each and place, and the columns declare each too",
        ),
    ],
)
def test_a_wrong_explode_is_told_before_any_file_is_read(folder, columns, explode, sentence):
    write(folder, {"user": "u1", "items": ["a"]})
    with pytest.raises(FootpathError, match=f"events.{sentence}"):
        land(lists(columns, explode=explode), Lake.of("shop"), None)


def test_without_explode_there_is_no_element(folder):
    write(folder, {"user": "u1", "items": ["a"]})
    with pytest.raises(FootpathError, match=r"events\.timestamp: .* is not valid.*place"):
        land(lists(explode=None, value=None), Lake.of("shop"), None)


def test_the_preview_shows_the_pieces(folder):
    write(folder, {"user": "u1", "items": ["a", "b"]})
    shown = preview(lists(), str(folder))
    assert shown.events["item_id"].to_pylist() == ["a", "b"]
