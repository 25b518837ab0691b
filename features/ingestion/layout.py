"""How a row of a source file becomes declared columns: the SQL for CSV, JSON lines and Parquet.

In:  records as bytes (text formats) or a Parquet file. Out: a SELECT that gives `__file`, `__line`,
`__raw`, `__problem`, `__width` (of a CSV row with a wrong number of columns) and the declared
columns. All formats go through text and TRY_CAST, so that a value that does not fit its declared
type is found and told, whatever the format.
"""

import contextlib
import csv
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from contracts.base.errors import FootpathError
from contracts.base.hashing import Hasher
from contracts.base.sql import literal, name
from contracts.config.source import FileTable
from features.ingestion.ahead import SmallFiles
from features.ingestion.archives import Archives
from features.ingestion.files import SourceFile, read_blocks

WHOLE_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
WHOLE_NUMBERS |= {f"U{kind}" for kind in WHOLE_NUMBERS}
NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION|JSON)")

# Stands in for a delimiter of several characters: the unit separator, which text does not hold.
UNIT = "\x1f"
SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class CsvLayout:
    """Delimited text: where each declared column stands, counted from 1, and among how many."""

    delimiter: str
    quote: str
    positions: tuple[int | None, ...]  # None for an optional column that is not there
    width: int

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """Returns the SELECT over a table of records (lines.py)."""
        shape = (
            "CASE WHEN __text IS NULL THEN 'not UTF-8' "
            "WHEN __fields IS NULL THEN 'a quote is not closed, or text follows its end' "
            f"WHEN len(__fields) <> {self.width} THEN len(__fields) || ' columns where there "
            f"should be {self.width}' END"
        )
        width = f"CASE WHEN len(__fields) <> {self.width} THEN len(__fields) END"
        values = [f"nullif(__fields[{p}], '')" if p else "NULL" for p in self.positions]
        return _typed(_records(source, self._fields()), shape, width, values, types)

    def _fields(self) -> str:
        """Returns the SQL that splits `__text` into a list; null where quotes are wrong."""
        line, separator = "__text", self.delimiter
        if len(separator) > 1:
            line, separator = f"replace(__text, {literal(separator)}, {literal(UNIT)})", UNIT
        plain = f"string_split({line}, {literal(separator)})"
        if not self.quote:
            return plain
        # A field is quoted as a whole, quotes inside it doubled, or it does not begin with one.
        d, q = (f"\\x{{{ord(char):x}}}" for char in (separator, self.quote))
        field = f"{q}(?:[^{q}]|{q}{q})*{q}|[^{d}{q}][^{d}]*|"
        line = f"{literal(separator)} || {line}"
        bare = f"replace(f[2:-2], {literal(self.quote * 2)}, {literal(self.quote)})"
        bare = f"CASE WHEN starts_with(f, {literal(self.quote)}) THEN {bare} ELSE f END"
        if separator != self.delimiter:
            bare = f"replace({bare}, {literal(UNIT)}, {literal(self.delimiter)})"
        return (
            f"CASE WHEN NOT contains(__text, {literal(self.quote)}) THEN {plain} "
            f"WHEN regexp_full_match({line}, '(?:{d}(?:{field}))+') "
            f"THEN list_transform(regexp_extract_all({line}, '{d}({field})', 1), "
            f"lambda f: {bare}) END"
        )


def csv_layout(table: FileTable, header: bytes | None, path: str) -> CsvLayout:
    """Finds the declared columns in a header, or takes them in their order without one.

    Raises:
      FootpathError: the header lacks a declared column, or has it twice.
    """
    delimiter, quote = table.csv.delimiter, table.csv.quote
    declared = list(table.columns)
    if header is None:
        width = len(declared)
        return CsvLayout(delimiter, quote, tuple(range(1, width + 1)), width)
    line = header.decode(errors="replace").rstrip("\r\n").replace(delimiter, UNIT)
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    reader = csv.reader([line], delimiter=UNIT, quotechar=quote or None, quoting=quoting)
    try:
        found = [column.strip() for column in next(reader, [])]
    except csv.Error as error:
        raise FootpathError(
            f"{path}: its header cannot be read ({error}): ask for the file again"
        ) from None
    for column in declared:
        if found.count(column) != 1 and (column in found or column not in table.optional):
            how = "has no" if column not in found else "has more than one"
            raise FootpathError(
                f"{path}: its header {how} column '{column}', which the YAML declares "
                f"(it has: {', '.join(found)}): mend the YAML or ask for the file again"
            )
    positions = tuple(found.index(c) + 1 if c in found else None for c in declared)
    return CsvLayout(delimiter, quote, positions, len(found))


@dataclass(frozen=True)
class JsonLayout:
    """One JSON object a line."""

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """Returns the SELECT over a table of records (lines.py)."""
        wanted = {c: "JSON" if NESTED.search(kind) else "VARCHAR" for c, kind in types.items()}
        fields = (
            "CASE WHEN CASE WHEN starts_with(__text, '{') THEN true "
            "ELSE starts_with(ltrim(__text), '{') END AND json_valid(__text) "
            f"THEN json_transform(__text, {literal(json.dumps(wanted))}) END"
        )
        shape = (
            "CASE WHEN __text IS NULL THEN 'not UTF-8' "
            "WHEN __fields IS NULL THEN 'not a JSON object' END"
        )
        values = [_json_value(f"__fields.{name(column)}", kind) for column, kind in types.items()]
        return _typed(_records(source, fields), shape, "NULL::BIGINT", values, types)


