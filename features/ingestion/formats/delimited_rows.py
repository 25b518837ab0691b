"""The SQL that splits rows of delimited text into their columns."""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.base.sql import literal
from contracts.config.source import Csv
from features.ingestion.formats.base import Layout, but, decoded
from features.ingestion.formats.declared_types import FLOAT_DIGITS, WHOLE_NUMBERS, typed_rows

# Stands in for a delimiter of several characters: the unit separator, which text does not hold.
UNIT = "\x1f"

# What a letter behind the escape stands for in text without quotes, as databases write it.
CONTROLS = {"0": 0, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "Z": 26}

# A number with a decimal comma; its digits are grouped by points, blanks or apostrophes.
_BLANKS = " \u00a0\u2009\u202f'\u2019"
_GROUPED = rf"[0-9]{{1,3}}(([.][0-9]{{3}})+|([{_BLANKS}][0-9]{{3}})+)"
_DECIMAL_COMMA = rf"\s*[+-]?([0-9]*|{_GROUPED})(,[0-9]*)?([eE][+-]?[0-9]+)?\s*"


@dataclass(frozen=True)
class DelimitedLayout(Layout):
    """Where each declared column stands, counted from 1, and among how many."""

    csv: Csv
    nulls: tuple[str, ...]  # words that mean null
    positions: tuple[int | None, ...]  # None for an optional column that is not there
    width: int

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """The SELECT over a table of records."""
        open_quote = "a quote is not closed, or text follows its end"
        hint = f'{open_quote}: if \\" is a quote in a text, set csv.escape to \\'
        shape = (
            f"CASE WHEN __text IS NULL THEN {literal(f'not {self.csv.encoding.upper()}')} "
            f"WHEN __fields IS NULL THEN CASE WHEN {'false' if self.csv.escape else 'true'} "
            f"AND contains(__text, {literal(chr(92) + self.csv.quote)}) THEN {literal(hint)} "
            f"ELSE {literal(open_quote)} END "
            f"WHEN len(__fields) <> {self.width} THEN len(__fields) || ' columns where there "
            f"should be {self.width}' END"
        )
        width = f"CASE WHEN len(__fields) <> {self.width} THEN len(__fields) END"
        values = [
            self._number(but(f"__fields[{place}]", self.nulls), kind) if place else "NULL"
            for place, kind in zip(self.positions, types.values(), strict=True)
        ]
        rows = decoded(source, split_sql(self.csv), self.csv.comment)
        return typed_rows(rows, shape, width, values, types)

    def _number(self, value: str, kind: str) -> str:
        """The SQL of a number as DuckDB reads it, of one with a decimal comma."""
        is_number = kind in WHOLE_NUMBERS or kind in FLOAT_DIGITS or kind.startswith("DECIMAL")
        if self.csv.decimal == "." or not is_number:
            return value
        number = f"replace(translate({value}, {literal('.' + _BLANKS)}, ''), ',', '.')"
        # What is none, and would be read as another one, is shown with the reason.
        none = f"{value} || ' (decimal: comma)'"
        pattern = literal(_DECIMAL_COMMA)
        return f"CASE WHEN regexp_full_match({value}, {pattern}) THEN {number} ELSE {none} END"


def split_sql(csv: Csv) -> str:
    """The SQL that splits `__text` into a list of fields; null where quotes are wrong."""
    line, separator = "__text", csv.delimiter
    if len(separator) > 1:
        line, separator = f"replace(__text, {literal(separator)}, {literal(UNIT)})", UNIT
    plain = f"string_split({line}, {literal(separator)})"
    if not csv.quote and not csv.escape:
        return plain
    d, q, e = (_pattern(char) for char in (separator, csv.quote, csv.escape))
    any_escaped = f"|{e}(?s:.)" if e else ""
    inside = f"(?:[^{d}{e}]{any_escaped})*"
    if q:
        # A field is quoted as a whole, quotes inside it doubled, or it does not begin with one.
        field = f"{q}(?:[^{q}{e}]|{q}{q}{any_escaped})*{q}|(?:[^{d}{q}{e}]{any_escaped}){inside}|"
    else:
        field = inside
    bare = _quoted(csv, d, q, e) if q else _escaped(csv)
    if separator != csv.delimiter:
        bare = f"replace({bare}, {literal(UNIT)}, {literal(csv.delimiter)})"
    line = f"{literal(separator)} || {line}"
    is_plain = " AND ".join(
        f"NOT contains(__text, {literal(char)})" for char in (csv.quote, csv.escape) if char
    )
    return (
        f"CASE WHEN {is_plain} THEN {plain} "
        f"WHEN regexp_full_match({line}, {literal(f'(?:{d}(?:{field}))+')}) "
        f"THEN list_transform(regexp_extract_all({line}, {literal(f'{d}({field})')}, 1), "
        f"lambda f: {bare}) END"
    )


def _quoted(csv: Csv, d: str, q: str, e: str) -> str:
    """The SQL of what a field `f` says, where fields may be quoted."""
    inside, outside = f"replace(f[2:-2], {literal(csv.quote * 2)}, {literal(csv.quote)})", "f"
    if e:
        # Behind an escape, what would end something is text; anything else stays with its escape.
        escaped = f"{e}([{d}{q}{e}\\n\\r])"
        double = literal(f"{q}({q})|{escaped}")
        inside = f"regexp_replace(f[2:-2], {double}, '\\1\\2', 'g')"
        outside = f"regexp_replace(f, {literal(escaped)}, '\\1', 'g')"
    return f"CASE WHEN starts_with(f, {literal(csv.quote)}) THEN {inside} ELSE {outside} END"


def _escaped(csv: Csv) -> str:
    """The SQL of what a field `f` says where none is quoted, as databases write text."""
    e = _pattern(csv.escape)
    controls = " ".join(
        f"WHEN p = {literal(csv.escape + letter)} THEN chr({code})"
        for letter, code in CONTROLS.items()
    )
    parts = f"regexp_extract_all(f, {literal(f'{e}(?s:.)|[^{e}]+')})"
    said = f"CASE {controls} WHEN starts_with(p, {literal(csv.escape)}) THEN p[2:] ELSE p END"
    return (
        f"CASE WHEN f = {literal(csv.escape + 'N')} THEN NULL "
        f"WHEN contains(f, {literal(csv.escape)}) "
        f"THEN array_to_string(list_transform({parts}, lambda p: {said}), '') ELSE f END"
    )


def _pattern(char: str) -> str:
    """A character in a regular expression, within brackets too; empty for none."""
    return f"\\x{{{ord(char):x}}}" if char else ""
