"""What is quoted means itself to DuckDB."""

import duckdb
import pytest

from contracts.base.sql import literal, literals, name, names

HARD = ["plain", "it's", 'say "it"', "a, b", "", "\\", "$1", "läng\n"]


def test_literals_are_the_texts():
    assert duckdb.sql(f"SELECT [{literals(HARD)}]").fetchall() == [(HARD,)]
    assert [duckdb.sql(f"SELECT {literal(text)}").fetchall()[0][0] for text in HARD] == HARD


@pytest.mark.parametrize("hard", [text for text in HARD if text])
def test_names_are_the_columns(hard: str):
    table = duckdb.sql(f"SELECT 1 AS {name(hard)}, 2 AS other")
    assert table.columns == [hard, "other"]
    found = duckdb.sql(f"SELECT {names(['other', hard])} FROM ({table.sql_query()})")
    assert found.fetchall() == [(2, 1)]
