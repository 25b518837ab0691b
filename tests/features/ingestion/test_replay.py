"""Refused rows that were mended take the place of the refused ones, once, and are accounted for."""

import contextlib
import datetime as dt
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.forgotten import add_forgotten
from contracts.lake.layout import Lake
from features.ingestion import replay as replay_module
from features.ingestion.editable import read_editable, write_editable
from features.ingestion.landing import land
from features.ingestion.manifest import file_id, read_manifests
from features.ingestion.replay import RepairReport, repair
from features.reconciliation import reconcile
from tests.builders.daily import ingest
from tests.builders.datasets import LAX, four_days, shop_like, without_ids
from tests.builders.landing import linked, row
from validation.row_quarantine import count_refused, read_quarantine

SHOP = four_days()
NO_IDS = without_ids(SHOP)
NOON = "2026-01-05T12:00:00Z"


def mended(lake: Lake, dataset: Dataset, folder: Path, **by_rule: dict) -> Path:
    """Exports what is refused, and mends the rows that break some rules; leaves out the others."""
    path = folder / "mend.jsonl"
    write_editable(dataset, read_quarantine(lake), path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = []
    for line in lines:
        change = by_rule.get(line["broken"][0])
        if change is not None:
            text = line["row"] if isinstance(line["row"], dict) else {}
            kept.append(line | {"row": text | change})
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return path


def replay(lake: Lake, dataset: Dataset, path: Path) -> RepairReport:
    report = repair(dataset, lake, read_editable(path))
    ingest(dataset)
    return report


def events(lake: Lake) -> list[dict]:
    return [
        row
        for day in lake.days("events")
        for row in pq.read_table(lake.day("events", day)).to_pylist()
    ]


def test_mended_rows_of_both_stages_are_published_and_accounted_for(source, tmp_path):
    lake = Lake.of("shop")
    path = "events/2026-01-05/13.jsonl.gz"
    source.write(
        "2026-01-05/13",
        row("a", NOON),
        row("b", "yesterday", item="x1"),
        "{not json",
        row("c", NOON, price=-3.0),
        row("d", NOON, type="fly"),
    )
    ingest(SHOP)
    assert {rule: n for _, _, rule, _, n in count_refused(lake)} == {
        "undated": 1,
        "unreadable": 1,
        "value_at_least": 1,
        "action_known": 1,
    }
    file = mended(
        lake,
        SHOP,
        tmp_path,
        undated={"ts": "2026-01-05T13:00:00Z"},
        unreadable={"id": "n", "user": "u9", "ts": "2026-01-04T13:00:00Z", "type": "view"},
        value_at_least={"value": 3.0},
    )
    report = replay(lake, SHOP, file)
    assert (report.replaced, report.refused_again, report.unknown) == (3, 0, 0)
    found = {event["event_id"]: event for event in events(lake)}
    assert found.keys() == {"a", "b", "n", "c"}
    assert (found["b"]["item_id"], found["c"]["value"]) == ("x1", 3.0)
    assert found["n"]["timestamp"].date() == dt.date(2026, 1, 4)
    assert [rule for _, _, rule, _, _ in count_refused(lake)] == ["action_known"]
    (manifest,) = read_manifests(lake, [file_id(path)]).values()
    assert manifest
    assert (manifest.rows, manifest.quarantined, manifest.repaired) == (5, 0, 3)
    assert reconcile(SHOP, lake, False, None).faults == []


def test_replaying_twice_is_harmless_and_says_so(source, tmp_path):
    lake = Lake.of("shop")
    source.write("2026-01-05/13", row("a", NOON), row("b", "?"), row("c", NOON, price=-1.0))
    ingest(SHOP)
    file = mended(lake, SHOP, tmp_path, undated={"ts": NOON}, value_at_least={"value": 1.0})
    replay(lake, SHOP, file)
    before = sorted(event["event_id"] for event in events(lake))
    report = replay(lake, SHOP, file)
    assert (report.replaced, report.unknown, report.days) == (0, 2, [])
    assert sorted(event["event_id"] for event in events(lake)) == before == ["a", "b", "c"]


def test_a_mended_row_that_equals_another_is_an_event_of_its_own_without_ids(source, tmp_path):
    lake = Lake.of("shop")
    # Two identical rows are two events; the second was broken on its way.
    source.write("2026-01-05/13", row(None, NOON), row(None, "?"), row(None, NOON, price=-1.5))
    ingest(NO_IDS)
    assert len(events(lake)) == 1
    file = mended(lake, NO_IDS, tmp_path, undated={"ts": NOON}, value_at_least={"value": 1.5})
    assert replay(lake, NO_IDS, file).replaced == 2
    assert len(events(lake)) == 3
    # The same file delivered again under another name adds nothing.
    source.write("2026-01-05/14", row(None, NOON), row(None, NOON))
    ingest(NO_IDS)
    assert len(events(lake)) == 3
    assert reconcile(NO_IDS, lake, False, None).faults == []


def test_a_row_that_is_still_wrong_is_refused_again_and_can_be_mended_again(source, tmp_path):
    lake = Lake.of("shop")
    source.write("2026-01-05/13", row("a", NOON), row("b", "?"))
    ingest(SHOP)
    report = replay(lake, SHOP, mended(lake, SHOP, tmp_path, undated={"ts": "??"}))
    assert (report.replaced, report.refused_again) == (1, 1)
    (refused,) = read_quarantine(lake).to_pylist()
    assert refused["source_line"] == 2
    assert '"??"' in refused["raw"]
    report = replay(lake, SHOP, mended(lake, SHOP, tmp_path, undated={"ts": NOON, "price": -1}))
    assert report.refused_again == 0
    # Now it is an event that breaks a rule of the gate.
    report = replay(lake, SHOP, mended(lake, SHOP, tmp_path, value_at_least={"value": 2.0}))
    assert {event["event_id"]: event["value"] for event in events(lake)} == {"a": 1.5, "b": 2.0}
    assert len(read_quarantine(lake)) == 0


def test_repairs_outlive_a_new_mapping_and_end_with_new_content(source, tmp_path):
    lake = Lake.of("shop")
    source.write("2026-01-05/13", row("a", NOON), row("b", "?"), row("c", NOON, price=-1.0))
    ingest(SHOP)
    file = mended(lake, SHOP, tmp_path, undated={"ts": NOON})
    replay(lake, SHOP, file)
    mapped = SHOP.model_copy(
        update={"events": SHOP.events.model_copy(update={"item_id": "upper(item)"})}
    )
    with pytest.raises(FootpathError, match="another mapping"):
        repair(mapped, lake, read_editable(file))
    ingest(mapped)
    assert {e["event_id"]: e["item_id"] for e in events(lake)} == {"a": "I1", "b": "I1"}
    # Another delivery of the file: what was mended was another row.
    source.write("2026-01-05/13", row("a", NOON), row("z", "?"), row("y", NOON))
    ingest(mapped)
    assert {event["event_id"] for event in events(lake)} == {"a", "y"}
    assert len(read_quarantine(lake)) == 1


@pytest.mark.parametrize(
    ("step", "after"),
    [*[("publish_table", n) for n in range(4)], ("publish_manifest", 0), ("show_refused", 0)],
)
def test_a_replay_that_was_killed_is_done_by_the_next(source, tmp_path, monkeypatch, step, after):
    lake = Lake.of("shop")
    source.write(
        "2026-01-05/13",
        row("a", NOON),
        row("b", "?"),
        row("c", "?"),
        row("d", "2026-01-04T09:00:00Z"),
    )
    ingest(SHOP)
    path = mended(lake, SHOP, tmp_path, undated={"ts": NOON})
    kept = path.read_text().splitlines()[0]
    path.write_text(kept + "\n")
    real, calls = getattr(replay_module, step), Counter()

    def killed(*arguments):
        calls[step] += 1
        if calls[step] > after:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(replay_module, step, killed)
        with contextlib.suppress(KeyboardInterrupt):
            repair(SHOP, lake, read_editable(path))
    replay(lake, SHOP, path)
    assert sorted(event["event_id"] for event in events(lake)) == ["a", "b", "d"]
    assert [refused["source_line"] for refused in read_quarantine(lake).to_pylist()] == [3]
    assert reconcile(SHOP, lake, False, None).faults == []


def test_an_exploded_line_is_replaced_as_a_whole(source, tmp_path):
    lake = Lake.of("shop")
    events_of = SHOP.events.model_dump() | {
        "explode": "string_split(item, ' ')",
        "item_id": "each",
        "event_id": "id || '-' || place",
        "timestamp": "CASE WHEN each <> 'bad' THEN TRY_CAST(ts AS TIMESTAMPTZ) END",
    }
    dataset = four_days(events=events_of)
    source.write("2026-01-05/13", row("a", NOON, item="i1 bad i3"), row("b", NOON, item="i4"))
    ingest(dataset)
    assert sorted(e["item_id"] for e in events(lake)) == ["i1", "i3", "i4"]
    report = replay(lake, dataset, mended(lake, dataset, tmp_path, undated={"item": "i1 i2"}))
    assert report.replaced == 1
    assert sorted(e["item_id"] for e in events(lake)) == ["i1", "i2", "i4"]
    assert reconcile(dataset, lake, False, None).faults == []


def test_rows_of_a_csv_are_written_as_objects_by_its_header(tmp_path, lake_home):
    folder = linked(tmp_path / "csv")
    columns = {"who": "VARCHAR", "ts": "VARCHAR", "what": "VARCHAR"}
    dataset = shop_like(
        landing={"url": "*.csv", "format": "csv", "columns": columns},
        events={"user_id": "who", "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)", "action": "what"},
        quality=LAX,
    )
    (folder / "a.csv").write_text(
        f'ts,extra,what,who\n{NOON},1,view,u1\n"no, never",2,view,u2\n3\n'
    )
    lake = Lake.of("shop")
    land(dataset, lake, None)
    path = tmp_path / "mend.jsonl"
    assert write_editable(dataset, read_quarantine(lake), path) == 2
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["row"] == {"ts": "no, never", "what": "view", "who": "u2"}
    assert second["row"] == "3"
    path.write_text(json.dumps(first | {"row": first["row"] | {"ts": NOON}}))
    assert repair(dataset, lake, read_editable(path)).replaced == 1
    (manifest,) = read_manifests(lake, [file_id("a.csv")]).values()
    assert manifest
    assert manifest.days == {dt.date(2026, 1, 5): 2}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nonsense", "line 1 is not a row that"),
        ('{"source_file": "f"}', "line 1 is not a row that"),
        ('{"source_file":"f","source_line":1,"stage":"landing","row":"a,b"}', "is still text"),
        ('{"source_file":"f","source_line":1,"stage":"landing","row":[1]}', "must be an object"),
        ("", "has no row"),
    ],
)
def test_a_file_that_cannot_be_replayed_says_where(tmp_path, text, sentence):
    path = tmp_path / "mend.jsonl"
    path.write_text(text)
    with pytest.raises(FootpathError, match=sentence):
        read_editable(path)


def test_a_file_that_never_landed_is_named(source, tmp_path):
    path = tmp_path / "mend.jsonl"
    path.write_text('{"source_file":"f","source_line":1,"stage":"landing","row":{"id":"a"}}')
    with pytest.raises(FootpathError, match="f was never landed"):
        repair(SHOP, Lake.of("shop"), read_editable(path))


def test_a_mended_row_of_a_user_who_was_forgotten_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTPATH_FORGET_KEY", "a secret")
    lake = Lake.of("shop")
    source.write("2026-01-05/13", row("a", NOON), row("b", "yesterday", user="u2"))
    land(SHOP, lake, None)
    path = mended(lake, SHOP, tmp_path, undated={"ts": NOON, "user": "u9"})
    add_forgotten(lake, ["u9"])
    with pytest.raises(FootpathError, match=r"1 of the repaired rows .* were forgotten"):
        repair(SHOP, lake, read_editable(path))
    assert not list(lake.table("repairs").glob("*/*"))
    assert reconcile(SHOP, lake).faults == []
