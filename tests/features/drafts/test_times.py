"""Times are read as the mass of their texts says, whatever format that is."""

import datetime as dt
from pathlib import Path

import pytest

from contracts.lake.engine import connect
from features.drafts.guessing.rows import Rows
from features.drafts.source.sampling import find_file, take_sample
from tests.builders.drafts import drafted, iso, put

EIGHT = "2026-01-05T08:00:00+00:00"

# Column -> its first text, what that is, and the second text, seven minutes later.
FORMATS = {
    "am_pm": ("1/5/2026 8:00:00 AM", "1/5/2026 8:07:00 AM", EIGHT),
    "iso_am_pm": ("2026-01-05 8:00:00 AM", "2026-01-05 8:07:00 AM", EIGHT),
    "bracketed": ("[05/Jan/2026:08:00:00 +0000]", "[05/Jan/2026:08:07:00 +0000]", EIGHT),
    "comma": ("2026-01-05 08:00:00,123", "2026-01-05 08:07:00,123", "2026-01-05T08:00:00.123000"),
    "compact": ("20260105T080000Z", "20260105T080700Z", EIGHT),
    "digits": ("20260105080000123", "20260105080700123", "2026-01-05T08:00:00.123000"),
    "hour": ("2026010508", "2026010509", EIGHT),
    "month": ("05-Jan-2026 08:00:00", "05-Jan-2026 08:07:00", EIGHT),
    "dotnet": ("/Date(1767600000000)/", "/Date(1767600420000)/", EIGHT),
    "week": ("2026-W02-1T08:00:00", "2026-W02-1T08:07:00", EIGHT),
    "script": (
        "Mon Jan 05 2026 08:00:00 GMT+0000 (Coordinated Universal Time)",
        "Mon Jan 05 2026 08:07:00 GMT+0000 (Coordinated Universal Time)",
        EIGHT,
    ),
    "long": ("January 05, 2026, 08:00 AM", "January 05, 2026, 08:07 AM", EIGHT),
    "nanos": ("2026-01-05T08:00:00.123456789Z", "2026-01-05T08:07:00.123456789Z",
              "2026-01-05T08:00:00.123456"),
    "oracle": ("05-Jan-26 08.00.00.000000 AM", "05-Jan-26 08.07.00.000000 AM", EIGHT),
    "mail": ("Mon, 05 Jan 2026 08:00:00 GMT", "Mon, 05 Jan 2026 08:07:00 GMT", EIGHT),
    "orders": ("2026-01-05 08:00:00 +0100", "2026-01-05 08:07:00 +0100",
               "2026-01-05T07:00:00+00:00"),
    "slashes": ("2026/01/05 08:00", "2026/01/05 08:07", EIGHT),
    "years": ("01/15/26 08:00:00", "01/15/26 08:07:00", "2026-01-15T08:00:00+00:00"),
    "micros": ("1767600000000000", "1767600420000000", EIGHT),
}  # fmt: skip


def test_every_format_is_known_and_read_as_its_instant(tmp_path: Path, lake_home: Path):
    # One value of ten is none: it hides nothing.
    def cells(n: int) -> list[str]:
        return ["n/a" if n == 7 else texts[n % 2] for texts in FORMATS.values()]

    lines = ["\t".join(FORMATS), *("\t".join(cells(n)) for n in range(20))]
    path = put(tmp_path / "t.tsv", "\n".join(lines) + "\n")
    with connect() as connection:
        rows = Rows.of(connection, take_sample(connection, find_file(str(path))))
        found = {time.profile.leaf.label: time for time in rows.times}
        assert found.keys() == FORMATS.keys()
        for column, (_, _, expected) in FORMATS.items():
            sql = f"SELECT {found[column].sql} FROM sample LIMIT 1"
            instant = connection.sql(sql).fetchall()[0][0]
            assert iso(instant).startswith(expected), (column, found[column].sql)


def test_a_day_and_a_clock_apart_are_one_time(tmp_path: Path, lake_home: Path):
    rows = "".join(f"e{n},u{n % 3},05.01.2026,08:{n:02}:00\n" for n in range(30))
    made = drafted(put(tmp_path / "t.csv", f"id,user,date,time\n{rows}"))
    assert iso(made.events[1]["timestamp"]) == "2026-01-05T08:01:00+00:00"


@pytest.mark.parametrize("odd", ["0", "n/a", ""])
def test_one_value_for_none_does_not_hide_a_column_of_times(tmp_path: Path, odd: str, lake_home):
    rows = "".join(f"u{n % 3},{odd if n == 4 else 1767600000 + n}\n" for n in range(30))
    made = drafted(put(tmp_path / "t.csv", f"user,ts\n{rows}"))
    assert (made.rows, made.refused) == (30, 1)
    assert made.events[0]["timestamp"] == dt.datetime(2026, 1, 5, 8, tzinfo=dt.UTC)
    assert ("1 of 30 rows have no such time and are refused" in made.todos) or odd == "0"


@pytest.mark.parametrize(
    ("columns", "best"),
    [
        ("received_at,created_at,client_event_time,event_time,updated_at", "event_time"),
        ("server_time,click_time,signup_time", "click_time"),
    ],
)
def test_the_time_of_the_event_is_told_from_those_of_its_transport(
    tmp_path: Path, columns: str, best: str, lake_home: Path
):
    cells = [f"2026-01-0{day} 10:00:00" for day in range(1, columns.count(",") + 2)]
    rows = "".join(",".join([*cells, f"u{n % 3}"]) + "\n" for n in range(20))
    made = drafted(put(tmp_path / "t.csv", f"{columns},user\n{rows}"))
    assert made.dataset.events.timestamp.startswith(f"TRY_CAST({best} ")


def test_a_time_in_no_known_format_is_named(tmp_path: Path, lake_home):
    rows = "".join(f"u{n % 3},year 2026 week {n:02} noon\n" for n in range(20))
    made = drafted(put(tmp_path / "t.csv", f"user,ts\n{rows}"))
    assert "ts looks like a time in no known format, such as 'year 2026 week 00" in made.todos
    assert "try_strptime(ts, ...)" in made.todos
