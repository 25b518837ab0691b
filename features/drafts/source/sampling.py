"""A sample of a file that nobody has described, read as landing will read it.

In:  one file of a source: delimited text, JSON or Parquet, plain, compressed, or in an archive.
Out: its layout, and the table `sample`: top-level columns as text, nested ones as JSON.

The reader of landing files must be told format, delimiter, header and columns. They are found out
from the beginning of the file; then that reader itself gives the rows, so that a draft and a run
cannot disagree on what a row is.
"""

import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path

import duckdb

from contracts.base.errors import FootpathError
from contracts.base.sql import literal, name, names, parquet
from contracts.config.source import RESERVED, FileTable
from features.drafts.source.dialects import LOOKED_AT, dialect_of
from features.drafts.source.encodings import encoding_of
from features.ingestion.archives import members
from features.ingestion.archives.member import TAR, ZIP
from features.ingestion.formats.base import NESTED
from features.ingestion.listing import find_files
from features.ingestion.reader import CHUNK_ROWS, ROWS, RowReader
from features.ingestion.streams import SourceFile, path_on_disk, read_blocks

# Decompressed bytes that are looked at.
SAMPLE_BYTES = 16 << 20

# Columns that are looked at, besides those whose names tell something.
MOST_COLUMNS = 300
_TELLING = re.compile(
    "user|customer|visitor|item|product|sku|event|action|time|date|price|_id$", re.I
)

# First bytes of files that are no table, and what to do.
_FOREIGN = {
    b"Obj\x01": "Avro: write it as Parquet or JSON lines",
    b"ORC": "ORC: write it as Parquet",
    b"SQLite format 3\0": "a SQLite database: export its table as CSV",
    b"%PDF": "a PDF: get the data behind it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
}


