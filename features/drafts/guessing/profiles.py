"""What the values of a leaf are like, by their mass: one `n/a` among numbers hides no number.

In:  leaves (leaves.py). Out: a `Profile` of each: filled, distinct, numbers of several styles,
and words that exporters write where there is none.
"""

from dataclasses import dataclass

import duckdb

from contracts.base.sql import literal, literals
from features.drafts.guessing.leaves import Leaf
from features.drafts.preview import NULL_WORDS

# The share of a leaf's values that says what it is.
MASS = 0.9

# Besides those that `check` looks for: logs of web servers write a dash.
WORDS = (*NULL_WORDS, "-", "--")

PLAIN = r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?"
WHOLE = r"-?(0|[1-9]\d{0,17})"
PADDED, DOTTED = r"0\d+", r"-?\d+\.0+"
DIGITS = r"(?s).*\d.*\d.*\d.*\d.*"
COMMA = r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d+"
MONEY = r"[-+]?[$€£¥]? ?[-+]?\d{1,3}(,\d{3})*(\.\d+)? ?[$€£¥]?|[-+]?[$€£¥]? ?\d+(\.\d+)?"


@dataclass(frozen=True)
class Profile:
    """Counts over the values of a leaf; words for none are no values."""

    leaf: Leaf
    rows: int
    filled: int
    distinct: int
    whole: int  # whole numbers that are written as such: without a leading zero
    plain: int  # plain decimal numbers
    comma: int  # numbers with a decimal comma
    money: int  # numbers with thousands' commas or a currency's sign
    padded: int  # digits with a leading zero
    dotted: int  # whole numbers with a fraction of zero
    flags: int  # true, false, yes, no
    digits: int  # texts with four digits or more, as every time has
    longest: int
    example: str  # one with digits, if there is one
    null_words: dict[str, int]

    @property
    def values(self) -> int:
        """Filled rows, whatever they are filled with."""
        return self.filled + sum(self.null_words.values())

    def mostly(self, count: int) -> bool:
        """Whether so many values are its mass."""
        return self.filled > 0 and count >= MASS * self.filled

    @property
    def is_number(self) -> bool:
        """Whether it is a number in some style; codes with leading zeros are none."""
        return not self.padded and (
            self.mostly(self.plain) or self.mostly(self.comma) or self.mostly(self.money)
        )

    @property
    def kind(self) -> str:
        """Type that the column can be declared as without refusing any row of the sample."""
        if self.null_words or self.padded or not self.filled:
            return "VARCHAR"
        if self.whole == self.filled:
            return "BIGINT"
        return "DOUBLE" if self.plain == self.filled else "VARCHAR"


def profiles_of(connection: duckdb.DuckDBPyConnection, leaves: list[Leaf]) -> list[Profile]:
    """Profiles leaves, in their order."""
    tables = {leaf.table for leaf in leaves}
    rows = {
        table: connection.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in tables
    }
    filled: set[Leaf] = set()
    for table in tables:
        own = [leaf for leaf in leaves if leaf.table == table]
        counts = ", ".join(f"count(*) FILTER (trim({leaf.alias}) <> '')" for leaf in own)
        found = connection.sql(f"SELECT {counts} FROM {table}").fetchall()[0]
        filled.update(leaf for leaf, count in zip(own, found, strict=True) if count)
    # Wide files are mostly empty.
    return [
        _profile(connection, leaf, rows[leaf.table])
        if leaf in filled
        else Profile(leaf, rows[leaf.table], *([0] * 11), "", {})
        for leaf in leaves
    ]


def _profile(connection: duckdb.DuckDBPyConnection, leaf: Leaf, rows: int) -> Profile:
    patterns = (WHOLE, PLAIN, COMMA, MONEY, PADDED, DOTTED, "(?i)true|false|yes|no", DIGITS)
    counts = ", ".join(
        f"count(*) FILTER (NOT w AND regexp_full_match(v, {literal(pattern)}))"
        for pattern in patterns
    )
    *found, words = connection.sql(
        f"SELECT count(*) FILTER (NOT w), count(DISTINCT v) FILTER (NOT w), {counts}, "
        "coalesce(max(length(v)) FILTER (NOT w), 0), "
        f"coalesce(min(v) FILTER (NOT w AND regexp_full_match(v, {literal(DIGITS)})), "
        "min(v) FILTER (NOT w), ''), count(*) FILTER (w) FROM "
        f"(SELECT v, lower(v) IN ({literals(WORDS)}) AS w FROM "
        f"(SELECT trim({leaf.alias}) AS v FROM {leaf.table}) WHERE v <> '')"
    ).fetchall()[0]
    null_words: dict[str, int] = {}
    if words:
        null_words = dict(
            connection.sql(
                f"SELECT {leaf.alias}, count(*) FROM {leaf.table} "
                f"WHERE lower(trim({leaf.alias})) IN ({literals(WORDS)}) "
                "GROUP BY 1 ORDER BY 2 DESC, 1"
            ).fetchall()
        )
    return Profile(leaf, rows, *found, null_words)
