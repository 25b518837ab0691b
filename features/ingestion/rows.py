"""Source files -> typed rows in DuckDB, each with its file, its line, and what is wrong with it.

In:  files of one layout (JSON lines, delimited text or Parquet) and the columns declared for them.
Out: chunk by chunk, the temporary table `rows_read`: `__file` (the file's number), `__line` (from
     1, headers and blank lines counted), `__raw` (the row as it was read), `__problem` (why it
     cannot be read, or null), and the declared columns in their declared types.

A row is refused, never repaired: text that is not UTF-8, a wrong number of columns, an open quote,
something else than a JSON object, a value that does not fit its declared type. Blank lines are not
rows. An empty CSV field is null, and so is an empty text where a number or date is declared. A
quoted CSV field may span lines.

A file that breaks its contract as a whole is named in `faults` and leaves the others alone. Many
small files travel in one chunk, a large one in many: memory is bounded, and the cost of a query is
shared. Lines are found by numpy and handed to DuckDB as one Arrow array over the file's own bytes.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import duckdb

from contracts.base.errors import FootpathError
from contracts.base.hashing import Hasher
from contracts.base.sql import name
from contracts.config.source import FileTable
from features.ingestion.ahead import SmallFiles
from features.ingestion.archives import Archives
from features.ingestion.beginnings import check_beginning
from features.ingestion.files import SourceFile, read_blocks
from features.ingestion.layout import (
    CsvLayout,
    JsonLayout,
    ParquetLayout,
    csv_layout,
    parquet_layout,
)
from features.ingestion.lines import Piece, end_of_records, lines_of
from features.sql import column_types

ROWS = "rows_read"

# Decompressed bytes that make a chunk, and the longest a single row may be.
CHUNK = 32 << 20
LONGEST_ROW = 128 << 20

# With fewer rows than this, that none of them can be used may be bad luck, not a broken file.
ENOUGH_TO_JUDGE = 20


@dataclass
class FileFacts:
    """What is known of a file's rows so far."""

    rows: int = 0
    readable: int = 0
    misfit_widths: int = 0  # rows with a wrong number of columns
    width: int = 0  # the number of columns in one of them
    first_problem: str = ""
    seen: set[str] = field(default_factory=set)  # declared columns that some row has
    undeclared: set[str] = field(default_factory=set)  # other keys, noted only if one is missing


