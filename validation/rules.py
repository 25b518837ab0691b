"""What a row must be: each rule once, as a DuckDB expression and as a Great Expectations one.

The DuckDB side gives each row the list of rules that it breaks, at speed, for quarantine; the
Great Expectations side makes the suite and its pages. Both come from one call below, and the gate
holds their counts equal. As in Great Expectations, a null breaks only `present`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.base.sql import literal, literals, numeral

# The largest double: what lies beyond is infinite.
LARGEST = 1.7976931348623157e308


@dataclass(frozen=True)
class Rule:
    """One thing that a row must keep."""

    name: str
    column: str  # whose value is shown when it is broken
    broken: str  # DuckDB: true where it is broken; null counts as kept
    expectation: str  # Great Expectations class
    arguments: dict[str, Any] = field(compare=False)
    sentence: str


def present(column: str) -> Rule:
    """The value is not null."""
    return Rule(
        f"{column}_present",
        column,
        f"{column} IS NULL",
        "ExpectColumnValuesToNotBeNull",
        {"column": column},
        f"{column} must be there",
    )


def no_longer_than(column: str, characters: int) -> Rule:
    """The text has at most so many characters, and at least one."""
    return Rule(
        f"{column}_length",
        column,
        f"length({column}) NOT BETWEEN 1 AND {characters}",
        "ExpectColumnValueLengthsToBeBetween",
        {"column": column, "min_value": 1, "max_value": characters},
        f"{column} must have 1 to {characters} characters",
    )


def one_of(column: str, values: Sequence[str]) -> Rule:
    """The value is one of a few known ones."""
    known = literals(values)
    return Rule(
        f"{column}_known",
        column,
        f"{column} NOT IN ({known})",
        "ExpectColumnValuesToBeInSet",
        {"column": column, "value_set": list(values)},
        f"{column} must be one of {', '.join(values)}",
    )


def matches(column: str, pattern: str) -> Rule:
    """The whole text fits a regular expression, in which classes of characters mean ASCII."""
    return Rule(
        f"{column}_matches",
        column,
        f"NOT regexp_full_match({column}, {literal(pattern)})",
        "ExpectColumnValuesToMatchRegex",
        {"column": column, "regex": rf"\A(?a:{pattern})\Z"},
        f"{column} must match {pattern}",
    )


def finite(column: str) -> Rule:
    """The number is not infinite. The projection gives NaN as infinity (`number`)."""
    return Rule(
        f"{column}_finite",
        column,
        f"isinf({column})",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": -LARGEST, "max_value": LARGEST},
        f"{column} must be a finite number",
    )


def at_least(column: str, bound: float) -> Rule:
    """The number is not below a bound."""
    return Rule(
        f"{column}_at_least",
        column,
        f"{column} < {numeral(bound)}",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": bound},
        f"{column} must be at least {bound:g}",
    )


def at_most(column: str, bound: float) -> Rule:
    """The number is not above a bound."""
    return Rule(
        f"{column}_at_most",
        column,
        f"{column} > {numeral(bound)}",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "max_value": bound},
        f"{column} must be at most {bound:g}",
    )


def not_less(column: str, other: str) -> Rule:
    """The value is at least that of another column."""
    return Rule(
        f"{column}_not_less_than_{other}",
        column,
        f"{column} < {other}",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": column, "column_B": other, "or_equal": True} | _IF_BOTH,
        f"{column} must not be less than {other}",
    )


def less(column: str, other: str) -> Rule:
    """The value is less than that of another column."""
    return Rule(
        f"{column}_less_than_{other}",
        column,
        f"{column} >= {other}",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": other, "column_B": column, "or_equal": False} | _IF_BOTH,
        f"{column} must be less than {other}",
    )


def equal(column: str, other: str) -> Rule:
    """The value is that of another column."""
    return Rule(
        f"{column}_equals_{other}",
        column,
        f"{column} <> {other}",
        "ExpectColumnPairValuesToBeEqual",
        {"column_A": column, "column_B": other} | _IF_BOTH,
        f"{column} must equal {other}",
    )


def number(column: str) -> str:
    """The projection of a float column: pandas cannot tell NaN from null, so it is inf."""
    return f"CASE WHEN isnan({column}) THEN 'infinity'::DOUBLE ELSE {column} END"


_IF_BOTH = {"ignore_row_if": "either_value_is_missing"}
