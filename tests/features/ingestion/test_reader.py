"""Rows come out as they went in, each with its line; what cannot be read is refused and told."""

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from contracts.config.source import FileTable
from contracts.lake.engine import connect
from features.ingestion import reader as reader_module
from features.ingestion.formats import FORMATS
from features.ingestion.listing import find_files
from features.ingestion.reader import RowReader

VARCHARS = {"a": "VARCHAR", "b": "VARCHAR", "c": "VARCHAR"}
CONNECTION = connect()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1f"), max_size=8)


class Read:
    """Everything that a reader made of the files in a folder."""

    def __init__(self, folder: Path, columns: Mapping[str, str], kind: str, **layout: Any) -> None:
        table = FileTable.model_validate(
            {
                "url": "*",
                "format": kind,
                "columns": columns,
                "optional": layout.pop("optional", []),
                "nulls": layout.pop("nulls", []),
                "csv": layout,
            }
        )
        reader = RowReader(CONNECTION, table, find_files(str(folder), "*"))
        found = []
        for _ in reader.chunks():
            found += CONNECTION.execute("FROM rows_read").fetchall()
        self.faults = reader.faults
        self.facts = reader.facts
        # __file, __line, __raw, __problem, __width, then the columns
        found.sort(key=lambda row: row[:2])
        self.lines = [row[1] for row in found]
        self.raw = [row[2] for row in found]
        self.problems = [row[3] for row in found]
        self.rows = [row[5:] for row in found if row[3] is None]


def read(folder: Path, text: str | bytes, columns=VARCHARS, kind="csv", **layout: Any) -> Read:
    (folder / f"x.{kind}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Read(folder, columns, kind, **layout)


def as_csv(
    rows: list[tuple[str, ...]], delimiter: str = ",", line_end: str = "\r\n"
) -> tuple[str, list[int]]:
    """Returns RFC 4180 text, and the line on which each row starts."""
    buffer, lines = io.StringIO(newline=""), []
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=line_end)
    for row in rows:
        lines.append(buffer.getvalue().count("\n") + 1)
        writer.writerow(row)
    return buffer.getvalue(), lines


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.tuples(*[TEXT | st.text(' a",\n\r', max_size=8)] * 3), max_size=12),
    chunk=st.sampled_from([16, 100, 1 << 20]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_is_read_as_the_csv_module_wrote_it_however_it_is_cut(
    tmp_path_factory, rows, chunk, line_end
):
    if line_end == "\n":  # the csv module leaves a lone \r at a line's end unquoted
        rows = [tuple(field.replace("\r", "") for field in row) for row in rows]
    text, lines = as_csv(rows, line_end=line_end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "CHUNK", chunk)
        patch.setattr("features.ingestion.decompress.BLOCK", 7)
        found = read(tmp_path_factory.mktemp("x"), text, header=False)
    assert found.problems == [None] * len(rows)
    assert found.rows == [tuple(field or None for field in row) for row in rows]
    assert found.lines == lines


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(*[st.text('ab":\n ü', max_size=8)] * 3), max_size=10))
def test_delimiters_of_several_characters_are_read(tmp_path_factory, rows):
    text, lines = as_csv([tuple(f.replace("::", ":") for f in row) for row in rows], "\x1f")
    found = read(
        tmp_path_factory.mktemp("x"), text.replace("\x1f", "::"), header=False, delimiter="::"
    )
    # A field that ends or begins with a colon beside the delimiter reads either way: left out.
    if ":::" not in text.replace("\x1f", "::"):
        expected = [tuple(f.replace("::", ":") or None for f in row) for row in rows]
        assert (found.rows, found.lines) == (expected, lines)


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys("abc", TEXT)), max_size=10))
def test_json_is_read_as_the_json_module_wrote_it(tmp_path_factory, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    found = read(tmp_path_factory.mktemp("x"), text, kind="jsonl")
    assert found.rows == [tuple(row.get(key) for key in "abc") for row in rows]
    assert found.lines == list(range(1, len(rows) + 1))


def test_a_bad_csv_row_is_refused_alone_with_its_line_and_reason(tmp_path):
    text = (
        b"a,b,c\n"
        b"1,one,x\n"
        b"\n"
        b'2,"two\nlines",x\n'
        b"3,three\n"
        b'4,"never closed,x\n'
        b"5,\xff,x\n"
        b'6,"six"6,x\n'
        b"seven,7,x\r\n"
        b'8,8" nail,x'
    )
    found = read(tmp_path, text, {"a": "BIGINT", "b": "VARCHAR", "c": "VARCHAR"})
    assert found.rows == [(1, "one", "x"), (2, "two\nlines", "x"), (8, '8" nail', "x")]
    refused = {n: p for n, p in zip(found.lines, found.problems, strict=True) if p}
    assert refused == {
        6: "2 columns where there should be 3",
        7: "a quote is not closed, or text follows its end",
        8: "not UTF-8",
        9: "a quote is not closed, or text follows its end",
        10: "a is seven, which is not BIGINT",
    }
    assert found.raw[found.lines.index(8)] == "5,\\xFF,x"
    assert found.facts[0].rows == 8  # the blank line is none


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("not a JSON object", '{"a": 1'),
        ("not a JSON object", "[1]"),
        ("not a JSON object", '"text"'),
        ("a is x, which is not BIGINT", '{"a": "x"}'),
        ("a is 3.7, which is not BIGINT", '{"a": 3.7}'),
        ("a is 1e30, which is not BIGINT", '{"a": "1e30"}'),
        ("a is 0x1F, which is not BIGINT", '{"a": "0x1F"}'),
    ],
)
def test_a_bad_json_row_is_refused_alone_with_its_reason(tmp_path, kind, line):
    found = read(tmp_path, f'{{"a": 1}}\n{line}\n   \n{{"a": null}}\n', {"a": "BIGINT"}, "jsonl")
    assert found.rows == [(1,), (None,)]
    assert found.problems == [None, kind, None]
    assert found.lines == [1, 2, 4]