@dataclass(frozen=True)
class Sample:
    """What a file looks like. Its rows are in the table `sample`."""

    file: SourceFile
    table: FileTable  # how it is read; every column is text or JSON
    rows: int  # seen, those that cannot be read among them
    is_whole: bool  # false: the file goes on
    left_out: dict[str, str] = field(default_factory=dict)  # column -> why it cannot be declared
    doubts: list[str] = field(default_factory=list)
    many: list[str] = field(default_factory=list)  # columns beyond those that are looked at

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the table `sample`."""
        return list(self.table.columns)


def find_file(address: str) -> SourceFile:
    """Finds the file that is meant; of an archive, the first of its members.

    Raises:
      FootpathError: there is no such file, or an archive has no file.
    """
    absolute = address if "://" in address else str(Path(address).absolute())
    if "://" not in absolute and Path(absolute).is_dir():
        raise FootpathError(f"{address} is a folder: init takes one file of your events")
    found = find_files("", escape(absolute))
    if not found:
        raise FootpathError(f"{address} is not there: init takes one file of your events")
    file = found[0]
    if file.path.lower().endswith((*TAR, ZIP)):
        inside = members(file.path, file.url, file.stamp)
        if not inside:
            raise FootpathError(f"{address} is an archive without a file in it")
        file = find_files("", f"{escape(absolute)}/{escape(inside[0].name)}")[0]
    return file


def take_sample(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, most: int = SAMPLE_BYTES
) -> Sample:
    """Makes the table `sample` from the beginning of a file.

    Args:
      connection: DuckDB.
      file: which.
      most: bytes that are looked at, decompressed.

    Raises:
      FootpathError: the file is empty, cannot be read, or is no table.
    """
    data, is_whole = _beginning(file, most)
    if not data.strip():
        raise FootpathError(f"{file.path} is empty: init needs a file with rows")
    for mark, kind in _FOREIGN.items():
        if data.startswith(mark):
            raise FootpathError(f"{file.path} is {kind}")
    if data.startswith(b"PAR1"):
        sample = _parquet(connection, file, most)
    else:
        found = encoding_of(data)
        text = data.decode(found.name, errors="replace").removeprefix("\ufeff")
        if text.lstrip()[:1] in ("{", "["):
            if found.name != "utf-8":
                raise FootpathError(
                    f"{file.path} is JSON in {found.name}: convert it with "
                    f"`iconv -f {found.name} -t UTF-8`"
                )
            sample = _json(connection, file, text, 0 if is_whole else most)
        else:
            sample = _delimited(connection, file, text, 0 if is_whole else most, found.name)
        if found.doubt:
            # Broken lines are told once.
            rest = [doubt for doubt in sample.doubts if "not UTF-8" not in doubt]
            sample = replace(sample, doubts=[found.doubt, *rest])
    return sample


def _beginning(file: SourceFile, most: int) -> tuple[bytes, bool]:
    """The first bytes of a file, and whether they are all of it."""
    parts: list[bytes] = []
    size = lines = 0
    for block in read_blocks(file):
        parts.append(block)
        size += len(block)
        lines += block.count(b"\n")
        if size >= most or lines >= CHUNK_ROWS:
            return b"".join(parts), False
    return b"".join(parts), True


def read_rows(
    connection: duckdb.DuckDBPyConnection, table: FileTable, file: SourceFile, limit: int
) -> tuple[int, str]:
    """Makes the table `sample` of the rows that landing can read.

    Args:
      connection: DuckDB.
      table: how the file is read.
      file: which.
      limit: bytes that are looked at; 0 for all.

    Returns:
      How many rows there are in all, and a sentence on those that cannot be read.

    Raises:
      FootpathError: the file cannot be read with this layout.
    """
    columns = names(table.columns)
    reader = RowReader(connection, table, [file], limit)
    rows, bad, first = 0, 0, ""
    created = False
    for _ in reader.chunks():
        insert = "INSERT INTO sample" if created else "CREATE OR REPLACE TEMP TABLE sample AS"
        connection.execute(f"{insert} SELECT __line, {columns} FROM {ROWS} WHERE __problem IS NULL")
        created = True
        total, broken, problem = connection.sql(
            "SELECT count(*), count(__problem), min_by('line ' || __line || ': ' || __problem, "
            f"__line) FILTER (__problem IS NOT NULL) FROM {ROWS}"
        ).fetchall()[0]
        rows, bad, first = rows + total, bad + broken, first or problem or ""
    if rows > bad:
        told = f"{bad:,} of {rows:,} rows cannot be read and are refused ({first})"
        return rows, told if bad else ""
    if reader.faults:
        raise FootpathError(reader.faults[0])
    if rows:
        raise FootpathError(f"none of {rows:,} rows of {file.path} can be read ({first})")
    raise FootpathError(f"{file.path} has a header and no rows: init needs some")


def _parquet(connection: duckdb.DuckDBPyConnection, file: SourceFile, most: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="footpath-") as folder:
        path = path_on_disk(file, Path(folder))
        try:
            relation = connection.sql(f"FROM {parquet(literal(path))}")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise FootpathError(f"{file.path} is damaged ({reason}): ask for it again") from None
        kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
        total = (relation.count("*").fetchall() or [(0,)])[0][0]
    read_as = {c: "JSON" if NESTED.search(kind) else "VARCHAR" for c, kind in kinds.items()}
    columns, left_out = _declared(read_as, list(read_as), is_exact=False)
    table = FileTable(url="x", format="parquet", columns=columns)
    is_small = file.size <= most
    rows, doubt = read_rows(connection, table, file, 0 if is_small else most)
    return Sample(file, table, rows, rows == total, left_out, [doubt] if doubt else [])


def _json(connection: duckdb.DuckDBPyConnection, file: SourceFile, text: str, limit: int) -> Sample:
    _refuse_odd_json(text, file.path)
    # One key is enough to read rows, and their other keys with them.
    key = _first_key(text)
    probe = FileTable(url="x", format="jsonl", columns={key: "VARCHAR"}, optional=[key])
    reader = RowReader(connection, probe, [file], limit)
    found: dict[str, bool] = {}
    times: Counter[str] = Counter()
    for _ in reader.chunks():
        keys = connection.sql(
            "SELECT key, min(place), bool_or(json_type(__raw, '/' || "
            "replace(replace(key, '~', '~0'), '/', '~1')) IN ('OBJECT', 'ARRAY')), count(*) FROM ("
            "SELECT __raw, unnest(json_keys(__raw)) AS key, "
            "unnest(range(len(json_keys(__raw)))) AS place "
            f"FROM {ROWS} WHERE __problem IS NULL) GROUP BY key ORDER BY 2, 1"
        ).fetchall()
        found.update({key: nested or found.get(key, False) for key, _, nested, _ in keys})
        times.update({key: count for key, _, _, count in keys})
    if not found:
        if reader.faults:
            raise FootpathError(reader.faults[0])
        raise FootpathError(f"{file.path} begins like JSON lines, and no line is a JSON object")
    kinds = {key: "JSON" if found[key] else "VARCHAR" for key, _ in times.most_common()}
    columns, left_out = _declared(kinds, list(kinds))
    columns = {key: columns[key] for key in found if key in columns}
    table = FileTable(url="x", format="jsonl", columns=columns, optional=list(columns))
    rows, doubt = read_rows(connection, table, file, limit)
    counts = connection.sql(
        f"SELECT count(*), {', '.join(f'count({name(c)})' for c in columns)} FROM sample"
    ).fetchall()[0]
    sparse = [c for c, count in zip(columns, counts[1:], strict=True) if count < counts[0]]
    table = table.model_copy(update={"optional": sparse})
    return Sample(file, table, rows, not limit, left_out, [doubt] if doubt else [])


def _refuse_odd_json(text: str, path: str) -> None:
    """Refuses JSON that is no objects.

    Raises:
      FootpathError: lines are arrays, or one object holds all records.
    """
    lines = [line for line in itertools.islice(_lines(text), 20) if line.strip()]
    parsed = [_parsed(line) for line in lines]
    if len(parsed) > 1 and all(isinstance(value, list) for value in parsed):
        raise FootpathError(
            f"{path} has a JSON array a line, which gives no names: write one object a line "
            "(jq -c '{id: .[0], user: .[1]}' does it)"
        )


def _first_key(text: str) -> str:
    """A key of the first object that can be declared; a made-up one without any."""
    try:
        first, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):
        first = {}
    return next((key for key in first if key.strip() and not RESERVED.fullmatch(key)), "?")


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _lines(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        yield text[place:end].rstrip("\r")
        place = end + 1


def _delimited(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    text: str,
    limit: int,
    encoding: str,
) -> Sample:
    # With a line more, in case the last one is cut.
    lines = list(itertools.islice(_lines(text), LOOKED_AT + 1))
    if len(lines) > LOOKED_AT or limit:
        lines = lines[:-1] or lines
    with tempfile.TemporaryDirectory(prefix="footpath-") as scratch:
        dialect = dialect_of(connection, lines, encoding, Path(scratch), file.path)
    kinds = dict.fromkeys(dialect.names, "VARCHAR")
    left_out: dict[str, str] = {}
    many: list[str] = []
    if dialect.csv.header:
        kinds, left_out = _declared(kinds, dialect.names)
        kept = [c for n, c in enumerate(kinds) if n < MOST_COLUMNS or _TELLING.search(c)]
        kept = kept[: 2 * MOST_COLUMNS]
        many = [c for c in kinds if c not in set(kept)]
        kinds = dict.fromkeys(kept, "VARCHAR")
    table = FileTable(url="x", format="csv", csv=dialect.csv, columns=kinds)
    rows, doubt = read_rows(connection, table, file, limit)
    table = _with_json(connection, table)
    doubts = [*dialect.doubts, *([doubt] if doubt else [])]
    return Sample(file, table, rows, not limit, left_out, doubts, many)


def _with_json(connection: duckdb.DuckDBPyConnection, table: FileTable) -> FileTable:
    """Declares columns as JSON whose text is an object or array throughout."""
    tests = ", ".join(
        f"count({c}) > 0 AND bool_and({c} IS NULL OR CASE WHEN {c}[1] IN ('{{', '[') "
        f"THEN json_valid({c}) ELSE false END)"
        for c in map(name, table.columns)
    )
    found = connection.sql(f"SELECT {tests} FROM sample").fetchall()[0]
    kinds = {
        c: "JSON" if is_json else kind
        for (c, kind), is_json in zip(table.columns.items(), found, strict=True)
    }
    for column, kind in kinds.items():
        if kind == "JSON":
            connection.execute(f"ALTER TABLE sample ALTER {name(column)} TYPE JSON")
    return table.model_copy(update={"columns": kinds})


def _declared(
    kinds: dict[str, str], header: list[str], is_exact: bool = True
) -> tuple[dict[str, str], dict[str, str]]:
    """Parts columns into those that can be declared and, with the reason, those that cannot.

    Args:
      kinds: column -> type; of names that differ in the size of letters, the first is declared.
      header: all names, as often as they are there.
      is_exact: whether the format tells names apart that differ in the size of letters.
    """
    times = Counter(column if is_exact else column.lower() for column in header)
    declared, left_out, known = {}, {}, set()
    for column, kind in kinds.items():
        if not column.strip():
            left_out[column] = "has no name"
        elif RESERVED.fullmatch(column):
            left_out[column] = "has a name that reading itself uses"
        elif times[column if is_exact else column.lower()] > 1:
            left_out[column] = "is there twice"
        elif column.lower() in known:
            left_out[column] = "is another column in small letters"
        else:
            declared[column] = kind
            known.add(column.lower())
    if not declared:
        raise FootpathError("no column has a name of its own: init needs columns with names")
    return declared, left_out
