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
INSTANT = "TIMESTAMP WITH TIME ZONE"

# Abbreviated zones that mean one offset everywhere. DuckDB reads them as those of a region, with
# its summer time, and BST, IST or CST as one of the regions that say so.
HOURS = {"UTC": 0, "UCT": 0, "GMT": 0, "ZULU": 0, "WET": 0, "CET": 1, "MET": 1, "EET": 2, "CAT": 2}
HOURS |= {"EAT": 3, "JST": 9, "EST": -5, "MST": -7, "PST": -8, "HST": -10}
_TIME = r"(TIMESTAMP\s+WITH\s+TIME\s+ZONE|TIMESTAMPTZ|TIMESTAMP|DATETIME)"
_CAST = re.compile(rf"\b(TRY_)?CAST\(\s*([^()]+?)\s+AS\s+{_TIME}\s*\)", re.IGNORECASE)
_COLONS = re.compile(rf"""("[^"]+"|[\w.]+)\s*::\s*{_TIME}\b""", re.IGNORECASE)
_ABBREVIATED = "[:.0-9][0-9] ?([A-Za-z]{2,5})$"


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
    tests = [
        misfit(value, column, kind, found.get(column, "VARCHAR"))
        for value, (column, kind) in zip(values, types.items(), strict=True)
    ]
    tests = [test for test in tests if test]
    return f"nullif(concat_ws('; ', {', '.join(tests)}), '')" if tests else "NULL::VARCHAR"


def misfit(value: str, where: str, kind: str, has: str) -> str:
    """The SQL of a sentence on a value that a type cannot hold, or null; empty if it holds all.

    Args:
      value: SQL of the value.
      where: names it.
      kind: its declared type.
      has: the type that it has.
    """
    if kind in ("VARCHAR", has):
        return ""
    cast = f"TRY_CAST({value} AS {kind})"
    is_lost = f"CASE WHEN {cast} IS NULL THEN true ELSE {_loss(value, cast, kind, has)} END"
    return (
        f"CASE WHEN {value} IS NULL THEN NULL WHEN {is_lost} THEN {_is_not(value, where, kind)} END"
    )


def _is_not(value: str, where: str, kind: str) -> str:
    """The SQL of a sentence on a value that a type does not hold."""
    said = f"{literal(where + ' is ')} || left({value}::VARCHAR, 40) || "
    said += literal(f", which is not {kind}")
    if kind == INSTANT:
        hint = literal(": say its zone as an offset, as in +01:00, or as Area/City")
        said += f" || CASE WHEN regexp_matches({value}::VARCHAR, '{_ABBREVIATED}') THEN {hint} "
        said += "ELSE '' END"
    return said


def _loss(value: str, cast: str, kind: str, has: str) -> str:
    """The SQL that tells whether a cast changes a value of the type `has`."""
    if has in ("VARCHAR", "BLOB"):
        return _text_loss(value, cast, kind)
    return _number_loss(value, cast, kind, has)


def lossy_casts(sql: str, or_unknown: bool = False) -> str:
    """The SQL of a sentence on texts that an expression casts to a time, if that loses something.

    Args:
      sql: of the YAML; its casts of what has no brackets are looked at.
      or_unknown: if the zone is not known, too: then the cast gives null.

    Returns:
      Null where all is well, or there is no such cast.
    """
    kinds = {"TIMESTAMPTZ": INSTANT, "TIMESTAMP WITH TIME ZONE": INSTANT}
    found = [(inner, kind) for _, inner, kind in _CAST.findall(sql)]
    found += [(inner, kind) for inner, kind in _COLONS.findall(sql)]
    tests = ["NULL"]
    for inner, given in dict.fromkeys(found):
        kind = kinds.get(" ".join(given.upper().split()), "TIMESTAMP")
        value, is_lost = f"({inner})::VARCHAR", f"TRY_CAST(({inner})::VARCHAR AS {kind})"
        is_lost = f"CASE WHEN {is_lost} IS NOT NULL THEN {_text_loss(value, is_lost, kind)} END"
        if or_unknown:
            is_lost = f"{is_lost} OR regexp_matches({value}, '{_ABBREVIATED}')"
        tests.append(f"CASE WHEN {is_lost} THEN {_is_not(value, inner.strip(chr(34)), kind)} END")
    return f"TRY(coalesce({', '.join(tests)}))" if found else "NULL"


def _text_loss(value: str, cast: str, kind: str) -> str:
    """The SQL that tells whether a cast of text, which DuckDB allows, is not what the text says.

    It reads 3.7 as the whole number 4, 1_2 as 12 and 0x1F as 31, rounds to a DECIMAL, and drops the
    time of a DATE, and of a TIMESTAMP the zone or whatever else stands behind it, such as PM.
    """
    if kind in FLOAT_DIGITS:
        whole = f"TRY_CAST({cast} AS HUGEINT) <> TRY_CAST({value} AS HUGEINT)"
        is_whole = f"CASE WHEN strlen({value}) > {FLOAT_DIGITS[kind]} "
        is_whole += f"THEN regexp_full_match({value}, '[+-]?[0-9]+') END"
        return f"contains({value}, '_') OR CASE WHEN {is_whole} THEN {whole} END"
    if kind in DATES:
        instant = f"TRY_CAST({value} AS TIMESTAMPTZ) IS DISTINCT FROM {cast}::TIMESTAMPTZ"
        return f"CASE WHEN {cast}::VARCHAR <> {value} THEN {instant} END"
    if kind == INSTANT:
        return _zone_loss(value, cast)
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


def _zone_loss(value: str, cast: str) -> str:
    """The SQL that tells whether an abbreviated zone may mean another instant than DuckDB's."""
    word = f"upper(regexp_extract({value}, '{_ABBREVIATED}', 1))"
    hours = " ".join(f"WHEN '{zone}' THEN {hours}" for zone, hours in HOURS.items())
    fixed = f"TRY_CAST({value} AS TIMESTAMP)::TIMESTAMPTZ - to_hours(CASE {word} {hours} END)"
    # For speed: most end with a digit or with Z.
    return (
        f"CASE WHEN right({value}, 1) > '@' AND NOT ends_with({value}, 'Z') THEN "
        f"{word} <> '' AND {cast} IS DISTINCT FROM {fixed} END"
    )


def _number_loss(value: str, cast: str, kind: str, has: str) -> str:
    """The SQL that tells whether a cast of a number or time of the type `has` changes it."""
    may_change = kind in WHOLE_NUMBERS or kind == "DATE" or kind.startswith("DECIMAL")
    if may_change or (kind in FLOAT_DIGITS and has in WHOLE_NUMBERS):
        return f"TRY_CAST({cast} AS {has}) IS DISTINCT FROM {value}"
    return "false"
