"""Source files -> typed rows in DuckDB, each with its file, its line, and why it is refused.

In:  files of one format (formats/) and the columns declared for them.
Out: chunk by chunk, the temporary table `rows_read`: `__file` (the file's number), `__line` (from
     1, headers and blank lines counted), `__raw` (the row as it was read), `__problem` (why it
     cannot be read, or null), and the declared columns in their declared types.

A row is refused, never repaired: text that is not UTF-8, a wrong number of columns, an open quote,
something else than a JSON object, a value that does not fit its declared type. Blank lines are not
rows. An empty CSV field is null, and so is an empty text where a number or date is declared. A
quoted CSV field may span lines.

A file that breaks its contract as a whole is named in `faults` and leaves the others alone. Many
small files travel in one chunk, a large one in many, cut by bytes and by rows: memory is bounded,
and the cost of a query is shared. Lines are found by numpy and handed to DuckDB as one Arrow array
over the file's own bytes.
"""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from contracts.base.batches import chunks
from contracts.base.errors import FootpathError
from contracts.base.hashing import Hasher
from contracts.base.sql import name
from contracts.config.source import FileTable
from contracts.lake.layout import spill_folder
from features.expressions import column_types
from features.ingestion.archives import Archives
from features.ingestion.decompress import BLOCK
from features.ingestion.formats import format_of
from features.ingestion.formats.base import UTF8_MARK, Format, Layout, listed
from features.ingestion.streams import Prefetch, SourceFile, path_on_disk, read_blocks

ROWS = "rows_read"

# Decompressed bytes that make a chunk, rows that do, and the longest a single row may be.
CHUNK = 32 << 20
CHUNK_ROWS = 1_000_000
LONGEST_ROW = 32 << 20

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


