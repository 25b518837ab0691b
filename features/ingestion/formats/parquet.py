"""Parquet, read by DuckDB where it lies on this machine."""

from collections.abc import Iterator, Mapping

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.base.sql import literal, name, parquet
from contracts.lake.engine import memory_bytes
from features.expressions import struct_of, text_of
from features.ingestion.formats.base import NESTED, Format, but, listed
from features.ingestion.formats.declared_types import misfits, typed_rows
from features.ingestion.streams import too_large

SAMPLE_ROWS = 1000

# Values of a file that are read at a time take so many times less than what queries may.
CHUNKS = 16

# What DuckDB calls the place of a row in its Parquet file.
ROW_NUMBER = "file_row_number"


class Parquet(Format):
    """Parquet, read by DuckDB where it lies on this machine; rows count from 1."""

    is_text = False

    def selects_of_file(
        self,
        connection: duckdb.DuckDBPyConnection,
        on_disk: str,
        path: str,
        file: int,
        types: Mapping[str, str],
        is_sample: bool,
    ) -> Iterator[str]:
        """The SELECTs over parts of a file. `__raw` is null where the row could be read."""
        try:
            relation = connection.read_parquet(on_disk, hive_partitioning=False)
            self._check_columns(pq.read_schema(on_disk).names, path)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise FootpathError(
                f"{path} is not Parquet, or is damaged ({reason}): ask for it again"
            ) from None
        found = dict(zip(relation.columns, map(str, relation.types), strict=True))
        which = [f"LIMIT {SAMPLE_ROWS}"]
        number = f"{ROW_NUMBER} + 1"
        options = [f"{ROW_NUMBER} = true"]
        if not is_sample:
            count, size = self._check_size(connection, on_disk, path, found)
            step = max(1, count * memory_bytes() // CHUNKS // max(size, 1))
            starts = range(0, max(count, 1), step)
            which = [f"WHERE {ROW_NUMBER} BETWEEN {n} AND {n + step - 1}" for n in starts]
        if ROW_NUMBER in map(str.lower, found):  # the file has one of its own
            number, options, which = "row_number() OVER ()", [], which[:1] if is_sample else [""]
        columns = [name(column) for column in types]
        values = [
            f"{self._value(column, found.get(column), kind)} AS {name(column)}"
            for column, kind in types.items()
        ]
        flaws = [
            f"CASE WHEN {name(c)} IS NOT NULL AND TRY(decode({name(c)})) IS NULL "
            f"THEN {literal(f'{c} is not UTF-8')} END"
            for c, kind in types.items()
            if found.get(c) == "BLOB" and kind != "BLOB"
        ]
        flaw = f"nullif(concat_ws('; ', {', '.join(flaws)}), '')" if flaws else "NULL::VARCHAR"
        rows = (
            f"SELECT {file} AS __file, {number} AS __line, {flaw} AS __shape, {', '.join(values)} "
            f"FROM {parquet(literal(on_disk), *options)}"
        )
        raw = (
            f"CASE WHEN coalesce(__shape, {misfits(columns, types, found)}) IS NOT NULL "
            f"THEN to_json({struct_of(types)}) END AS __raw"
        )
        for part in which:
            source = f"(SELECT *, {raw} FROM ({rows} {part}))"
            yield typed_rows(source, "__shape", "NULL::BIGINT", columns, types, found)

    def _check_columns(self, found: list[str], path: str) -> None:
        """Refuses a file without a declared column, or with several of its name."""
        lower = [column.lower() for column in found]
        for column in self.table.columns:
            count = lower.count(column.lower())
            if count > 1 or (column not in found and column not in self.table.optional):
                raise FootpathError(
                    f"{path} has {'more than one' if count > 1 else 'no'} column '{column}', which "
                    f"the YAML declares (it has: {listed(found, 20)}): fix the YAML or ask for the "
                    "file again"
                )

    def _check_size(
        self, connection: duckdb.DuckDBPyConnection, on_disk: str, path: str, found: dict[str, str]
    ) -> tuple[int, int]:
        """Counts rows and bytes, and refuses a file whose values are too large.

        A dictionary makes millions of rows of one value. What the metadata says of sizes is of the
        pages as they are encoded, or a lie.
        """
        used = [column for column in self.table.columns if column in found]
        length = {"VARCHAR": "strlen({})", "BLOB": "octet_length({})"}
        nested = "strlen(({})::VARCHAR)"
        texts = [
            length.get(found[c], nested).format(name(c))
            for c in used
            if found[c] in length or NESTED.search(found[c])
        ]
        sizes = "".join(f" + coalesce(sum({text}), 0)" for text in texts)
        sql = f"SELECT count(*), {8 * len(used)} * count(*){sizes} FROM "
        ((count, size),) = connection.sql(f"{sql}{parquet(literal(on_disk))}").fetchall()
        if size > self.table.max_bytes:
            raise too_large(path, self.table.max_bytes)
        return count, size

    def _value(self, column: str, found: str | None, kind: str) -> str:
        """The SQL of a column of the file, of the type that it has there or as text."""
        if found is None:
            return "NULL"
        value = name(column)
        if found in ("FLOAT", "DOUBLE"):
            # Parquet's statistics leave NaN out, and isnan would be folded to false by them.
            value = f"CASE WHEN isfinite({value}) OR isinf({value}) THEN {value} END"
        if found == "BLOB" and kind != "BLOB":
            value = f"coalesce(TRY(decode({value})), {value}::VARCHAR)"
            found = "VARCHAR"
        if found == "VARCHAR":
            return but(value, self.table.nulls)
        return text_of(value) if kind == "VARCHAR" else value
