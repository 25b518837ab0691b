"""Every row of a landing file lands once, on its day, or is refused with a reason."""

import datetime as dt
import os

import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from contracts.lake.reading import read_json
from contracts.lake.schemas import FRAGMENT, QUARANTINE
from features.ingestion.landing import land
from features.ingestion.listing import arrival_days
from tests.builders.datasets import dataset_like, shop_like
from tests.builders.landing import landed, refused, row

SHOP = shop_like()
LAKE = "shop"


def day(number: int) -> dt.date:
    return dt.date(2026, 1, number)


def test_rows_land_on_their_local_day(source, lake):
    # Berlin is an hour ahead of UTC in winter.
    source.write(
        "2026-01-05/09",
        row("a", "2026-01-05T22:59:59Z"),
        row("b", "2026-01-05T23:00:00Z"),
        row("c", "2026-01-05T00:00:00+01:00"),
        row("d", "2026-01-02T10:00:00Z"),
    )
    report = land(SHOP, lake, None)
    assert landed(lake) == {"2026-01-05": ["a", "c"], "2026-01-06": ["b"], "2026-01-02": ["d"]}
    assert (report.rows, report.quarantined, report.late) == (4, 0, 1)
    assert report.days == [day(2), day(5), day(6)]
    (path,) = (lake.table("landing") / "fragments" / "2026-01-06").glob("*")
    assert pq.read_schema(path) == FRAGMENT


def test_days_of_23_and_25_hours_are_cut_at_local_midnight(source, lake):
    whole_year = shop_like(partitions={"start": dt.date(2026, 1, 1), "end": dt.date(2026, 12, 31)})
    source.write(
        "2026-03-29/09", row("a", "2026-03-29T21:59:59Z"), row("b", "2026-03-29T22:00:00Z")
    )
    source.write(
        "2026-10-25/09", row("c", "2026-10-25T22:59:59Z"), row("d", "2026-10-25T23:00:00Z")
    )
    land(whole_year, lake, None)
    assert landed(lake) == {
        "2026-03-29": ["a"], "2026-03-30": ["b"], "2026-10-25": ["c"], "2026-10-26": ["d"],
    }  # fmt: skip


def test_a_row_becomes_an_event_by_the_expressions(source, lake):
    line = row("a", "2026-01-05T10:00:00.123456Z", query="hat", device=None, item="", price=None)
    source.write("2026-01-05/09", line)
    land(SHOP, lake, None)
    (path,) = (lake.table("landing") / "fragments").glob("*/*")
    assert pq.read_table(path).to_pylist() == [
        {
            "event_id": "a",
            "user_id": "u1",
            "timestamp": dt.datetime(2026, 1, 5, 10, 0, 0, 123456, tzinfo=dt.UTC),
            "action": "view",
            "item_id": None,
            "value": None,
            "session_id": None,
            "properties": [("query", "hat")],
            "source_file": "events/2026-01-05/09.jsonl.gz",
            "source_line": 1,
            "source_element": None,
            "source_sequence": None,
        }
    ]


def test_an_arrival_day_is_the_local_day_of_the_files_hours(source, lake):
    for hour in ("2026-01-04/22", "2026-01-04/23", "2026-01-05/22", "2026-01-05/23"):
        source.write(hour, row(hour, "2026-01-05T10:00:00Z"))
    assert arrival_days(SHOP) == [day(4), day(5), day(6)]
    report = land(SHOP, lake, [day(5)])
    assert [file.path for file in report.files] == [
        "events/2026-01-04/23.jsonl.gz",
        "events/2026-01-05/22.jsonl.gz",
    ]
    assert {file.arrival_day for file in report.files} == {day(5)}


def test_a_date_without_an_hour_is_the_arrival_day_itself(source, lake):
    daily = shop_like(
        landing=SHOP.landing.model_dump() | {"url": "events/{year}-{month}-{day}/*.jsonl.gz"}
    )
    source.write("2026-01-05/whatever", row("a", "2026-01-05T10:00:00Z"))
    assert arrival_days(daily) == [day(5)]
    assert land(daily, lake, [day(5)]).files_read == 1


