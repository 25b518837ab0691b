"""A draft loads as it is, shows events, and marks what it could not know."""

import gzip
import json
from pathlib import Path

import duckdb
import pytest
import zstandard

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, load_dataset_file
from features.drafts.drafting import draft, name_for
from features.drafts.preview import preview
from features.drafts.source.paths import address_of
from features.drafts.yaml_lines import TODO
from features.ingestion.streams import SourceFile
from tests.builders.landing import tar_of

CSV = ["user_id,occurred_at,event_type,product_id,price,country"] + [
    f"u{n % 7},2026-03-0{1 + n % 3}T10:{n % 60:02}:00Z,{('view', 'purchase')[n % 3 == 0]},"
    f"p{n % 11},{n}.5,{('DE', 'FR')[n % 2]}"
    for n in range(60)
]
TEXT = ("\n".join(CSV) + "\n").encode()
JSON = "\n".join(
    json.dumps(
        {"uid": f"u{n % 7}", "ts": 1767261600 + n * 60, "action": "View Item", "tags": ["a", "b"]}
        | ({"item": f"i{n % 5}"} if n % 2 else {})
    )
    for n in range(60)
).encode()
RATINGS = "".join(f"{n % 9}::{n % 60}::{n % 5 + 1}::{978300000 + n}\n" for n in range(300)).encode()


@pytest.fixture(autouse=True)
def home(lake_home):
    """Keeps what is known of archives out of the user's home."""


def drafted(path: Path, tmp_path: Path, name: str = "mine") -> tuple[Dataset, str, str]:
    """Returns the drafted data set as it loads, its text, and its source folder."""
    made = draft(str(path), name)
    out = tmp_path / "out" / f"{name}.yaml"
    out.parent.mkdir(exist_ok=True)
    out.write_text(made.text)
    return load_dataset_file(out), made.text, made.folder


def shown(dataset: Dataset, folder: str) -> list[dict]:
    """Returns the events that the preview shows; none may be refused."""
    sample = preview(dataset, folder, rows=1000)
    assert sample.refused_rows == 0, sample.refused.to_pylist()[:3]
    return sample.events.to_pylist()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def archive(path: Path, **files: bytes) -> Path:
    return put(path, zstandard.ZstdCompressor().compress(tar_of(files)))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("events.csv", TEXT),
        ("events.csv.gz", gzip.compress(TEXT)),
        ("events.csv.zst", zstandard.ZstdCompressor().compress(TEXT)),
        ("events.tsv", TEXT.replace(b",", b"\t")),
        ("events.csv", TEXT.replace(b",", b";")),
        ("events.csv", b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n")),
    ],
    ids=["csv", "gzip", "zstd", "tab", "semicolon", "windows"],
)
def test_telling_names_give_every_field(tmp_path, name, data):
    dataset, _, folder = drafted(put(tmp_path / name, data), tmp_path)
    events = shown(dataset, folder)
    assert len(events) == 60
    assert events[1] | {"properties": None} == {
        "source_line": 3,
        "day": dataset.partitions.start.replace(day=2),
        "event_id": None,
        "user_id": "u1",
        "timestamp": events[1]["timestamp"],
        "action": "view",
        "item_id": "p1",
        "value": 1.5,
        "session_id": None,
        "properties": None,
    }
    assert events[1]["timestamp"].isoformat() == "2026-03-02T10:01:00+00:00"
    assert dataset.actions == ["purchase", "view"]
    assert [str(dataset.partitions.start), str(dataset.partitions.end)] == [
        "2026-03-01",
        "2026-03-03",
    ]


def test_json_lines_with_sparse_and_nested_keys(tmp_path):
    dataset, text, folder = drafted(put(tmp_path / "log.jsonl", JSON), tmp_path)
    assert "# Not read, a list: tags." in text
    assert dataset.landing.optional == ["item"]
    assert dataset.actions == ["view_item"]
    events = shown(dataset, folder)
    assert events[0]["timestamp"].isoformat() == "2026-01-01T10:00:00+00:00"
    assert [event["item_id"] for event in events[:2]] == [None, "i1"]


def test_parquet(tmp_path):
    path = tmp_path / "events.parquet"
    put(tmp_path / "events.csv", TEXT)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{tmp_path}/events.csv') TO '{path}'")
    dataset, _, folder = drafted(path, tmp_path)
    assert dataset.landing.format == "parquet"
    assert len(shown(dataset, folder)) == 60


