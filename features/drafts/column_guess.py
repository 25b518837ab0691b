"""What a sample shows of each of its columns, and a guess at what a column is.

In:  the table `sample` (sampling.py), all text. Out: a `Column` each: the type that it can
be declared in, how often it is filled, how many values it has, and the words of its name.
"""

import re
from dataclasses import dataclass
from functools import cache

import duckdb

from contracts.base.sql import name
from features.drafts.sampling import Sample


@dataclass(frozen=True)
class Column:
    """What the sample shows of one column."""

    name: str
    kind: str  # DuckDB type in which it can be declared
    filled: int
    distinct: int
    low: float | None  # of numbers
    high: float | None

    @property
    def words(self) -> set[str]:
        """The words of the name, and the whole of it: userId gives user, id and userid."""
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", self.name)
        return {part.lower() for part in parts} | {re.sub(r"\W|_", "", self.name).lower()}


@dataclass(frozen=True)
class Guess:
    """One field of an event."""

    sql: str
    why: str
    doubt: str = ""  # what a person has to look at, if anything
    column: str | None = None  # the column that it rests on


def profile(connection: duckdb.DuckDBPyConnection, sample: Sample, column: str) -> Column:
    """Looks at one column of the sample."""
    c = f"nullif({name(column)}, '')"
    filled, whole, number, padded, distinct, low, high = connection.execute(
        f"SELECT count({c}), count(*) FILTER (regexp_full_match({c}, '-?\\d{{1,18}}')), "
        f"count(TRY_CAST({c} AS DOUBLE)), count(*) FILTER (regexp_full_match({c}, '0\\d+')), "
        f"count(DISTINCT {c}), min(TRY_CAST({c} AS DOUBLE)), max(TRY_CAST({c} AS DOUBLE)) "
        "FROM sample"
    ).fetchall()[0]
    kind = "VARCHAR"
    if column in sample.nested:
        kind = sample.nested[column]
    elif filled and not padded and whole == filled:
        kind = "BIGINT"
    elif filled and not padded and number == filled:
        kind = "DOUBLE"
    return Column(column, kind, filled, distinct, low, high)


def sql_name(column: str) -> str:
    """Returns a column as SQL, quoted only where it must be."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", column) and column.lower() not in _keywords()
    return column if plain else name(column)


@cache
def _keywords() -> frozenset[str]:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        ).fetchall()
    return frozenset(word for (word,) in found)


def rank(column: Column, words: tuple[str, ...]) -> int:
    """Returns how well a name fits: the earlier the word, the higher; 0 for none."""
    return max(
        (len(words) - words.index(word) for word in column.words if word in words), default=0
    )


def as_text(column: Column) -> Column:
    """Ids are text: 007 is not 7, and nothing is reckoned with them."""
    return Column(column.name, "VARCHAR", column.filled, column.distinct, None, None)