def test_refused_rows_are_in_quarantine_with_line_rule_and_text(source, lake):
    source.write(
        "2026-01-05/09",
        row("a", "2026-01-05T10:00:00Z"),
        '{"id": "b"',
        "",
        b'{"id": "\xff"}',
        row("c", "soon"),
        row("d", "2025-12-31T10:00:00Z"),
        row("e", "2026-01-07T10:00:00Z"),
        row("f", "2026-01-05T10:00:00Z", price="cheap"),
    )
    report = land(SHOP, lake, None)
    file = "events/2026-01-05/09.jsonl.gz"
    assert refused(lake) == [
        (file, 2, "unreadable"),
        (file, 4, "unreadable"),
        (file, 5, "undated"),
        (file, 6, "out_of_range"),
        (file, 7, "out_of_range"),
        (file, 8, "unreadable"),
    ]
    assert (report.rows, report.quarantined) == (7, 6)
    (path,) = (lake.table("quarantine") / "landing").glob("*")
    rows = pq.read_table(path)
    assert rows.schema == QUARANTINE
    assert rows["raw"].to_pylist()[0] == '{"id": "b"'
    assert "price is cheap, which is not DOUBLE" in rows["detail"].to_pylist()
    (manifest,) = (lake.table("landing") / "files").glob("*.json")
    told = read_json(manifest)
    assert (told["rows"], told["unreadable"], told["undated"], told["out_of_range"]) == (7, 3, 1, 2)
    assert told["days"] == {"2026-01-05": 1}


def test_a_row_on_which_an_expression_fails_is_refused_alone(source, lake):
    expressions = {"value": "CAST(query AS DOUBLE)", "timestamp": "strptime(ts, '%Y')"}
    strict = shop_like(events=SHOP.events.model_dump() | expressions)
    source.write(
        "2026-01-05/09",
        row("a", "2026", query="1"),
        row("b", "2026", query="x"),
        row("c", "soon", query="1"),
    )
    land(strict, lake, None)
    assert landed(lake) == {"2026-01-01": ["a"]}
    assert [rule for _, _, rule in refused(lake)] == ["unreadable", "undated"]


def test_a_file_is_read_once(source, lake):
    source.write("2026-01-05/09", row("a", "2026-01-05T10:00:00Z"), "{")
    first = land(SHOP, lake, None)
    before = {path: path.stat().st_mtime_ns for path in lake.root.rglob("*.parquet")}
    again = land(SHOP, lake, None)
    assert (first.files_read, again.files_read, again.files_skipped, again.days) == (1, 0, 1, [])
    assert {path: path.stat().st_mtime_ns for path in lake.root.rglob("*.parquet")} == before


def test_a_file_with_a_new_stamp_and_the_same_content_changes_no_day(source, lake):
    path = source.write("2026-01-05/09", row("a", "2026-01-05T10:00:00Z"))
    land(SHOP, lake, None)
    os.utime(path, ns=(1, 1))
    report = land(SHOP, lake, None)
    assert (report.files_read, report.files_skipped, report.days) == (0, 1, [])
    assert landed(lake) == {"2026-01-05": ["a"]}


def test_a_changed_file_replaces_all_that_it_was(source, lake):
    source.write(
        "2026-01-05/09", row("a", "2026-01-05T10:00:00Z"), row("b", "2026-01-04T10:00:00Z"), "{"
    )
    land(SHOP, lake, None)
    source.write(
        "2026-01-05/09", row("a", "2026-01-05T10:00:00Z"), row("c", "2026-01-03T10:00:00Z")
    )
    report = land(SHOP, lake, None)
    assert landed(lake) == {"2026-01-05": ["a"], "2026-01-03": ["c"]}
    assert refused(lake) == []
    assert report.days == [day(3), day(4)]  # the day that lost its row, not the one that kept it


def test_another_mapping_reads_files_again(source, lake):
    source.write("2026-01-05/09", row("a", "2026-01-05T23:30:00Z"))
    land(SHOP, lake, None)
    land(shop_like(timezone="UTC"), lake, None)
    assert landed(lake) == {"2026-01-05": ["a"]}