def test_without_a_header_places_and_values_decide_and_each_guess_is_marked(tmp_path):
    dataset, text, folder = drafted(put(tmp_path / "ratings.dat", RATINGS), tmp_path)
    assert dataset.landing.csv.delimiter == "::"
    assert not dataset.landing.csv.header
    event = shown(dataset, folder)[1]
    assert (event["user_id"], event["item_id"], event["value"]) == ("1", "1", 2.0)
    assert event["timestamp"].timestamp() == 978300001
    for field in ("user_id", "item_id", "value"):
        before = text.split(f"  {field}: ")[0].splitlines()[-1]
        assert before.strip().startswith(TODO), before


def test_members_of_an_archive_with_dates_in_their_names(tmp_path):
    path = archive(
        tmp_path / "all.tar.zst", **{f"days/2026-03-0{day}.csv": TEXT for day in (1, 2, 3)}
    )
    dataset, _, folder = drafted(path, tmp_path)
    assert folder == str(tmp_path)
    assert dataset.landing.url == "all.tar.zst/days/{year}-{month}-{day}.csv"
    assert preview(dataset, folder).files == 3


def test_another_encoding_is_told(tmp_path):
    data = TEXT.replace(b"DE", "Côte".encode("latin-1"))
    dataset, _, folder = drafted(put(tmp_path / "events.csv", data), tmp_path)
    assert dataset.landing.csv.encoding == "cp1252"
    assert dict(shown(dataset, folder)[0]["properties"])["country"] == "Côte"


@pytest.mark.parametrize(
    ("value", "expected", "is_doubtful"),
    [
        ("2026-02-01T10:00:00+02:00", "2026-02-01T08:00:00+00:00", False),
        ("2026-02-01 10:00:00", "2026-02-01T10:00:00+00:00", True),
        ("2026-02-01 10:00:00 UTC", "2026-02-01T10:00:00+00:00", False),
        ("2026-02-01 10:00 CET", "2026-02-01T09:00:00+00:00", False),
        ("2026-02-01 10:00:00.5 EST", "2026-02-01T15:00:00.500000+00:00", False),
        ("2026-02-01 10:00:00 Europe/Berlin", "2026-02-01T09:00:00+00:00", False),
        ("2026-02-01 10:00:00 America/Argentina/Buenos_Aires", "2026-02-01T13:00:00+00:00", False),
        ("2026-02-01 10:00:00 +0530", "2026-02-01T04:30:00+00:00", False),
        ("2026-02-01T10:00:00+05:30[Asia/Kolkata]", "2026-02-01T04:30:00+00:00", False),
        ("1769940000", "2026-02-01T10:00:00+00:00", False),
        ("1769940000000", "2026-02-01T10:00:00+00:00", False),
        ("1769940000000000", "2026-02-01T10:00:00+00:00", False),
        ("1769940000000000000", "2026-02-01T10:00:00+00:00", False),
        ("1769940000.25", "2026-02-01T10:00:00.250000+00:00", False),
        ("31/01/2026 10:00", "2026-01-31T10:00:00+00:00", True),
        ("31.01.2026 10:00:05", "2026-01-31T10:00:05+00:00", True),
        ("01/31/2026 10:00", "2026-01-31T10:00:00+00:00", True),
        ("1/31/26 8:26", "2026-01-31T08:26:00+00:00", True),
        ("20260131", "2026-01-31T00:00:00+00:00", True),
        ("31/Jan/2026:10:00:00 +0100", "2026-01-31T09:00:00+00:00", False),
    ],
)
def test_times_are_read_as_they_are_written(tmp_path, value, expected, is_doubtful):
    rows = "".join(f"u{n % 3},{value},x{n}\n" for n in range(30))
    path = put(tmp_path / "t.csv", f"user,when,what\n{rows}".encode())
    dataset, text, folder = drafted(path, tmp_path)
    assert shown(dataset, folder)[0]["timestamp"].isoformat() == expected
    before = text.split("  timestamp: ")[0].splitlines()[-1]
    assert before.strip().startswith(TODO) == is_doubtful


