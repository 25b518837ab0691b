"""What a published day was built from, stored in the day's own object.

In:  the fragments of a day of events, or the published days that a derived day is computed from;
of a day of features also what each of them means (features/behavior/meanings.py). Out: inputs
(table -> name -> fingerprint), which `write_days` puts into the Parquet footer. As they lie in the
object itself, they become visible in the same step as its rows: whatever is killed, no object ever
names other inputs than its own.

A day's fingerprint is the hash of its inputs, so that of a session day changes when a fragment two
days before it does. Fingerprints follow the data: a changed YAML changes them where it makes
landing read files anew or a feature mean something else, and nowhere else. A fragment's is the
digest of its rows: a landing file that has changed is read again, and most of its days are often
what they were.
"""

import datetime as dt
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from contracts.base.hashing import hash_json
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata
from contracts.lake.schemas import BUILT_FROM, TIMESTAMP

# table -> name of an input (a day; of fragments and lines, the landing file's id; of features, the
# column) -> its fingerprint
Inputs = dict[str, dict[str, str]]

# day -> table -> days of that table that the day is computed from
Needs = Mapping[dt.date, Mapping[str, list[dt.date]]]

# The inputs of an object that does not name them.
UNKNOWN: Inputs = {"unknown": {}}

# Beside the rows of fragments: where in their files they stand.
LINES = "lines"

_LINE = "source_line"
_blake: Callable = partial(hashlib.blake2b, digest_size=8)
_zeros = partial(np.zeros, dtype=np.uint8)


class Digest(NamedTuple):
    """Of a fragment: a hash of its rows, and one of the lines in which they stand.

    A row that comes in moves the lines of all that follow; these count only where a person is to
    find a row by its line, in quarantine.
    """

    content: str
    lines: str


class Digester:
    """Digests the rows of a fragment in order, however they are cut into batches.

    Each buffer of each column is a stream of its own.
    """

    def __init__(self) -> None:
        self._streams: dict[str, hashlib.blake2b] = defaultdict(_blake)

    def add(self, rows: pa.Table) -> None:
        """Adds rows; all have the same columns."""
        for name in rows.column_names:
            for chunk in rows[name].chunks:
                self._feed(name, chunk)

    def digest(self) -> Digest:
        """Digest of the rows so far."""
        content = _blake()
        for path, stream in sorted(self._streams.items()):
            if not path.startswith(_LINE):
                content.update(f"{path} {stream.hexdigest()} ".encode())
        return Digest(content.hexdigest(), self._streams[f"{_LINE} values"].hexdigest())

    def _feed(self, path: str, values: pa.Array) -> None:
        # Fragments are many and small: without nulls, nothing is asked of PyArrow that copies.
        has_nulls = values.null_count > 0
        nulls = values.is_null().cast(pa.uint8()).to_numpy() if has_nulls else _zeros(len(values))
        self._update(f"{path} nulls", nulls)
        if pat.is_map(values.type):
            ends = values.offsets.to_numpy()
            self._update(f"{path} lengths", ends[1:] - ends[:-1])
            for part, child in (("keys", values.keys), ("items", values.items)):
                self._feed(f"{path} {part}", child.slice(ends[0], ends[-1] - ends[0]))
        elif pat.is_string(values.type):
            text = values.fill_null("") if has_nulls else values
            ends = np.frombuffer(text.buffers()[1], np.int32)[text.offset :][: len(text) + 1]
            self._update(f"{path} lengths", ends[1:] - ends[:-1])
            if ends[-1] > ends[0]:
                self._streams[f"{path} values"].update(text.buffers()[2][ends[0] : ends[-1]])
        else:
            numbers = values.view(pa.int64()) if values.type == TIMESTAMP else values
            numbers = numbers.fill_null(0) if has_nulls else numbers
            self._update(f"{path} values", numbers.to_numpy())

    def _update(self, path: str, values: np.ndarray) -> None:
        self._streams[path].update(np.ascontiguousarray(values).data)


def digest_of(rows: pa.Table) -> Digest:
    """Digest of the rows of one fragment."""
    digester = Digester()
    digester.add(rows)
    return digester.digest()


def digest_inputs(digests: Mapping[str, Digest]) -> Inputs:
    """Inputs of a day of events, from its fragments: landing file's id -> digest."""
    found = sorted(digests.items())
    return {
        "fragments": {identity: digest.content for identity, digest in found},
        LINES: {identity: digest.lines for identity, digest in found},
    }


def rows_only(inputs: Inputs) -> Inputs:
    """Inputs but for what does not change a row: published events know no line."""
    return {table: of_table for table, of_table in inputs.items() if table != LINES}


def published_inputs(lake: Lake, needs: Needs) -> dict[dt.date, Inputs]:
    """Inputs of derived days as they are published now.

    Call it before the rows are read: should an input change in between, its old fingerprint is on
    record, and the day is stale.
    """
    tables = {table for of_day in needs.values() for table in of_day}
    known: dict[str, dict[dt.date, str]] = {}
    for table in tables:
        wanted = {day for of_day in needs.values() for day in of_day.get(table, [])}
        published = sorted(wanted & set(lake.days(table)))
        known[table] = {day: fingerprint(read_inputs(lake.day(table, day))) for day in published}
    return inputs_from(needs, known)


def inputs_from(
    needs: Needs, fingerprints: Mapping[str, Mapping[dt.date, str]]
) -> dict[dt.date, Inputs]:
    """Inputs of derived days, given the fingerprints of what is published."""
    return {
        day: {
            table: {
                str(needed): fingerprints[table][needed]
                for needed in days
                if needed in fingerprints[table]
            }
            for table, days in of_day.items()
        }
        for day, of_day in needs.items()
    }


def fingerprint(inputs: Inputs) -> str:
    """Hash of inputs, as far as rows follow from them."""
    return hash_json(rows_only(inputs))


def footer(inputs: Inputs) -> dict[bytes, bytes]:
    """Key and value of inputs in a Parquet footer."""
    return {BUILT_FROM: json.dumps(inputs, separators=(",", ":")).encode()}


def read_inputs(path: Path) -> Inputs:
    """Inputs of a published object, from its footer."""
    return parse_inputs((read_metadata(path).metadata or {}).get(BUILT_FROM))


def parse_inputs(text: bytes | None) -> Inputs:
    """Parses inputs as they stand in a footer."""
    return json.loads(text) if text else UNKNOWN