def test_a_value_is_cast_to_its_declared_type(tmp_path):
    columns = {"a": "DOUBLE", "b": "TIMESTAMP", "c": "VARCHAR[]"}
    found = read(
        tmp_path, '{"a": "1.5", "b": "2026-01-01", "c": ["x", null]}\n{"b": ""}', columns, "jsonl"
    )
    assert [(a, str(b), c) for a, b, c in found.rows] == [
        (1.5, "2026-01-01 00:00:00", ["x", None]),
        (None, "None", None),
    ]


def test_latin_1_and_a_file_without_quotes_are_read(tmp_path):
    text = 'é|"a\n"|ü'.encode("latin-1")
    found = read(
        tmp_path, text, {"a": "VARCHAR", "b": "VARCHAR"}, header=False, delimiter="|", quote="",
        encoding="latin-1",
    )  # fmt: skip
    assert found.rows == [("é", '"a'), ('"', "ü")]


def test_a_header_gives_the_order_and_extra_columns_are_left_out(tmp_path):
    found = read(tmp_path, '\ufeffz,"c", b ,a\n0,3,2,1\n')
    assert found.rows == [("1", "2", "3")]
    assert found.lines == [2]


def test_files_with_different_headers_share_a_pass(tmp_path):
    for number, header in enumerate(("a,b,c", "c,b,a", "a,b,c,d")):
        (tmp_path / f"{number}.csv").write_text(f"{header}\n" + ",".join(header.split(",")) + "\n")
    found = Read(tmp_path, VARCHARS, "csv")
    assert found.rows == [("a", "b", "c")] * 3
    assert [facts.rows for facts in found.facts.values()] == [1, 1, 1]


@pytest.mark.parametrize("text", ["", "a,b,c\n", "\n\n"])
def test_an_empty_file_has_no_rows(tmp_path, text):
    found = read(tmp_path, text, kind="csv" if text[:1] == "a" else "jsonl")
    assert (found.rows, found.faults) == ([], {})


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("csv", "a,b\n1,2\n", r"x.csv: its header has no column 'c'.*it has: 'a', 'b'"),
        ("csv", "a,b,c,c\n1,2,3,4\n", r"x.csv: its header has more than one column 'c'"),
        ("csv", "a,b,c\n1,2\n1,2\n", r"x.csv: every row has another number of columns.*one has 2"),
        ("jsonl", '{"a":1,"b":2,"d":3}\n', r"x.jsonl: no row has 'c'.*rows have 'd'"),
        ("jsonl", "a,b,c\n" * 30, r"x.jsonl: none of its 30 rows can be read.*line 1: not a JSON"),
        ("parquet", "a,b,c", r"x.parquet is not Parquet, or is damaged"),
    ],
)
def test_a_file_that_breaks_its_contract_as_a_whole_is_named(tmp_path, kind, text, sentence):
    found = read(tmp_path, text, kind=kind)
    (fault,) = found.faults.values()
    with pytest.raises(FootpathError, match=sentence):
        raise FootpathError(fault)