def test_many_files_and_small_chunks_give_the_same_as_one_pass(source, lake, monkeypatch):
    for number in range(7):
        hour = f"2026-01-05/{number:02}"
        source.write(
            hour, *[row(f"{number}-{n}", f"2026-01-0{3 + n % 3}T10:00:00Z") for n in range(9)]
        )
    calls = []
    monkeypatch.setattr("features.ingestion.landing.PASS_FILES", 3)
    monkeypatch.setattr("features.ingestion.reader.CHUNK", 200)
    monkeypatch.setattr("features.ingestion.partition.BATCH_ROWS", 2)
    report = land(SHOP, lake, None, lambda done, total: calls.append((done, total)))
    assert calls == [(3, 7), (6, 7), (7, 7)]
    assert report.rows == sum(map(len, landed(lake).values())) == 63
    assert landed(lake)["2026-01-04"] == sorted(f"{f}-{n}" for f in range(7) for n in (1, 4, 7))


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "06.jsonl.gz is a truncated gzip"),
        (lambda path: path.write_bytes(b"plain"), "06.jsonl.gz is not what its name says"),
    ],
)
def test_a_broken_file_is_named_and_the_others_land(source, lake, broken, sentence):
    source.write("2026-01-05/05", row("a", "2026-01-05T10:00:00Z"))
    path = source.write("2026-01-05/06", *[row(f"b{n}", "2026-01-05T10:00:00Z") for n in range(99)])
    source.write("2026-01-05/07", row("c", "2026-01-05T10:00:00Z"))
    land(SHOP, lake, None)
    whole = landed(lake)
    broken(path)
    with pytest.raises(FootpathError, match=rf"1 of 1 landing files .*{sentence}"):
        land(SHOP, lake, None)
    assert landed(lake) == whole  # what was read of it before stays


def test_a_renamed_column_is_told_by_file_and_column(source, lake):
    source.write("2026-01-05/06", row("a", "2026-01-05T10:00:00Z").replace('"user"', '"usr"'))
    with pytest.raises(FootpathError, match=r"06.jsonl.gz: no row has 'user'.* rows have 'usr'"):
        land(SHOP, lake, None)


def test_a_file_without_a_single_timestamp_is_told_with_a_row(source, lake):
    source.write("2026-01-05/06", *[row(str(n), f"day {n}") for n in range(30)])
    with pytest.raises(FootpathError, match=r"none of its 30 rows becomes a dated event \(line 1"):
        land(SHOP, lake, None)


def test_rows_that_all_fall_outside_of_the_days_are_told(source, lake):
    source.write("2026-01-05/06", *[row(str(n), "1970-01-01T10:00:00Z") for n in range(30)])
    with pytest.raises(FootpathError, match=r"none of the 30 rows .* falls on a day of data set"):
        land(SHOP, lake, None)
    assert len(refused(lake)) == 30


def test_no_files_are_told_with_pattern_and_folder(source, lake):
    with pytest.raises(FootpathError, match=r"no landing file: looked for events/{year}.* under /"):
        land(SHOP, lake, None)
    source.write("2026-01-05/06", row("a", "2026-01-05T10:00:00Z"))
    with pytest.raises(FootpathError, match=r"no landing file for 2026-01-07"):
        land(SHOP, lake, [day(7)])
    quiet = shop_like(quality={"allow_empty_days": True})
    assert land(quiet, lake, [day(7)]).files_read == 0


def test_an_impossible_hour_is_told(source, lake):
    source.write("2026-01-05/24", row("a", "2026-01-05T10:00:00Z"))
    with pytest.raises(FootpathError, match=r"24.jsonl.gz has an impossible date in its name"):
        land(SHOP, lake, None)


def test_a_wrong_expression_is_told_before_any_file_is_read(source, lake):
    source.write("2026-01-05/06", row("a", "2026-01-05T10:00:00Z"))
    wrong = shop_like(events=SHOP.events.model_dump() | {"user_id": "customer"})
    with pytest.raises(FootpathError, match=r"events.user_id: `customer` is not valid"):
        land(wrong, lake, None)
    assert not (lake.table("landing") / "files").exists()