class RowReader:
    """Reads files of one layout into `rows_read`, a chunk at a time.

    Args:
      connection: DuckDB; its table `rows_read` is replaced by every chunk.
      table: layout and declared columns.
      files: what to read; a file's number is its place here.
      sample_bytes: stop each file after about so many bytes (decompressed); 0 reads all.
      archives: keeps an archive open from one reader to the next.

    Attributes:
      faults: a sentence for each file that cannot be used; none of its rows may be.
      digests: hash of each file's bytes as they lie there.
      facts: what was found in each file.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: FileTable,
        files: Sequence[SourceFile],
        sample_bytes: int = 0,
        archives: Archives | None = None,
    ) -> None:
        self.connection = connection
        self.table = table
        self.files = files
        self.sample_bytes = sample_bytes
        self.archives = archives or Archives()
        # Of a sample, not all that was announced is asked for.
        self._ahead = SmallFiles([] if sample_bytes else [f for _, f in self._in_place()])
        self.types = column_types(connection, table.columns)
        self.faults: dict[int, str] = {}
        self.digests: dict[int, str] = {}
        self.facts = {number: FileFacts() for number in range(len(files))}

    def _in_place(self) -> list[tuple[int, SourceFile]]:
        """Returns the files with their numbers, so that an archive is read once."""
        return sorted(enumerate(self.files), key=lambda pair: pair[1].place)

    def chunks(self) -> Iterator[None]:
        """Fills `rows_read` with the next rows, each time it is resumed; then judges the files."""
        reading = self._parquet_chunks if self.table.format == "parquet" else self._text_chunks
        for _ in reading():
            self._note_facts()
            yield
        for number in self.facts.keys() - self.faults.keys():
            if fault := self._fault_of(number):
                self.faults[number] = f"{self.files[number].path}: {fault}"

    def _text_chunks(self) -> Iterator[None]:
        """Joins pieces of files of one layout until they are a chunk."""
        batch: list[Piece] = []
        size = 0
        for piece in self._pieces():
            if batch and (size + len(piece.data) > CHUNK or piece.layout != batch[0].layout):
                yield self._read_text(batch)
                batch, size = [], 0
            batch.append(piece)
            size += len(piece.data)
        if batch:
            yield self._read_text(batch)

    def _read_text(self, batch: list[Piece]) -> None:
        csv = self.table.csv if self.table.format == "csv" else None
        self.connection.register("lines_read", lines_of(batch, csv))
        self._create(batch[0].layout.select("lines_read", self.types))
        self.connection.unregister("lines_read")

    def _parquet_chunks(self) -> Iterator[None]:
        for number, file in self._in_place():
            try:
                with self._parquet_layout(file) as layout:
                    self._create(layout.select(number, self.types, bool(self.sample_bytes)))
                    self.digests[number] = layout.digest
            except FootpathError as error:
                self.faults[number] = str(error)
                continue
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                self.faults[number] = f"{file.path} is damaged ({reason}): ask for it again"
                continue
            yield

    def _parquet_layout(self, file: SourceFile) -> AbstractContextManager[ParquetLayout]:
        return parquet_layout(self.connection, file, self.table, self.archives, self._ahead)

    def _create(self, select: str) -> None:
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {ROWS} AS {select}")

    def _pieces(self) -> Iterator[Piece]:
        for number, file in self._in_place():
            try:
                yield from self._pieces_of(number, file)
            except FootpathError as error:
                self.faults[number] = str(error)

    def _pieces_of(self, number: int, file: SourceFile) -> Iterator[Piece]:
        """Yields a file's bytes in pieces of whole records, below its header."""
        digest = Hasher()
        layout: CsvLayout | JsonLayout | None = None
        line = 1
        for data in self._records(file, digest):
            if layout is None:
                check_beginning(self.table, data, file.path)
                layout, skipped = self._layout(file, data)
                data = data[skipped:]
                line += bool(skipped and self._has_header)
            if data:
                yield Piece(number, line, data, layout)
            line += data.count(b"\n")
        self.digests[number] = digest.hexdigest()

    @property
    def _has_header(self) -> bool:
        return self.table.format == "csv" and self.table.csv.header

    def _layout(self, file: SourceFile, data: bytes) -> tuple[CsvLayout | JsonLayout, int]:
        """Returns a file's layout, and how many bytes at its start are no rows."""
        mark = len(b"\xef\xbb\xbf") if data.startswith(b"\xef\xbb\xbf") else 0
        if self.table.format == "jsonl":
            return JsonLayout(), mark
        if not self.table.csv.header:
            return csv_layout(self.table, None, file.path), mark
        end = data.index(b"\n") + 1
        return csv_layout(self.table, data[mark:end], file.path), end

    def _records(self, file: SourceFile, digest: Hasher) -> Iterator[bytes]:
        """Yields a file's text in UTF-8, cut at ends of records; every piece ends with a line end.

        Text that claims to be UTF-8 is passed on as it is: wrong bytes are found line by line.
        """
        csv = self.table.csv if self.table.format == "csv" else None
        chunk = self.sample_bytes or CHUNK
        parts: list[bytes] = []
        size, enough = 0, chunk
        for block in read_blocks(file, digest, self.archives, self._ahead):
            parts.append(_to_utf8(block) if csv and csv.encoding == "latin-1" else block)
            size += len(parts[-1])
            if size < enough:
                continue
            data = b"".join(parts)
            end = end_of_records(data, csv)
            if not end and len(data) > LONGEST_ROW:
                raise FootpathError(
                    f"{file.path} has {LONGEST_ROW >> 20} MB without a line end: "
                    f"is it {self.table.format}?"
                )
            if end:
                yield data[:end]
            if end and self.sample_bytes:
                return
            parts = [data[end:]]
            # A row longer than a chunk is not looked through again for every block of it.
            size = len(parts[0])
            enough = max(chunk, min(2 * size, LONGEST_ROW + 1))
        if data := b"".join(parts):
            yield data if data.endswith(b"\n") else data + b"\n"

    def _note_facts(self) -> None:
        """Adds the chunk's counts to those of its files."""
        names = list(self.table.columns)
        filled = "".join(f", count({name(column)})" for column in names)
        found = self.connection.execute(
            "SELECT __file, count(*), count(*) FILTER (__problem IS NULL), count(__width), "
            "any_value(__width), min_by('line ' || __line || ': ' || __problem, __line) "
            f"FILTER (__problem IS NOT NULL){filled} FROM {ROWS} GROUP BY __file"
        ).fetchall()
        for number, rows, readable, misfits, width, problem, *counts in found:
            facts = self.facts[number]
            facts.rows += rows
            facts.readable += readable
            facts.misfit_widths += misfits
            facts.width = facts.width or width or 0
            facts.first_problem = facts.first_problem or problem or ""
            facts.seen.update(itertools.compress(names, counts))
        if self.table.format == "jsonl":
            self._note_keys([number for number, *_ in found])

    def _note_keys(self, numbers: list[int]) -> None:
        """Looks at the keys of the JSON files in which a declared column is empty so far."""
        columns = set(self.table.columns)
        doubtful = [n for n in numbers if self.facts[n].readable and self.facts[n].seen != columns]
        if not doubtful:
            return
        found = self.connection.execute(
            "SELECT __file, list(DISTINCT key) FROM ("
            f"SELECT __file, unnest(json_keys(__raw)) AS key FROM {ROWS} "
            "WHERE __problem IS NULL AND list_contains(?, __file)) GROUP BY __file",
            [doubtful],
        ).fetchall()
        for number, keys in found:
            self.facts[number].seen |= columns.intersection(keys)
            self.facts[number].undeclared |= set(keys) - columns

    def _fault_of(self, number: int) -> str | None:
        """Judges a file as a whole."""
        facts = self.facts[number]
        names = list(self.table.columns)
        if facts.rows and facts.misfit_widths == facts.rows:
            return (
                f"every row has another number of columns than expected (one has {facts.width}; "
                f"the YAML declares {', '.join(names)}): mend columns or csv in the YAML"
            )
        if facts.rows >= ENOUGH_TO_JUDGE and not facts.readable:
            return (
                f"none of its {facts.rows:,} rows can be read as {self.table.format} with the "
                f"declared columns ({facts.first_problem}): mend the YAML or ask for the file again"
            )
        missing = [c for c in names if c not in facts.seen and c not in self.table.optional]
        # Without undeclared keys the source just leaves its nulls out.
        if self.table.format == "jsonl" and facts.readable and missing and facts.undeclared:
            return (
                f"no row has {_list(missing)}, which the YAML declares, and rows have "
                f"{_list(sorted(facts.undeclared))}, which it does not: was a column renamed?"
            )
        return None


def _to_utf8(block: bytes) -> bytes:
    return block.decode("latin-1").encode()


def _list(names: list[str]) -> str:
    shown = ", ".join(f"'{column}'" for column in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
