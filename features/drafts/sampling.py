"""A sample of a file that nobody has described: its rows as text, and what format it is in.

In:  one file of a source: delimited text, JSON lines or Parquet, plain, gzipped, zstd, or in a tar
     archive. Out: its format, and the table `sample`: every column as text, as it lies there.

The reader of landing files must be told delimiter, header and types, and refuses what does not fit.
Here they are found out, from the beginning of the file.
"""

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Literal

import duckdb

from contracts.base.errors import FootpathError
from contracts.base.sql import name
from contracts.config.source import Csv
from features.ingestion.archives import members
from features.ingestion.archives.member import TAR
from features.ingestion.formats.base import NESTED
from features.ingestion.formats.delimited import split_delimited
from features.ingestion.listing import find_files
from features.ingestion.streams import SourceFile, path_on_disk, read_blocks

# Decompressed bytes that are looked at, and rows of Parquet.
SAMPLE_BYTES = 32 << 20
SAMPLE_ROWS = 500_000

# In this order where several fit equally well. Blanks part words too, so they come last.
DELIMITERS = ("\t", "::", "|", ";", ",", " ")
LOOKED_AT = 500  # lines that must agree on a delimiter


@dataclass(frozen=True)
class Sample:
    """What a file looks like. Its rows are in the table `sample`."""

    file: SourceFile
    format: str
    columns: list[str]
    rows: int
    is_whole: bool  # false: the file goes on
    csv: Csv | None = None
    encoding_note: str = ""
    nested: dict[str, str] = field(default_factory=dict)  # column -> DuckDB type


def find_file(address: str) -> SourceFile:
    """Finds the file that is meant; of an archive, the first of its members.

    Raises:
      FootpathError: there is no such file, or an archive has no file.
    """
    absolute = address if "://" in address else str(Path(address).absolute())
    found = find_files("", escape(absolute))
    if not found:
        raise FootpathError(f"{address} is not there: init takes one file of your events")
    file = found[0]
    if file.path.lower().endswith(TAR):
        inside = members(file.path, file.url, file.stamp)
        if not inside:
            raise FootpathError(f"{address} is an archive without a file in it")
        file = find_files("", f"{escape(absolute)}/{escape(inside[0].name)}")[0]
    return file


def take_sample(connection: duckdb.DuckDBPyConnection, file: SourceFile, folder: Path) -> Sample:
    """Makes the table `sample` from the beginning of a file.

    Args:
      connection: DuckDB.
      file: what to read.
      folder: an empty one of this machine, for the sample's bytes.

    Raises:
      FootpathError: the file is empty, cannot be read, or is no table.
    """
    head = b"".join(itertools.islice(read_blocks(file), 1))
    if not head.strip():
        raise FootpathError(f"{file.path} is empty: init needs a file with rows")
    if head.startswith(b"PAR1"):
        return _parquet(connection, file, folder)
    data, is_whole = _beginning(file)
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    try:
        data.decode()
    except UnicodeDecodeError:
        data, encoding = data.decode("latin-1").encode(), "latin-1"
    local = folder / "sample.txt"
    local.write_bytes(data)
    if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        return _json(connection, file, local, is_whole)
    return _delimited(connection, file, local, is_whole, encoding)


def _beginning(file: SourceFile) -> tuple[bytes, bool]:
    """The first whole lines of a file, and whether they are all of it."""
    parts: list[bytes] = []
    size = 0
    for block in read_blocks(file):
        parts.append(block)
        size += len(block)
        if size >= SAMPLE_BYTES:
            data = b"".join(parts)
            return data[: data.rfind(b"\n") + 1], False
    return b"".join(parts), True