@dataclass(frozen=True)
class Records:
    """Whole records of one text file, the last one ending with a line end."""

    file: int
    first_line: int
    data: bytes
    layout: Layout
    rows: int

    @property
    def weight(self) -> int:
        """What it takes of a chunk, as bytes: of very short rows, their number counts."""
        return max(len(self.data), self.rows * CHUNK // CHUNK_ROWS)


class RowReader:
    """Reads files of one format into `rows_read`, a chunk at a time.

    Args:
      connection: DuckDB; its table `rows_read` is replaced by every chunk.
      table: format and declared columns.
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
        self.format = format_of(table)
        self.files = files
        self.sample_bytes = sample_bytes
        self.archives = archives or Archives()
        # In the order in which they lie, so that an archive is read once.
        self._in_place = sorted(enumerate(files), key=lambda pair: pair[1].place)
        # Of a sample, not all that was announced is asked for.
        self._prefetch = Prefetch([] if sample_bytes else [file for _, file in self._in_place])
        self.types = column_types(connection, table.columns)
        self.faults: dict[int, str] = {}
        self.digests: dict[int, str] = {}
        self.facts = {number: FileFacts() for number in range(len(files))}

    def chunks(self) -> Iterator[None]:
        """Fills `rows_read` with the next rows, each time it is resumed; then judges the files."""
        for _ in self._text_chunks() if self.format.is_text else self._file_chunks():
            self._note_facts()
            yield
        for number in self.facts.keys() - self.faults.keys():
            if fault := self._fault_of(number):
                self.faults[number] = f"{self.files[number].path}: {fault}"

    def _create(self, select: str) -> None:
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {ROWS} AS {select}")

    def _text_chunks(self) -> Iterator[None]:
        """Reads records, those of many files of one layout at a time."""
        for layout, found in itertools.groupby(self._all_records(), key=lambda part: part.layout):
            for batch in chunks(((part, part.weight) for part in found), CHUNK):
                self.connection.register("lines_read", lines_of(batch, self.format))
                self._create(layout.select("lines_read", self.types))
                self.connection.unregister("lines_read")
                yield

    def _file_chunks(self) -> Iterator[None]:
        """Reads the files of a format that DuckDB reads itself, one at a time."""
        for number, file in self._in_place:
            digest = Hasher()
            try:
                with tempfile.TemporaryDirectory(dir=spill_folder()) as folder:
                    path = path_on_disk(
                        file,
                        Path(folder),
                        digest,
                        self.archives,
                        self._prefetch,
                        self.table.max_bytes,
                    )
                    self.digests[number] = digest.hexdigest()
                    is_sample = bool(self.sample_bytes)
                    for select in self.format.selects_of_file(
                        self.connection, path, file.path, number, self.types, is_sample
                    ):
                        self._create(select)
                        yield
            except FootpathError as error:
                self.faults[number] = str(error)
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                self.faults[number] = f"{file.path} is damaged ({reason}): ask for it again"

    def _all_records(self) -> Iterator[Records]:
        for number, file in self._in_place:
            try:
                yield from self._records_of(number, file)
            except FootpathError as error:
                self.faults[number] = str(error)

    def _records_of(self, number: int, file: SourceFile) -> Iterator[Records]:
        """Yields a file's records, below its header, many at a time."""
        digest = Hasher()
        layout: Layout | None = None
        line = 1
        for data in self._cut_at_records(file, digest):
            if layout is None:
                if line == 1:
                    self.format.sniff(data, file.path)
                    data = data.removeprefix(UTF8_MARK)
                before = self.format.preamble(data, line, file.path)
                line += data.count(b"\n", 0, before)
                data = data[before:]
                if not data:
                    continue
                header = self.format.header(data)
                layout = self.format.layout(header or None, file.path)
                line += header.count(b"\n")
                data = data[len(header) :]
            rows = data.count(b"\n")
            if data:
                yield Records(number, line, data, layout, rows)
            line += rows
        self.digests[number] = digest.hexdigest()

    def _cut_at_records(self, file: SourceFile, digest: Hasher) -> Iterator[bytes]:
        """Yields a file's text in UTF-8, cut at ends of records and ending with a line end."""
        chunk, decode = self.sample_bytes or CHUNK, self.format.decoder(file.path)
        parts: list[bytes] = []
        size, rows, enough = 0, 0, chunk
        for block in self._blocks(file, digest):
            parts.append(decode(block, False))
            size += len(parts[-1])
            rows += parts[-1].count(b"\n")
            if size < enough and rows < CHUNK_ROWS:
                continue
            data = b"".join(parts)
            end = self.format.end_of_records(data)
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
            size, rows = len(parts[0]), parts[0].count(b"\n")
            enough = max(chunk, min(2 * size, LONGEST_ROW + 1))
        if data := b"".join([*parts, decode(b"", True)]):
            yield data if self.format.ends_record(data) else data + b"\n"

    def _blocks(self, file: SourceFile, digest: Hasher) -> Iterator[bytes]:
        """Yields a file's bytes in blocks that are small, whatever they were compressed to."""
        most, size = self.table.max_bytes, min(BLOCK, self.sample_bytes or BLOCK)
        for block in read_blocks(file, digest, self.archives, self._prefetch, most):
            for place in range(0, len(block), size):
                yield block[place : place + size]

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
        if self.format.keys:
            self._note_keys([number for number, *_ in found])

    def _note_keys(self, numbers: list[int]) -> None:
        """Looks at the keys of the files in which a declared column is empty so far."""
        columns = set(self.table.columns)
        doubtful = [n for n in numbers if self.facts[n].readable and self.facts[n].seen != columns]
        if not doubtful:
            return
        found = self.connection.execute(
            "SELECT __file, list(DISTINCT key) FROM ("
            f"SELECT __file, unnest({self.format.keys}) AS key FROM {ROWS} "
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
                f"the YAML declares {', '.join(names)}): fix columns or csv in the YAML"
            )
        if facts.rows >= ENOUGH_TO_JUDGE and not facts.readable:
            return (
                f"none of its {facts.rows:,} rows can be read as {self.table.format} with the "
                f"declared columns ({facts.first_problem}): fix the YAML or ask for the file again"
            )
        missing = [c for c in names if c not in facts.seen and c not in self.table.optional]
        # Without undeclared keys the source just leaves its nulls out.
        if facts.readable and missing and facts.undeclared:
            return (
                f"no row has {listed(missing)}, which the YAML declares, and rows have "
                f"{listed(sorted(facts.undeclared))}, which it does not: was a column renamed?"
            )
        return None


def lines_of(parts: list[Records], format: Format) -> pa.Table:
    """Joins records of several files to one Arrow table over their bytes, without copying a line.

    Args:
      parts: at most 2 GB in all.
      format: marks the lines on which a record starts.

    Returns:
      `__file`, `__line`, `__bytes` and `__text`, one row a record, line ends included; `__text` is
      null throughout if a record is not UTF-8, and then has to be found out record by record.
    """
    data = parts[0].data if len(parts) == 1 else b"".join(part.data for part in parts)
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    starts = np.concatenate([[0], ends[:-1]])
    part_ends = np.cumsum([len(part.data) for part in parts])
    owner = np.searchsorted(part_ends, starts, side="right")
    before = np.searchsorted(starts, part_ends - [len(part.data) for part in parts])
    line = np.arange(len(starts)) - before[owner]
    line += np.array([part.first_line for part in parts])[owner]
    is_start = format.record_starts(data, starts, ends, owner)
    if is_start is not None:
        starts, owner, line = starts[is_start], owner[is_start], line[is_start]
    offsets = np.append(starts, len(data)).astype(np.int32)
    records = pa.BinaryArray.from_buffers(
        pa.binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    try:
        texts = records.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.nulls(len(records), pa.string())
    file = np.array([part.file for part in parts], np.int32)[owner]
    return pa.table({"__file": file, "__line": line, "__bytes": records, "__text": texts})
