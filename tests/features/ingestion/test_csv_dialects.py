"""Delimited text of many programs is read as it means, or its rows are refused: none is shifted."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.config.source import FileTable
from contracts.lake.engine import connect
from features.ingestion import reader as reader_module
from features.ingestion.formats import format_of
from features.ingestion.listing import find_files
from features.ingestion.reader import RowReader

CONNECTION = connect()
ABC = {"a": "VARCHAR", "b": "VARCHAR", "c": "VARCHAR"}
TEXT = st.text(st.sampled_from('\\"\t\n\r;,Nntb a#') | st.characters(codec="utf-8"), max_size=6)
ROWS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=8)


class Read:
    """What the reader makes of a CSV."""

    def __init__(self, folder: Path, text: str, columns: dict[str, str] = ABC, **csv: Any) -> None:
        (folder / "x.csv").write_bytes(text.encode())
        nulls = csv.pop("nulls", [])
        table = FileTable.model_validate(
            {"url": "*", "format": "csv", "columns": columns, "csv": csv, "nulls": nulls}
        )
        self.format = format_of(table)
        reader = RowReader(CONNECTION, table, find_files(str(folder), "x.csv"))
        rows = []
        for _ in reader.chunks():
            rows += CONNECTION.execute("FROM rows_read").fetchall()
        rows.sort(key=lambda row: row[1])
        self.lines = [row[1] for row in rows]
        self.raw = [row[2] for row in rows]
        self.rows = [row[5:] for row in rows if row[3] is None]
        self.problems = {row[1]: row[3] for row in rows if row[3]}
        self.fault = reader.faults.get(0, "")


def small_blocks(patch: pytest.MonkeyPatch, chunk: int) -> None:
    patch.setattr(reader_module, "CHUNK", chunk)
    patch.setattr(reader_module, "BLOCK", 7)


def spark(row: tuple[str, ...]) -> str:
    return ",".join('"' + f.replace("\\", "\\\\").replace('"', '\\"') + '"' for f in row)


def postgres(row: tuple[str | None, ...]) -> str:
    signs = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b"}
    return "\t".join("\\N" if f is None else "".join(signs.get(c, c) for c in f) for f in row)


def mysql(row: tuple[str | None, ...]) -> str:
    signs = {"\\": "\\\\", "\t": "\\\t", "\n": "\\\n", "\0": "\\0"}
    return "\t".join("\\N" if f is None else "".join(signs.get(c, c) for c in f) for f in row)


@settings(max_examples=12, deadline=None)
@given(rows=ROWS, chunk=st.sampled_from([16, 100, 1 << 20]))
def test_quotes_escaped_by_a_backslash_are_read_however_they_are_cut(tmp_path_factory, rows, chunk):
    text = "".join(spark(row) + "\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, chunk)
        found = Read(tmp_path_factory.mktemp("x"), text, header=False, escape="\\")
    assert found.problems == {}
    assert found.rows == [tuple(field or None for field in row) for row in rows]
    assert [tuple(found.format.cells(raw) or ()) for raw in found.raw] == rows


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(st.tuples(st.none() | TEXT, TEXT, st.none() | TEXT), min_size=1, max_size=8),
    write=st.sampled_from([postgres, mysql]),
    chunk=st.sampled_from([16, 1 << 20]),
)
def test_text_as_databases_write_it_is_read(tmp_path_factory, rows, write, chunk):
    rows = [tuple(f and f.replace("\r", "") for f in row) for row in rows]
    text = "".join(write(row) + "\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, chunk)
        found = Read(
            tmp_path_factory.mktemp("x"), text, header=False, escape="\\", quote="", delimiter="\t"
        )
    assert found.problems == {}
    # A line of blanks alone is no row.
    assert [row for row in found.rows if any(row)] == [
        kept for row in rows if any(kept := tuple(field or None for field in row))
    ]


def test_a_last_row_without_a_line_end_may_end_with_one_in_a_value(tmp_path):
    for number, end in enumerate(("", "\n")):
        folder = tmp_path / str(number)
        folder.mkdir()
        text = "1\ta\tb\n2\ta\tb\\\n" + end
        found = Read(folder, text, header=False, escape="\\", quote="", delimiter="\t")
        assert (found.rows, found.problems) == ([("1", "a", "b"), ("2", "a", "b\n")], {})


SPARK = r'''a,b,c
"1","21\" screen","i1"
"2","a \"b\", c","i2"
"3","x \",\"y","i3"
"4","ends with \\","i4"
"5","a path C:\new\","i5"
"6","two ""doubled""","i6"
7,plain\, with a comma,i7
'''


def test_no_row_with_backslashes_is_shifted_and_the_option_is_named(tmp_path):
    found = Read(tmp_path, SPARK, escape="\\")
    assert found.rows == [
        ("1", '21" screen', "i1"),
        ("2", 'a "b", c', "i2"),
        ("3", 'x ","y', "i3"),
        ("4", "ends with \\", "i4"),
        ("6", 'two "doubled"', "i6"),
        ("7", "plain, with a comma", "i7"),
    ]
    assert list(found.problems) == [6]
    without = Read(tmp_path, SPARK)
    assert [row[0] for row in without.rows] == ["4", "5", "6"]
    assert without.rows[0][1] == "ends with \\\\"
    said = r"a quote is not closed, or text follows its end: if \" is a quote in a text, set csv.es"
    assert without.problems[2].startswith(said)
    assert without.problems[4] == "4 columns where there should be 3"


def test_comments_skipped_lines_and_sep_are_no_rows(tmp_path):
    text = (
        'Report "x\nof today\n# made by "us"\n\na;"b\n2";c\n#, "a comment\n1;"two\nlines";3\n'
        '"#4";5;6\n#7;8;9\n'
    )
    columns = {"a": "VARCHAR", "b\n2": "VARCHAR", "c": "VARCHAR"}
    found = Read(tmp_path, text, columns, delimiter=";", skip=2, comment="#")
    assert (found.fault, found.problems) == ("", {})
    assert found.rows == [("1", "two\nlines", "3"), ("#4", "5", "6")]
    assert found.lines == [8, 10]
    plain = Read(tmp_path, "x\n1,2,3\n#4,5,6\n", skip=1, header=False)
    assert plain.rows == [("1", "2", "3"), ("#4", "5", "6")]


def test_a_line_that_names_the_delimiter_is_no_header(tmp_path):
    for line in ("sep=;", '"sep=;"'):
        found = Read(tmp_path, f"\ufeff{line}\r\na;b;c\r\n1;2;3\r\n", delimiter=";")
        assert (found.rows, found.lines) == ([("1", "2", "3")], [3])
    found = Read(tmp_path, "sep=;\r\na;b;c\r\n1;2;3\r\n")
    assert found.fault.endswith("x.csv begins with sep=;: set csv.delimiter to that in the YAML")
    one = Read(tmp_path, "sep=;\nx\n", {"a": "VARCHAR"}, header=False)
    assert one.rows == [("sep=;",), ("x",)]


@pytest.mark.parametrize("chunk", [20, 1 << 20])
def test_a_preamble_longer_than_a_chunk_is_passed_over(tmp_path, monkeypatch, chunk):
    small_blocks(monkeypatch, chunk)
    text = "# a comment of a line\n" * 9 + "a,b,c\n1,2,3\n"
    found = Read(tmp_path, text, comment="#")
    assert (found.rows, found.lines) == ([("1", "2", "3")], [11])
    assert Read(tmp_path, text[:60], comment="#").rows == []


def test_a_quote_in_a_header_that_opens_nothing_costs_no_row(tmp_path):
    columns = {"a": "VARCHAR", 'b 5"': "VARCHAR"}
    found = Read(tmp_path, 'a,b 5"\n1,2\n3,"4"\n', columns)
    assert found.rows == [("1", "2"), ("3", "4")]


NUMBERS = {
    "0,50": 0.5,
    "-1,5": -1.5,
    "1.234,5": 1234.5,
    "1.234.567": 1234567.0,
    "1 234,5": 1234.5,
    "1\u00a0234\u00a0567,25": 1234567.25,
    "1\u202f234": 1234.0,
    "1'234,5": 1234.5,
    "12": 12.0,
    ",5": 0.5,
    "1,5e3": 1500.0,
}
NO_NUMBERS = ["1.5", "1,234.5", "12.34", "1.2345", "1.234 567", "1,2,3", "x", ",", "1 23"]


def test_numbers_with_a_decimal_comma_are_numbers_or_refused(tmp_path):
    texts = [*NUMBERS, *NO_NUMBERS, "n/a", ""]
    lines = "".join(f"x;{text}\n" for text in texts)
    columns = {"a": "VARCHAR", "b": "DOUBLE"}
    found = Read(tmp_path, f"a;b\n{lines}", columns, delimiter=";", decimal=",", nulls=["n/a"])
    assert [b for _, b in found.rows] == [*NUMBERS.values(), None, None]
    assert list(found.problems.values()) == [
        f"b is {text} (decimal: comma), which is not DOUBLE" if text != "," else
        "b is ., which is not DOUBLE" for text in NO_NUMBERS
    ]  # fmt: skip
    whole = {"a": "VARCHAR", "b": "DECIMAL(9,2)"}
    found = Read(tmp_path, "a;b\nx;1.234,50\nx;1,505\n", whole, delimiter=";", decimal=",")
    assert [str(b) for _, b in found.rows] == ["1234.50"]
    assert found.problems == {3: "b is 1.505, which is not DECIMAL(9,2)"}
