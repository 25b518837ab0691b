"""JSON: an object a line, objects over several lines, or arrays of objects over the whole file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from contracts.base.errors import FootpathError
from contracts.base.sql import literal, literals, name
from features.ingestion.formats.base import NESTED, UTF8_MARK, Decoder, Format, Layout, but, decoded
from features.ingestion.formats.declared_types import typed_rows
from features.ingestion.formats.json_documents import JsonDecoder
from features.ingestion.formats.nested_json import nested_read

# How DuckDB shows a JSON number that is none.
NAN = ("NaN", "nan")


class JsonLines(Format):
    """JSON objects, however they lie in a file."""

    keys = "json_keys(__raw)"

    def decoder(self, path: str) -> Decoder:
        """Makes an object a line of JSON over several lines, or in an array."""
        return JsonDecoder(path)

    def sniff(self, data: bytes, path: str) -> None:
        """Refuses what is no text, and rows that lie within one object."""
        super().sniff(data, path)
        try:
            row = json.loads(data.removeprefix(UTF8_MARK).partition(b"\n")[0])
        except (ValueError, RecursionError):
            return  # the row is refused when it is read
        if not isinstance(row, dict) or not row.keys().isdisjoint(self.table.columns):
            return
        for key, value in row.items():
            if isinstance(value, list) and any(isinstance(element, dict) for element in value):
                key = key[:60]
                raise FootpathError(
                    f"{path} has its rows in the list '{key}' of one object: write them one a line "
                    f"(jq -c '.{key}[]' does it), or declare '{key}' as a column and explode it"
                )

    def layout(self, header: bytes | None, path: str) -> Layout:  # noqa: ARG002
        """Rows name their columns: all files have one layout."""
        return JsonLayout(tuple(self.table.nulls))


@dataclass(frozen=True)
class JsonLayout(Layout):
    """Keys of JSON objects are columns."""

    nulls: tuple[str, ...]  # words that mean null

    def select(self, source: str, types: Mapping[str, str]) -> str:
        """The SELECT over a table of records."""
        wanted = {c: "JSON" if NESTED.search(kind) else "VARCHAR" for c, kind in types.items()}
        fields = (
            "CASE WHEN CASE WHEN starts_with(__text, '{') THEN true "
            "ELSE starts_with(ltrim(__text), '{') END AND json_valid(__text) "
            f"THEN json_transform(__text, {literal(json.dumps(wanted))}) END"
        )
        nested = [column for column, kind in types.items() if NESTED.search(kind)]
        read = ""
        for number, column in enumerate(nested):
            value = nested_read(f"__fields.{name(column)}", types[column], column, self._text)
            read += f", {value} AS __n{number}"
        problems = "".join(f", __n{n}.p" for n in range(len(nested)))
        shape = (
            "CASE WHEN __text IS NULL THEN 'not UTF-8' "
            "WHEN __fields IS NULL THEN 'not a JSON object' "
            f"ELSE nullif(concat_ws('; ', NULL{problems}), '') END"
        )
        values = [
            f"__n{nested.index(column)}.v"
            if column in nested
            else but(_json_text(column), self.nulls)
            if kind == "VARCHAR"
            else but(f"__fields.{name(column)}", ("", "null", *NAN, *self.nulls))
            for column, kind in types.items()
        ]
        rows = f"(SELECT *{read} FROM {decoded(source, fields)})"
        found = {column: types[column] for column in nested}
        return typed_rows(rows, shape, "NULL::BIGINT", values, types, found)

    def _text(self, value: str, is_text: bool) -> str:
        """The SQL of the text of a JSON value within another; a whole number has no fraction."""
        bare = f"(({value})::JSON ->> '$')"
        if not is_text:
            return but(bare, ("", *NAN, *self.nulls))
        whole = f"coalesce(TRY_CAST({bare} AS HUGEINT)::VARCHAR, {bare})"
        text = (
            f"CASE WHEN ({value})::VARCHAR IN ({literals(NAN)}) THEN NULL "
            f"WHEN json_type(({value})::JSON) = 'DOUBLE' THEN CASE WHEN ends_with({bare}, '.0') "
            f"OR contains({bare}, 'e+') THEN {whole} ELSE {bare} END ELSE {bare} END"
        )
        return but(text, self.nulls)


def _json_text(column: str) -> str:
    """The SQL of a JSON value as text: NaN is null, and a whole number has no fraction.

    DuckDB shows whole numbers that were written otherwise as 5.0 or 5e+20. The type is asked for
    where a text looks like that.
    """
    value = f"__fields.{name(column)}"
    pointer = "/" + column.replace("~", "~0").replace("/", "~1")
    is_text = f"json_type(__text, {literal(pointer)}) <> 'DOUBLE'"
    is_nan = f"{value} IN ({literals(NAN)})"
    whole = f"coalesce(TRY_CAST({value} AS HUGEINT)::VARCHAR, {value})"
    # For speed: most texts are words, or longer than any number that DuckDB shows.
    return (
        f"CASE WHEN CASE WHEN {value} < ':' THEN strlen({value}) < 25 ELSE {is_nan} END THEN CASE "
        f"WHEN NOT (ends_with({value}, '.0') OR contains({value}, 'e+') OR {is_nan}) THEN {value} "
        f"WHEN {is_text} THEN {value} WHEN NOT {is_nan} THEN {whole} END ELSE {value} END"
    )
