"""The SQL that casts the values of a source to their declared types, and names what does not fit.

A value that a type cannot hold as it is, is a misfit: DuckDB's own casts round, cut and guess, and
these tell when they did.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from contracts.base.sql import literal, name

WHOLE_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
WHOLE_NUMBERS |= {f"U{kind}" for kind in WHOLE_NUMBERS}
# Digits of which a floating-point type holds every whole number.
FLOAT_DIGITS = {"FLOAT": 7, "DOUBLE": 15}
DATES = {"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}


def typed_rows(
    source: str,
    shape: str,
    width: str,
    values: Sequence[str],
    types: Mapping[str, str],
    found: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The SELECT that casts the values of a row, and names those that do not fit.

    Args:
      source: SQL of the rows.
      shape: SQL that says what is wrong with a row as a whole.
      width: SQL of the number of columns of a row that has a wrong one.
      values: SQL of each declared column.
      types: declared column -> type.
      found: column -> the type that its values have; text where it is not named.
    """
    aliases = [f"__v{number}" for number in range(len(types))]
    inner = ", ".join(f"{value} AS {alias}" for value, alias in zip(values, aliases, strict=True))
    casts = ", ".join(
        f"{f'{alias}::VARCHAR' if kind == 'VARCHAR' else f'TRY_CAST({alias} AS {kind})'} "
        f"AS {name(column)}"
        for alias, (column, kind) in zip(aliases, types.items(), strict=True)
    )
    return (
        f"SELECT __file, __line, __raw, coalesce(__shape, {misfits(aliases, types, found)}) "
        f"AS __problem, __width, {casts} FROM (SELECT __file, __line, __raw, {shape} AS __shape, "
        f"{width} AS __width, {inner} FROM {source})"
    )


def misfits(values: Sequence[str], types: Mapping[str, str], found: Mapping[str, str]) -> str:
    """The SQL of a sentence naming the values that their types cannot hold, or null."""
    tests = []
    for value, (column, kind) in zip(values, types.items(), strict=True):
        has = found.get(column, "VARCHAR")
        if kind in ("VARCHAR", has):
            continue
        cast = f"TRY_CAST({value} AS {kind})"
        if has in ("VARCHAR", "BLOB"):
            loss = _text_loss(value, cast, kind)
        else:
            loss = _number_loss(value, cast, kind, has)
        shown = f"{literal(column + ' is ')} || left({value}::VARCHAR, 40)"
        tests.append(
            f"CASE WHEN {value} IS NULL THEN NULL "
            f"WHEN CASE WHEN {cast} IS NULL THEN true ELSE {loss} END "
            f"THEN {shown} || {literal(f', which is not {kind}')} END"
        )
    return f"nullif(concat_ws('; ', {', '.join(tests)}), '')" if tests else "NULL::VARCHAR"


def _text_loss(value: str, cast: str, kind: str) -> str:
    """The SQL that tells whether a cast of text, which DuckDB allows, is not what the text says.

    It reads 3.7 as the whole number 4, 1_2 as 12 and 0x1F as 31, rounds to a DECIMAL, and drops the
    time of a DATE and the zone of a TIMESTAMP.
    """
    if kind in FLOAT_DIGITS:
        whole = f"TRY_CAST({cast} AS HUGEINT) <> TRY_CAST({value} AS HUGEINT)"
        is_whole = f"CASE WHEN strlen({value}) > {FLOAT_DIGITS[kind]} "
        is_whole += f"THEN regexp_full_match({value}, '[+-]?[0-9]+') END"
        return f"contains({value}, '_') OR CASE WHEN {is_whole} THEN {whole} END"
    if kind in DATES:
        instant = f"TRY_CAST({value} AS TIMESTAMPTZ) <> TRY_CAST({cast} AS TIMESTAMPTZ)"
        return f"CASE WHEN {cast}::VARCHAR <> {value} THEN {instant} END"
    decimal = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", kind)
    if decimal is None and kind not in WHOLE_NUMBERS:
        return "false"
    digits = decimal[1] if decimal else 0
    plain = rf"\s*[+-]?[0-9]*(\.[0-9]{{0,{digits}}}0*)?\s*"
    # What reads back as it was written needs no closer look.
    return (
        f"CASE WHEN {cast}::VARCHAR <> {value} "
        f"THEN NOT regexp_full_match({value}, {literal(plain)}) END"
    )


def _number_loss(value: str, cast: str, kind: str, has: str) -> str:
    """The SQL that tells whether a cast of a number or time of the type `has` changes it."""
    may_change = kind in WHOLE_NUMBERS or kind == "DATE" or kind.startswith("DECIMAL")
    if may_change or (kind in FLOAT_DIGITS and has in WHOLE_NUMBERS):
        return f"TRY_CAST({cast} AS {has}) IS DISTINCT FROM {value}"
    return "false"