def _parquet(connection: duckdb.DuckDBPyConnection, file: SourceFile, folder: Path) -> Sample:
    path = path_on_disk(file, folder)
    relation = connection.read_parquet(path, hive_partitioning=False)
    kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
    as_text = ", ".join(
        f"coalesce(TRY(decode({name(column)})), {name(column)}::VARCHAR) AS {name(column)}"
        if kind == "BLOB"
        else f"{name(column)}::VARCHAR AS {name(column)}"
        for column, kind in kinds.items()
    )
    connection.register("parquet_rows", relation)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE sample AS SELECT {as_text} FROM parquet_rows "
        f"LIMIT {SAMPLE_ROWS}"
    )
    rows = _count(connection)
    nested = {c: kind for c, kind in kinds.items() if NESTED.search(kind)}
    is_whole = rows < SAMPLE_ROWS
    return Sample(file, "parquet", list(kinds), rows, is_whole, nested=nested)


def _json(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, local: Path, is_whole: bool
) -> Sample:
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE lines AS SELECT json FROM "
        "read_ndjson_objects(?, ignore_errors = true) WHERE json_type(json) = 'OBJECT'",
        [str(local)],
    )
    keys = connection.execute(
        "SELECT key, min(place) AS place, bool_or(json_type(json, '$.\"' || key || '\"') IN "
        "('OBJECT', 'ARRAY')) AS nested FROM (SELECT json, unnest(json_keys(json)) AS key, "
        "unnest(range(len(json_keys(json)))) AS place FROM lines) GROUP BY key ORDER BY place, key"
    ).fetchall()
    if not keys:
        raise FootpathError(f"{file.path} begins like JSON lines, and no line is a JSON object")
    paths = ", ".join(f"json ->> ? AS {name(key)}" for key, *_ in keys)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE sample AS SELECT {paths} FROM lines",
        [f'$."{key}"' for key, *_ in keys],
    )
    nested = {key: "JSON" for key, _, is_nested in keys if is_nested}
    columns = [key for key, *_ in keys]
    return Sample(file, "jsonl", columns, _count(connection), is_whole, nested=nested)


def _delimited(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    local: Path,
    is_whole: bool,
    encoding: Literal["utf-8", "latin-1"],
) -> Sample:
    with local.open(encoding="utf-8-sig", newline="") as handle:
        lines = [line.rstrip("\r\n") for line in itertools.islice(handle, LOOKED_AT)]
    lines = [line for line in lines if line]
    delimiter, quote, width = _shape(lines)
    first = next(split_delimited(lines[:1], delimiter, quote))
    header = _is_header(first)
    columns = [cell.strip() for cell in first] if header else [f"c{n}" for n in range(1, width + 1)]
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE sample AS SELECT * FROM read_csv(?, auto_detect = false, "
        "delim = ?, quote = ?, escape = ?, header = ?, columns = ?, ignore_errors = true)",
        [str(local), delimiter, quote, quote, header, dict.fromkeys(columns, "VARCHAR")],
    )
    layout = Csv(delimiter=delimiter, header=header, quote=quote, encoding=encoding)
    return Sample(file, "csv", columns, _count(connection), is_whole, layout)


def _shape(lines: list[str]) -> tuple[str, str, int]:
    """The delimiter and quote with which the lines have the most, and equally many, fields.

    Text that nothing parts is one column: the delimiter is then a tab, which it does not hold.
    """
    best = ("\t", "", 1)
    for quote, delimiter in itertools.product(('"', ""), DELIMITERS):
        if delimiter == " " and best[2] > 1:
            continue
        widths = Counter(map(len, split_delimited(lines, delimiter, quote)))
        width, agreeing = widths.most_common(1)[0]
        # A quote may run over lines; without quotes in the text both ways are the same.
        if agreeing >= 0.95 * sum(widths.values()) and width > best[2]:
            best = (delimiter, quote, width)
    return best


def _is_header(cells: list[str]) -> bool:
    """Whether a first line names columns: words, all different, none a number or date."""
    words = [cell.strip() for cell in cells]
    named = all(re.match(r"^[^\W\d][\w .:/()#-]*$", word) for word in words)
    values = any(re.search(r"\d{4}-\d\d-\d\d|::", word) for word in words)
    return named and not values and len(set(words)) == len(words) and (len(words) > 1)


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    return connection.execute("SELECT count(*) FROM sample").fetchall()[0][0]