def test_one_time_without_a_zone_does_not_drop_the_zones_of_the_others(tmp_path):
    times = ["2026-02-01 10:00:00", *["2026-02-01 10:00:00 CET", "2026-02-01 10:00:00+05:30"] * 20]
    rows = "".join(f"u{n % 3},{time},x{n}\n" for n, time in enumerate(times))
    path = put(tmp_path / "t.csv", f"user,when,what\n{rows}".encode())
    dataset, text, folder = drafted(path, tmp_path)
    assert [f"{row['timestamp']:%H:%M}" for row in shown(dataset, folder)[:3]] == [
        "10:00",
        "09:00",
        "04:30",
    ]
    assert "TODO: 1 of 41 times name no zone and are read as UTC: are they?" in text


@pytest.mark.parametrize(("repeated", "sql"), [(0, "id"), (2, "id"), (40, None)])
def test_an_id_is_the_events_where_it_hardly_ever_comes_twice(tmp_path, repeated, sql):
    rows = "".join(
        f"e{0 if n <= repeated else n},u{n % 7},{1767261600 + n},{n % 5}\n" for n in range(60)
    )
    path = put(tmp_path / "t.csv", f"id,user,time,product_id\n{rows}".encode())
    dataset, text, _ = drafted(path, tmp_path)
    assert dataset.events.event_id == sql
    assert ("rows with one id count as one event" in text) == (repeated == 2)


def test_a_date_that_fits_two_formats_says_so(tmp_path):
    rows = "".join(f"u{n % 3},03/04/2026 10:00\n" for n in range(30))
    _, text, _ = drafted(put(tmp_path / "t.csv", f"user,date\n{rows}".encode()), tmp_path)
    assert "it fits %m/%d/%Y %H:%M as well: which is it?" in text


def test_without_a_time_or_user_the_draft_still_shows_events(tmp_path):
    path = put(tmp_path / "t.csv", b"color,size\n" + b"red,big\n" * 30)
    dataset, text, folder = drafted(path, tmp_path)
    assert len(shown(dataset, folder)) == 30
    assert "no column of the sample reads as a time" in text
    assert "no column looks like a user" in text


def test_ids_stay_text_and_names_that_are_no_sql_are_quoted(tmp_path):
    rows = "".join(f"00{n % 7},{1767261600 + n},{n}\n" for n in range(60))
    path = put(tmp_path / "t.csv", f"Customer ID,order,page 1 (item)\n{rows}".encode())
    dataset, _, folder = drafted(path, tmp_path)
    assert shown(dataset, folder)[1]["user_id"] == "001"
    assert dataset.events.user_id == '"Customer ID"'
    assert dataset.events.timestamp == 'to_timestamp("order")'


@pytest.mark.parametrize(
    ("path", "folder", "url"),
    [
        ("/a/b/2026-01-05/09.jsonl.gz", "/a/b", "{year}-{month}-{day}/{hour}.jsonl.gz"),
        ("/a/e/2026/01/05/x.csv", "/a/e", "{year}/{month}/{day}/x.csv"),
        (
            "/a/year=2026/month=01/day=05/hour=09/p.parquet",
            "/a",
            "year={year}/month={month}/day={day}/hour={hour}/p.parquet",
        ),
        (
            "memory://b/k/dt=2026-01-05/part-0.csv",
            "memory://b/k",
            "dt={year}-{month}-{day}/part-*.csv",
        ),
        ("/a/log_20260105_23.csv", "/a", "log_{year}{month}{day}_{hour}.csv"),
        ("/a/log_20260105_99.csv", "/a", "log_{year}{month}{day}_*.csv"),
        ("/a/2026/clicks.csv", "/a/2026", "clicks.csv"),
        ("/a/export-99999999.csv", "/a", "export-99999999.csv"),
        ("/d/c.tar.gz/x/2010-12-01.csv", "/d", "c.tar.gz/x/{year}-{month}-{day}.csv"),
    ],
)
def test_dates_in_paths_become_fields(path, folder, url):
    address = address_of(SourceFile(path, path, 0, ""))
    assert (address.folder, address.url) == (folder, url)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/My Clicks_2026.csv.gz", "my-clicks-2026"), ("/web/2026-01-05/09.jsonl", "web")],
)
def test_a_name_comes_from_the_file_or_its_folder(path, name):
    assert name_for(path) == name


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "is not there: init takes one file of your events"),
        (b"", "is empty"),
        (b"user,time\n", "has a header and no rows"),
        (b"{not json\n" * 9, "no line is a JSON object"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, data, sentence):
    path = tmp_path / "t.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FootpathError, match=sentence):
        draft(str(path), "mine")
