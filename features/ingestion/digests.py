"""What stands for the rows of a fragment: the same for the same rows, in whichever file they came.

In:  fragments, batch by batch. Out: a digest of their content, and one of their lines. A landing
file that has changed is cut anew, and most of its days are often what they were: only days with
another content are due for a rebuild (features/staleness.py). A row that comes in moves the lines
of all that follow; these count only where a person is to find a row by its line, in quarantine.

The digest does not depend on how the rows are cut into batches: each buffer of each column is a
stream of its own.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

LINE = "source_line"
# It sees every byte of every row, and needs no processor that has SHA in its instructions.
_blake: Callable = partial(hashlib.blake2b, digest_size=8)


@dataclass(frozen=True)
class Digest:
    """Stands for a fragment's rows."""

    content: str
    lines: str


class Digester:
    """Takes the rows of a fragment in order."""

    def __init__(self) -> None:
        self._streams: dict[str, hashlib.blake2b] = defaultdict(_blake)

    def add(self, rows: pa.Table) -> None:
        """Takes rows; all have the same columns."""
        for name in rows.column_names:
            for chunk in rows[name].chunks:
                self._feed(name, chunk)

    def digest(self) -> Digest:
        """Returns what stands for the rows so far."""
        content = _blake()
        for path, stream in sorted(self._streams.items()):
            if not path.startswith(LINE):
                content.update(f"{path} {stream.hexdigest()} ".encode())
        return Digest(content.hexdigest(), self._streams[f"{LINE} values"].hexdigest())

    def _feed(self, path: str, values: pa.Array) -> None:
        self._update(f"{path} nulls", values.is_null().cast(pa.uint8()).to_numpy())
        if pat.is_map(values.type):
            ends = values.offsets.to_numpy()
            self._update(f"{path} lengths", np.diff(ends))
            for part, child in (("keys", values.keys), ("items", values.items)):
                self._feed(f"{path} {part}", child.slice(ends[0], ends[-1] - ends[0]))
        elif pat.is_string(values.type):
            text = values.fill_null("")
            ends = np.frombuffer(text.buffers()[1], np.int32)[text.offset :][: len(text) + 1]
            self._update(f"{path} lengths", np.diff(ends))
            if ends[-1] > ends[0]:
                self._streams[f"{path} values"].update(text.buffers()[2][ends[0] : ends[-1]])
        else:
            numbers = values.cast(pa.int64()) if pat.is_temporal(values.type) else values
            self._update(f"{path} values", numbers.fill_null(0).to_numpy())

    def _update(self, path: str, values: np.ndarray) -> None:
        self._streams[path].update(np.ascontiguousarray(values).data)


def digest_of(rows: pa.Table) -> Digest:
    """Returns the digest of the rows of one fragment."""
    digester = Digester()
    digester.add(rows)
    return digester.digest()