def test_an_undated_source_without_an_end_takes_no_rows_from_the_future(lake_home, tmp_path):
    link_source("ml-100k", str(tmp_path))
    endless = dataset_like("ml-100k", partitions={"start": dt.date(1997, 9, 20)})
    far = int(dt.datetime(2200, 1, 1, tzinfo=dt.UTC).timestamp())
    (tmp_path / "u.data").write_text(f"1\t2\t3\t881250949\n1\t2\t3\t{far}\n")
    lake = Lake.of("ml-100k")
    report = land(endless, lake, None)
    assert report.days == [dt.date(1997, 12, 4)]
    assert [rule for _, _, rule in refused(lake)] == ["out_of_range"]


def test_the_genuine_movielens_ratings_land_whole(ml_100k, lake_home):
    link_source("ml-100k", str(ml_100k))
    dataset: Dataset = dataset_like("ml-100k")
    report = land(dataset, Lake.of("ml-100k"), None)
    assert (report.rows, report.quarantined, len(report.days)) == (100_000, 0, 213)


def test_rows_later_than_allowed_are_refused_with_the_reason_and_counted(source, lake):
    strict = shop_like(lateness={"allowed_days": 2})
    source.write(
        "2026-01-06/09",
        row("a", "2026-01-03T22:59:59Z"),  # Berlin's third of January
        row("b", "2026-01-03T23:00:00Z"),
        row("c", "2026-01-05T10:00:00Z"),
    )
    report = land(strict, lake, None)
    assert landed(lake) == {"2026-01-04": ["b"], "2026-01-05": ["c"]}
    assert refused(lake) == [("events/2026-01-06/09.jsonl.gz", 1, "too_late")]
    (file,) = report.files
    assert (file.rows, file.too_late, file.late, report.quarantined) == (3, 1, 2, 1)
    (path,) = (lake.table("quarantine") / "landing").glob("*")
    (detail,) = pq.read_table(path)["detail"].to_pylist()
    assert detail.endswith("is more than 2 days before its file arrived on 2026-01-06")


def test_lateness_without_arrival_days_is_told():
    with pytest.raises(ValueError, match=r"lateness.allowed_days needs the day on which a file"):
        dataset_like("ml-100k", lateness={"allowed_days": 2})


def test_an_object_or_array_is_no_user_or_item(source, lake):
    time = "2026-01-05T08:00:00Z"
    source.write(
        "2026-01-05/09",
        row("a", time, user={"a": 1}),
        row("b", time, item=[1, 2]),
        row("c", time, user="{3F2504E0-4F89-11D3-9A0C-0305E82C3301}"),
        row("d", time, item="[guest]"),
        row("e", time, user=[]),
    )
    report = land(SHOP, lake, None)
    assert landed(lake) == {"2026-01-05": ["c", "d"]}
    assert (report.rows, report.quarantined) == (5, 3)
    (path,) = (lake.table("quarantine") / "landing").glob("*")
    told = [(r["source_line"], r["broken"], r["detail"]) for r in pq.read_table(path).to_pylist()]
    assert told == [
        (1, ["unreadable"], 'events.user_id is {"a":1}, an object or array and no id'),
        (2, ["unreadable"], "events.item_id is [1,2], an object or array and no id"),
        (5, ["unreadable"], "events.user_id is [], an object or array and no id"),
    ]


def test_an_id_is_the_same_as_any_kind_of_number(source, lake):
    ids = {"event_id": "id", "action": "type", "timestamp": "ts::TIMESTAMPTZ"}
    source.write(
        "2026-01-05/09",
        *(row(str(n), "2026-01-05T08:00:00Z", user=u) for n, u in enumerate([17850, "17850.0"])),
        row("2", "2026-01-05T08:00:00Z", user=2.5),
    )
    for kind, users in [("DOUBLE", ["17850", "2.5"]), ("DECIMAL(18,3)", ["17850", "2.500"])]:
        dataset = shop_like(
            landing=SHOP.landing.model_dump() | {"columns": SHOP.landing.columns | {"user": kind}},
            events=SHOP.events.model_dump() | ids,
        )
        land(dataset, lake, None)
        (path,) = (lake.table("landing") / "fragments" / "2026-01-05").glob("*")
        assert sorted(set(pq.read_table(path)["user_id"].to_pylist())) == users