def test_nulls_that_json_leaves_out_are_no_broken_contract(tmp_path):
    found = read(tmp_path, '{"a": "x"}\n{"a": "y", "b": null}\n', kind="jsonl")
    assert found.faults == {}
    assert found.rows == [("x", None, None), ("y", None, None)]


def test_optional_columns_may_lack_in_some_files_or_all(tmp_path):
    lenient = {"optional": ["b", "c"]}
    (tmp_path / "1.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "2.csv").write_text("c,a\n3,1\n")
    found = Read(tmp_path, VARCHARS, "csv", **lenient)
    assert (found.rows, found.faults) == ([("1", "2", "3"), ("1", None, "3")], {})
    folder = tmp_path / "jsonl"
    folder.mkdir()
    text = '{"a": "1", "d": 4}\n'
    assert read(folder, text, kind="jsonl", **lenient).rows == [("1", None, None)]
    assert "no row has 'b', 'c'" in read(folder, text, kind="jsonl").faults[0]
    folder = tmp_path / "parquet"
    folder.mkdir()
    pq.write_table(pa.table({"c": ["3"], "a": ["1"]}), folder / "x.parquet")
    assert Read(folder, VARCHARS | {"b": "BIGINT"}, "parquet", **lenient).rows == [("1", None, "3")]
    twice = read(tmp_path, "a,b,b\n1,2,3\n", **lenient)
    assert any("more than one column 'b'" in fault for fault in twice.faults.values())


def test_one_broken_file_leaves_the_others(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "b.csv").write_text("x\n1\n")
    (tmp_path / "c.csv").write_text("a,b,c\n4,5,6\n")
    found = Read(tmp_path, VARCHARS, "csv")
    assert found.rows == [("1", "2", "3"), ("4", "5", "6")]
    assert list(found.faults) == [1]


def test_parquet_rows_are_read_and_misfits_refused(tmp_path):
    table = pa.table({"c": [["x"], None], "a": ["1", "one"], "z": [1, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    found = Read(tmp_path, {"a": "BIGINT", "c": "VARCHAR[]"}, "parquet")
    assert found.rows == [(1, ["x"])]
    assert found.problems == [None, "a is one, which is not BIGINT"]
    assert json.loads(found.raw[1]) == {"a": "one", "c": None}
    lacking = Read(tmp_path, {"b": "VARCHAR"}, "parquet")
    assert "has no column 'b'" in lacking.faults[0]


def test_a_type_that_duckdb_does_not_have_is_told(tmp_path):
    with pytest.raises(FootpathError, match=r"column 'a' is declared as 'STRNG', which is not"):
        read(tmp_path, "a\n1\n", {"a": "STRNG"})


def test_a_row_without_end_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module, "CHUNK", 1000)
    monkeypatch.setattr(reader_module, "LONGEST_ROW", 100_000)
    found = read(tmp_path, b"x" * 2_000_000, kind="jsonl")
    assert "MB without a line end: is it jsonl?" in found.faults[0]


def test_every_format_that_the_yaml_may_name_is_read():
    assert get_args(FileTable.model_fields["format"].annotation) == tuple(FORMATS)


def test_nan_is_null_and_the_word_is_what_the_yaml_says(tmp_path):
    text = '{"a": NaN, "b": NaN}\n{"a": "NaN", "b": 2}\n{"a": nan}\n{"a": "nan", "b": 1e999}\n'
    columns = {"a": "VARCHAR", "b": "DOUBLE"}
    found = read(tmp_path, text, columns, "jsonl")
    assert found.rows == [(None, None), ("NaN", 2), (None, None), ("nan", float("inf"))]
    listed = Read(tmp_path, columns, "jsonl", nulls=["NaN"])
    assert [a for a, _ in listed.rows] == [None, None, None, "nan"]


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_nan_of_parquet_is_null_whatever_its_statistics_say(tmp_path, kind):
    numbers = [1.0, float("nan"), 2.5, float("inf"), None]
    table = pa.table({"a": pa.array(numbers, kind), "b": pa.array(numbers, kind)})
    pq.write_table(table, tmp_path / "x.parquet")
    pq.write_table(table.slice(0, 3), tmp_path / "y.parquet")
    found = Read(tmp_path, {"a": "VARCHAR", "b": "DOUBLE"}, "parquet")
    three = [("1", 1.0), (None, None), ("2.5", 2.5)]
    assert found.rows == [*three, ("inf", float("inf")), (None, None), *three]


def test_words_that_mean_null_are_those_of_the_yaml(tmp_path):
    rows = [{"a": "NULL", "b": "1"}, {"a": "\\N", "b": "NULL"}, {"a": "null", "b": "-"}]
    columns, nulls = {"a": "VARCHAR", "b": "BIGINT"}, ["NULL", "\\N", "-"]
    expected = [(None, 1), (None, None), ("null", None)]
    (tmp_path / "csv").mkdir()
    text = "a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in rows)
    assert read(tmp_path / "csv", text, columns, nulls=nulls).rows == expected
    assert read(tmp_path / "csv", text, VARCHARS | {"c": "VARCHAR"}, optional=["c"]).rows == [
        (row["a"], row["b"], None) for row in rows
    ]
    (tmp_path / "jsonl").mkdir()
    lines = "\n".join(map(json.dumps, rows))
    assert read(tmp_path / "jsonl", lines, columns, "jsonl", nulls=nulls).rows == expected
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet/x.parquet")
    assert Read(tmp_path / "parquet", columns, "parquet", nulls=nulls).rows == expected


def test_a_whole_number_has_no_fraction_and_text_stays(tmp_path):
    numbers = ["17850", "17850.0", "17850.00", "1.785e4", '"17850.0"', "-0.0", "2.5", "1e16"]
    text = "".join(f'{{"a": {number}, "b/~": {number}}}\n' for number in numbers)
    found = read(tmp_path, text, {"a": "VARCHAR", "b/~": "VARCHAR"}, "jsonl")
    texts = ["17850"] * 4 + ["17850.0", "0", "2.5", "10000000000000000"]
    assert found.rows == [(text, text) for text in texts]
    columns = {
        "a": pa.array([17850.0, 2.5, 1e16, 1e300]),
        "b": pa.array([12.0, 0.5, None, -3.0], pa.float32()),
        "c": pa.array([Decimal("17850.00"), Decimal("2.50"), None, Decimal(0)]),
        "d": ["17850.0", "2.0", None, "x"],
    }
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "parquet/x.parquet")
    assert Read(tmp_path / "parquet", dict.fromkeys("abcd", "VARCHAR"), "parquet").rows == [
        ("17850", "12", "17850", "17850.0"),
        ("2.5", "0.5", "2.50", "2.0"),
        ("10000000000000000", None, None, None),
        ("1e+300", "-3", "0", "x"),
    ]


MISFITS = {
    "BIGINT": (
        ["12", " 12", "+12", "012", "12.", "12.0", "-9007199254740993", "9223372036854775807"],
        ["1_2", "1e1", "0x1F", "9007199254740993.5", "1e-1", "3.7", "true", "9223372036854775808"],
    ),
    "DOUBLE": (
        ["12", "1.5", "1e5", "-.5", "9007199254740992", "0.12345678901234567890", "inf"],
        ["1_2", "0x1F", "9007199254740993", "12345678901234567890", "x"],
    ),
    "FLOAT": (["0.1", "16777216", "1e5"], ["16777217", "1_0.5"]),
    "DECIMAL(6,2)": (["1.5", "1.50", "1.5000", "12", ".5"], ["1.505", "1e1", "1_0", "99999"]),
    "DATE": (
        ["2026-01-05", "2026-01-05 00:00:00", "2026-1-5"],
        ["2026-01-05 10:00:00", "2026-01-05T00:00:00+02:00", "2026-02-30"],
    ),
    "TIMESTAMP": (
        ["2026-01-05", "2026-01-05T10:00:00", "2026-01-05 10:00:00.5", "2026-01-05T10:00:00Z"],
        ["2026-01-05T10:00:00+02:00", "2026-01-05 10:00:00 Europe/Berlin", "2026-01-05 10:00 CET"],
    ),
    "TIMESTAMPTZ": (["2026-01-05T10:00:00+02:00", "2026-01-05 10:00:00 Europe/Berlin"], ["soon"]),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_text_that_a_type_cannot_hold_is_refused_alone(tmp_path, kind):
    good, bad = MISFITS[kind]
    texts = [*good, *bad, *good]
    shown = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}.get(kind, kind)
    problems = [f"a is {text}, which is not {shown}" if text in bad else None for text in texts]
    files = {
        "csv": "a\n" + "".join(f'"{text}"\n' for text in texts),
        "jsonl": "".join(json.dumps({"a": text}) + "\n" for text in texts),
    }
    for format, text in files.items():
        (tmp_path / format).mkdir()
        found = read(tmp_path / format, text, {"a": kind}, format)
        assert found.problems == problems, format
        assert all(value is not None for (value,) in found.rows)
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table({"a": texts}), tmp_path / "parquet/x.parquet")
    assert Read(tmp_path / "parquet", {"a": kind}, "parquet").problems == problems


def test_a_number_of_parquet_that_a_type_would_change_is_refused(tmp_path):
    noon = dt.datetime(2026, 1, 5, 12)
    table = pa.table(
        {
            "whole": pa.array([1.0, 2.5, 1e17, None, 3.0]),
            "exact": pa.array([1.25, 1.0, 1.255, None, 19.99]),
            "day": pa.array([noon, *[noon.replace(hour=0)] * 3, None]),
            "wide": pa.array([2**53, 1, 2, 3, 2**53 + 1]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    columns = {"whole": "BIGINT", "exact": "DECIMAL(6,2)", "day": "DATE", "wide": "DOUBLE"}
    assert Read(tmp_path, columns, "parquet").problems == [
        "day is 2026-01-05 12:00:00, which is not DATE",
        "whole is 2.5, which is not BIGINT",
        "exact is 1.255, which is not DECIMAL(6,2)",
        None,
        "wide is 9007199254740993, which is not DOUBLE",
    ]


def test_binary_text_of_parquet_is_utf_8_or_refused_alone(tmp_path):
    names = ["José".encode(), b"Jos\xe9", None, b"NULL", "日本".encode()]
    table = pa.table({"a": pa.array(names), "b": pa.array([b"\xff"] * 5), "n": [b"7"] * 5})
    pq.write_table(table, tmp_path / "x.parquet")
    columns = {"a": "VARCHAR", "b": "BLOB", "n": "BIGINT"}
    found = Read(tmp_path, columns, "parquet", nulls=["NULL"])
    assert found.rows == [(a, b"\xff", 7) for a in ("José", None, None, "日本")]
    assert found.problems == [None, "a is not UTF-8", None, None, None]
    assert json.loads(found.raw[1])["a"] == "Jos\\xE9"


@pytest.mark.parametrize("second", ["a", "A"])
def test_two_columns_of_one_name_are_told(tmp_path, second):
    table = pa.table([pa.array(["x"]), pa.array(["y"])], names=["a", second])
    pq.write_table(table, tmp_path / "x.parquet")
    (fault,) = Read(tmp_path, {"a": "VARCHAR"}, "parquet").faults.values()
    assert "x.parquet has more than one column 'a', which the YAML declares" in fault
    assert f"(it has: 'a', '{second}')" in fault


def test_a_column_may_have_the_name_of_a_row_s_number(tmp_path):
    columns = dict.fromkeys(["file_row_number", "filename", "day", "place", "each"], "VARCHAR")
    rows = [{column: f"{column}{n}" for column in columns} for n in range(5000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=1000)
    found = Read(tmp_path, columns, "parquet")
    assert found.rows == [tuple(row.values()) for row in rows]
    assert found.lines == list(range(1, 5001))


def test_names_that_reading_uses_are_refused_in_the_yaml():
    used = set()
    for file in Path(reader_module.__file__).parent.rglob("*.py"):
        used |= set(re.findall(r"\b__[a-z]+\b(?!__)", file.read_text()))
    assert {"__file", "__nested", "__shape"} <= used
    for column in [*used - {"__v"}, "__FILE", "__v12"]:
        with pytest.raises(ValueError, match=f"'{column}', a name that reading itself uses"):
            FileTable(url="*", format="csv", columns={column: "VARCHAR"})
    with pytest.raises(ValueError, match="columns has a name that is empty"):
        FileTable(url="*", format="csv", columns={"": "VARCHAR"})
    FileTable(url="*", format="csv", columns={"__v": "VARCHAR", "__id": "VARCHAR"})