@dataclass(frozen=True)
class ParquetLayout:
    """One Parquet file that lies here; its rows count from 1."""

    path: str
    digest: str
    columns: tuple[str, ...]  # those that the file has

    def select(self, file: int, types: Mapping[str, str], is_sample: bool = False) -> str:
        """Returns the SELECT over the file. `__raw` is null where the row could be read."""
        columns = [name(column) for column in types]
        found = [
            name(column) if column in self.columns else f"NULL AS {name(column)}"
            for column in types
        ]
        rows = (
            f"(SELECT {file} AS __file, file_row_number + 1 AS __line, {', '.join(found)} "
            f"FROM read_parquet({literal(self.path)}, file_row_number = true)"
            f"{f' LIMIT {SAMPLE_ROWS}' if is_sample else ''})"
        )
        raw = "to_json({" + ", ".join(f"{literal(c)}: {name(c)}" for c in types) + "})"
        misfit = _misfits([(column, c, kind) for column, c, kind in _named(columns, types)])
        raw = f"CASE WHEN ({misfit}) IS NOT NULL THEN {raw} END AS __raw"
        return _typed(f"(SELECT *, {raw} FROM {rows})", "NULL", "NULL::BIGINT", columns, types)


@contextlib.contextmanager
def parquet_layout(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    table: FileTable,
    archives: Archives,
    ahead: SmallFiles | None = None,
) -> Iterator[ParquetLayout]:
    """Gives a Parquet file as it can be read from here: what is not a file here is copied.

    Raises:
      FootpathError: the file is not Parquet, or lacks a declared column.
    """
    digest = Hasher()
    with tempfile.TemporaryDirectory(prefix="footpath-") as folder:
        path = file.url
        if "://" in path or file.archive:
            path = str(Path(folder) / "copy.parquet")
            with open(path, "wb") as copy:
                copy.writelines(read_blocks(file, digest, archives, ahead))
        else:
            for _ in read_blocks(file, digest):
                pass
        try:
            found = connection.read_parquet(path).columns
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise FootpathError(
                f"{file.path} is not Parquet, or is damaged ({reason}): ask for it again"
            ) from None
        for column in table.columns:
            if column not in found and column not in table.optional:
                raise FootpathError(
                    f"{file.path} has no column '{column}', which the YAML declares (it has: "
                    f"{', '.join(found)}): mend the YAML or ask for the file again"
                )
        yield ParquetLayout(path, digest.hexdigest(), tuple(found))


def _json_value(value: str, kind: str) -> str:
    if kind == "VARCHAR":
        return value
    return f"CASE WHEN {value}::VARCHAR NOT IN ('', 'null') THEN {value} END"


def _records(source: str, fields: str) -> str:
    """Returns the sub-select that decodes records, drops blank lines and splits the others.

    DuckDB's trim functions walk through a whole text, so they see only the texts that need it.
    """
    decoded = "coalesce(__text, TRY(decode(__bytes)))"
    cr, lf = "chr(13)", "chr(10)"
    stripped = (
        f"CASE WHEN ends_with(__text, {cr} || {cr} || {lf}) THEN rtrim(__text, {cr} || {lf}) "
        f"WHEN ends_with(__text, {cr} || {lf}) THEN substr(__text, 1, length(__text) - 2) "
        "ELSE substr(__text, 1, length(__text) - 1) END"
    )
    return (
        f"(SELECT *, {fields} AS __fields FROM (SELECT __file, __line, __text, "
        r"coalesce(__text, regexp_replace(__bytes::VARCHAR, '(\\x0D)?\\x0A$', '')) AS __raw "
        f"FROM (SELECT __file, __line, __bytes, {stripped} AS __text FROM "
        f"(SELECT __file, __line, __bytes, {decoded} AS __text FROM {source}))) "
        "WHERE (strlen(__raw) > 0 AND NOT starts_with(__raw, ' ')) OR trim(__raw) <> '')"
    )


def _typed(source: str, shape: str, width: str, values: list[str], types: Mapping[str, str]) -> str:
    """Returns the SELECT that casts the values of a row, and tells those that do not fit."""
    texts = [f"__v{number}" for number in range(len(types))]
    inner = ", ".join(f"{value} AS {alias}" for value, alias in zip(values, texts, strict=True))
    casts = ", ".join(
        f"{_cast(alias, kind)} AS {name(column)}" for column, alias, kind in _named(texts, types)
    )
    misfits = _misfits(_named(texts, types))
    return (
        f"SELECT __file, __line, __raw, coalesce(__shape, {misfits}) AS __problem, __width, "
        f"{casts} FROM (SELECT __file, __line, __raw, {shape} AS __shape, {width} AS __width, "
        f"{inner} FROM {source})"
    )


def _named(values: list[str], types: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(column, v, kind) for v, (column, kind) in zip(values, types.items(), strict=True)]


def _cast(value: str, kind: str) -> str:
    if kind == "VARCHAR":
        return f"{value}::VARCHAR"
    return f"TRY_CAST({value} AS {kind})"


def _misfits(columns: list[tuple[str, str, str]]) -> str:
    """Returns the SQL of a sentence naming the values that do not fit their types, or null."""
    tests = []
    for column, value, kind in columns:
        if kind == "VARCHAR":
            continue
        wrong = f"{value} IS NOT NULL AND TRY_CAST({value} AS {kind}) IS NULL"
        if kind in WHOLE_NUMBERS:
            # A cast to a whole number would round 3.7 to 4 without a word.
            number = f"TRY_CAST({value} AS DOUBLE)"
            wrong = f"({wrong}) OR {number} <> floor({number})"
        told = f"{literal(column + ' is ')} || left({value}::VARCHAR, 40)"
        tests.append(f"CASE WHEN {wrong} THEN {told} || {literal(f', which is not {kind}')} END")
    return f"nullif(concat_ws('; ', {', '.join(tests)}), '')" if tests else "NULL::VARCHAR"
