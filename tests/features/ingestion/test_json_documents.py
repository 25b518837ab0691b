"""JSON in an array, or over several lines, is read as it was written, however it is cut."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.config.source import FileTable
from contracts.lake.engine import connect
from features.ingestion.formats.json_documents import JsonDecoder
from features.ingestion.listing import find_files
from features.ingestion.reader import RowReader

CONNECTION = connect()
COLUMNS = {"a": "VARCHAR", "b": "JSON"}

LAYOUTS = {
    "array": json.dumps,
    "pretty array": lambda rows: json.dumps(rows, indent=2),
    "indented by nothing": lambda rows: json.dumps(rows, indent=0).replace("\n", "\r\n"),
    "a row a line": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
    "pretty objects": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows),
    "without a space": lambda rows: "".join(json.dumps(row, indent="\t") for row in rows),
    "several arrays": lambda rows: "\n".join(json.dumps([row, row]) for row in rows[::2]),
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "marked": lambda rows: "\ufeff \n" + json.dumps(rows, indent=4, ensure_ascii=False),
}

TEXT = st.text(st.sampled_from('"\\{}[],:\n \t/ü日a') | st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    TEXT | st.none() | st.booleans() | st.integers(-99, 99),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=5,
)
ROWS = st.lists(st.fixed_dictionaries({"a": TEXT, "b": VALUES}), max_size=6)


def decoded(content: bytes, size: int) -> list[bytes]:
    decode = JsonDecoder("x")
    blocks = [content[place : place + size] for place in range(0, len(content), size)]
    text = b"".join([*(decode(block, False) for block in blocks), decode(b"", True)])
    return [line for line in text.split(b"\n") if line.strip()]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, layout=st.sampled_from(sorted(LAYOUTS)), size=st.integers(1, 40))
def test_objects_are_found_however_they_are_laid_out_and_cut(rows, layout, size):
    content = LAYOUTS[layout](rows).encode()
    found = [json.loads(line.decode("utf-8-sig")) for line in decoded(content, size)]
    expected = [row for row in rows[::2] for _ in "12"] if layout == "several arrays" else rows
    assert found == (expected if layout != "lines" or rows else [])


def read(folder: Path, content: bytes | str, columns: dict[str, str] = COLUMNS, **given: Any):
    name = given.pop("name", "x.json")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    table = FileTable.model_validate(
        {"url": "*", "format": "jsonl", "columns": columns, "optional": ["b"]} | given
    )
    reader = RowReader(CONNECTION, table, find_files(str(folder), name))
    rows: list[tuple[Any, ...]] = []
    for _ in reader.chunks():
        rows += CONNECTION.execute("SELECT __line, __problem, * FROM rows_read").fetchall()
    return [(row[0], row[1], *row[7:]) for row in sorted(rows)], reader.faults.get(0, "")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_have_their_number_as_their_line(tmp_path, layout):
    rows = [{"a": f"{n}", "b": {"c": [n, "]\n"]}} for n in range(3)]
    found, fault = read(tmp_path, LAYOUTS[layout](rows))
    assert not fault
    expected = rows if layout != "several arrays" else [rows[0], rows[0], rows[2], rows[2]]
    assert [line for line, *_ in found] == list(range(1, len(expected) + 1))
    assert [{"a": a, "b": json.loads(b)} for _, _, a, b in found] == expected
    assert {problem for _, problem, *_ in found} == {None}


@pytest.mark.parametrize("cut", ["array", "pretty objects"])
def test_an_array_in_a_compressed_file_is_read_in_bounded_memory(tmp_path, cut):
    rows = [{"a": f"{n}", "b": "x" * 200} for n in range(20_000)]
    content = gzip.compress(LAYOUTS[cut](rows).encode(), 1)
    del rows
    table = FileTable.model_validate({"url": "*", "format": "jsonl", "columns": {"a": "BIGINT"}})
    (tmp_path / "x.json.gz").write_bytes(content)
    reader = RowReader(CONNECTION, table, find_files(str(tmp_path), "*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.ingestion.reader.CHUNK", 256 << 10)
        patch.setattr("features.ingestion.reader.BLOCK", 64 << 10)
        tracemalloc.start()
        total = 0
        for _ in reader.chunks():
            total += CONNECTION.execute("SELECT sum(a) FROM rows_read").fetchall()[0][0]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert total == sum(range(20_000))
    assert peak < 10 << 20


def test_what_is_no_object_in_an_array_is_refused_alone(tmp_path):
    found, fault = read(tmp_path, '[{"a": "1"}, 2, null, "x, }", [3], {"a": "4\n"}, {"a": 5 5}]')
    assert not fault
    no_object = "not a JSON object"
    refused = [(n, no_object, None, None) for n in range(2, 9)]
    assert found == [(1, None, "1", None), *refused]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"a": "1"}, {"a": "2"}', "x.json is truncated: it ends within its JSON"),
        ('[{"a": "1"}, {"a": "2', "x.json is truncated: it ends within its JSON"),
        ('{\n"a": "1"\n}\n{\n"a":', "x.json is truncated: it ends within its JSON"),
        ('[{"a": "1"}]]', "x.json has a bracket that closes nothing"),
        (
            '{"ok": true, "data": [{"a": 1}]}',
            "has its rows in the list 'data' of one object: write them one a line "
            "(jq -c '.data[]' does it), or declare 'data' as a column and explode it",
        ),
        (json.dumps({"data": [{"a": 1}, {"a": 2}]}, indent=2), "(jq -c '.data[]' does it)"),
        (b'{"rows": [' + b'{"a": 1},' * (4 << 20), "more than 32 MB: if its rows are a list"),
        (b'{"rows":\n[' + b'{"a": 1},\n' * (4 << 20), "(jq -c '.rows[]' does it)"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_list_of_rows_is_told(tmp_path, content, sentence):
    _, fault = read(tmp_path, content)
    assert sentence in fault


def test_rows_within_an_object_are_read_by_its_name(tmp_path):
    columns = {"data": "STRUCT(a BIGINT)[]"}
    found, fault = read(tmp_path, '{\n"data": [{"a": 1}, {"a": 2}]}', columns, optional=[])
    assert (found, fault) == ([(1, None, [{"a": 1}, {"a": 2}])], "")


def test_a_first_line_that_is_broken_costs_one_row(tmp_path):
    good = '{"a": "2"}\n{"a": "3"}\n'
    for broken in ('{"a": "1"', '{"a": "1', "[1]", '{"a": "1",'):
        found, fault = read(tmp_path, f"{broken}\n{good}")
        assert not fault
        no_object = (1, "not a JSON object", None, None)
        assert found == [no_object, (2, None, "2", None), (3, None, "3", None)], broken


def test_a_first_line_that_is_cut_off_where_a_value_would_come_costs_one_row(tmp_path):
    no_object = (1, "not a JSON object", None, None)
    for rest, rows in (('{"a": "2"}\n', 1), ('{"a": "2"}\n{"a": "3"}', 2), ('{"a": "2"}\n{"a"', 2)):
        for broken in ('{"a":', '{"a": ['):
            found, fault = read(tmp_path, f"{broken}\n{rest}")
            assert not fault
            assert (found[0], len(found)) == (no_object, 1 + rows), (broken, rest)
            assert found[1] == (2, None, "2", None)


def test_an_object_may_stand_on_the_line_after_its_key(tmp_path):
    for text in ('{"b":\n{"c": 1}\n, "a": "1"}\n', '{"a": "1", "b": [\n{"c": 1}\n]}\n',
                 '{"a": "1", "b":\n{"c": 1}\n}'):  # fmt: skip
        found, fault = read(tmp_path, text)
        assert (fault, [row[:3] for row in found]) == ("", [(1, None, "1")]), text
