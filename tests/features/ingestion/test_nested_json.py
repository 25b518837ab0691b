"""Each value within a JSON object or list is read as a column of its own would be."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.config.source import FileTable
from contracts.lake.engine import connect
from features.ingestion.listing import find_files
from features.ingestion.reader import RowReader

CONNECTION = connect()


def read(folder: Path, values: list[str], kind: str, **given: Any) -> list[Any]:
    """What becomes of JSON texts as values of a column p: the value, or why it is refused."""
    (folder / "x.jsonl").write_text("".join(f'{{"p": {value}}}\n' for value in values))
    table = FileTable.model_validate(
        {"url": "*", "format": "jsonl", "columns": {"p": kind}} | given
    )
    reader = RowReader(CONNECTION, table, find_files(str(folder), "x.jsonl"))
    rows = []
    for _ in reader.chunks():
        rows += CONNECTION.execute("SELECT __line, __problem, p FROM rows_read").fetchall()
    assert len(rows) == len(values)
    return [problem or value for _, problem, value in sorted(rows, key=lambda row: row[0])]


STRUCT = "STRUCT(a VARCHAR, n BIGINT)"
CASES = {
    '{"a": "x", "n": 3}': {"a": "x", "n": 3},
    '{"a": "17850.0", "n": "12"}': {"a": "17850.0", "n": 12},
    '{"a": 17850.0, "n": 12.0}': {"a": "17850", "n": 12},
    '{"a": 1.785e4, "z": 1}': {"a": "17850", "n": None},
    '{"a": NaN, "n": NaN}': {"a": None, "n": None},
    '{"a": "", "n": ""}': {"a": "", "n": None},
    '{"a": {"b": [1]}, "n": null}': {"a": '{"b":[1]}', "n": None},
    '{"a": "NULL", "n": 9007199254740993}': {"a": None, "n": 9007199254740993},
    "{}": {"a": None, "n": None},
    "null": None,
    '{"n": 3.7}': "p.n is 3.7, which is not BIGINT",
    '{"n": "1_2"}': "p.n is 1_2, which is not BIGINT",
    '{"n": "0x1F"}': "p.n is 0x1F, which is not BIGINT",
    '{"n": true}': "p.n is true, which is not BIGINT",
    '{"n": {"a": 1}}': 'p.n is {"a":1}, which is not BIGINT',
    "[1]": f"p is [1], which is not {STRUCT}",
    '"text"': f'p is "text", which is not {STRUCT}',
}


def test_values_of_a_struct_are_exact_or_refused(tmp_path):
    assert read(tmp_path, list(CASES), STRUCT, nulls=["NULL"]) == list(CASES.values())


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (
            "STRUCT(k VARCHAR, v STRUCT(i BIGINT, d DECIMAL(5,2)))[]",
            ['[{"k": "a", "v": {"i": "1", "d": 1.50}}, null, {}]', '[{"v": {"d": 1.505}}]', "{}"],
            [
                [{"k": "a", "v": {"i": 1, "d": "1.50"}}, None, {"k": None, "v": None}],
                "p.v.d is 1.505, which is not DECIMAL(5,2)",
                "p is {}, which is not STRUCT(k VARCHAR, v STRUCT(i BIGINT, d DECIMAL(5,2)))[]",
            ],
        ),
        ("BIGINT[][]", ["[[1, 2], [], null]", "[[1.5]]", "[1]"],
         [[[1, 2], [], None], "p is 1.5, which is not BIGINT", "p is 1, which is not BIGINT[]"]),
        ("MAP(VARCHAR, DOUBLE)", ['{"x y": 1, "z": "2.5"}', '{"x": "a"}', "[]"],
         [{"x y": 1.0, "z": 2.5}, "p is a, which is not DOUBLE",
          "p is [], which is not MAP(VARCHAR, DOUBLE)"]),
        ("STRUCT(t TIMESTAMP)", ['{"t": "2026-01-05T10:00:00Z"}', '{"t": "2026-01-05 10:00+02"}'],
         [{"t": dt.datetime(2026, 1, 5, 10)},
          "p.t is 2026-01-05 10:00+02, which is not TIMESTAMP"]),
    ],
)  # fmt: skip
def test_nested_types_are_exact_or_refused(tmp_path, kind, values, expected):
    found = read(tmp_path, values, kind)
    assert json.loads(json.dumps(found, default=str)) == json.loads(
        json.dumps(expected, default=str)
    )


TEXT = st.text(
    st.sampled_from('"\\{}[],: \n') | st.characters(exclude_categories=["Cs"]), max_size=5
)
VALUES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "k": st.none() | TEXT,
            'a "b.c"': st.integers(-(2**63), 2**63 - 1) | st.none(),
            "l": st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
        },
    ),
    max_size=3,
)


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(VALUES, min_size=1, max_size=4))
def test_nested_values_are_read_as_the_json_module_wrote_them(tmp_path_factory, rows):
    kind = 'STRUCT(k VARCHAR, "a ""b.c""" BIGINT, l DOUBLE[])[]'
    folder = tmp_path_factory.mktemp("x")
    found = read(folder, [json.dumps(row) for row in rows], kind)
    keys = ("k", 'a "b.c"', "l")
    assert found == [[{key: value.get(key) for key in keys} for value in row] for row in rows]
