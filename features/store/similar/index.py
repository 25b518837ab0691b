"""An open index of similar users: rows of users, rows by attributes, nearest rows of vectors.

In:  the published index of a model version. Out: rows and cosines. Open it once and keep it: its
files are mapped, not read. It stays what it was when a newer one is published.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store.services import promoted_version
from features.store.similar.bounds import BLOCK, project, slack
from features.store.similar.files import AXES, BOUNDS, USERS, VECTORS, checked_folder, map_files

QUERIES = 32  # that are answered at once: each holds a number a user
CHECKED_FIRST = 256  # users whose cosines tell how good the best are
SPARSE = 10  # less than one row in so many is read alone, more in one scan

# (lake, version) -> the state of the files, and the index that is open: one each, for a mapped file
# that was removed goes on to fill the disk.
_OPEN: dict[tuple[Path, str], tuple[tuple, "SimilarIndex"]] = {}


@dataclass(frozen=True, eq=False)
class SimilarIndex:
    """The vectors and ids of one version's users, by row; rows are sorted by id."""

    version: str
    users: pa.Array  # text, sorted
    vectors: np.ndarray  # float32[users, dim]
    bounds: np.ndarray | None  # float32[users, columns + 1]
    axes: np.ndarray | None  # float32[dim, columns]
    codes: dict[str, tuple] = field(default_factory=dict)  # what filters.py has read

    def row(self, user_id: str) -> int:
        """The row of a user.

        Raises:
          FootpathError: they have none.
        """
        row = bisect_left(self.users, user_id, key=lambda user: user.as_py())
        if row == len(self.users) or self.users[row].as_py() != user_id:
            raise FootpathError(
                f"user '{user_id}' has no embedding by {self.version}: the index holds "
                f"{len(self.users)} users who had an event before their day was embedded"
            )
        return row

    def unit_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors of anybody with length one, as the index holds them: float32[vectors, dim].

        Raises:
          FootpathError: they have another number of dimensions, or are not finite.
        """
        given = np.asarray(vectors, np.float64)
        dim = self.vectors.shape[1]
        if given.ndim != 2 or given.shape[1] != dim:
            raise FootpathError(
                f"a vector has {given.shape[-1] if given.ndim else 0} numbers, and those of "
                f"{self.version} have {dim}: give the embedding by that version"
            )
        if not np.isfinite(given).all():
            raise FootpathError("a vector is not finite: give numbers alone")
        given = given / np.maximum(abs(given).max(axis=1, keepdims=True), np.finfo(float).tiny)
        lengths = np.linalg.norm(given, axis=1, keepdims=True)
        return (given / np.maximum(lengths, np.finfo(float).tiny)).astype(np.float32)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        among: np.ndarray | None = None,
        own: list[int] | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The k rows of highest cosine to each query, and their cosines, highest first.

        Equal cosines come in the order of rows. Exact, whatever the bounds are.

        Args:
          queries: float32[queries, dim], of length one.
          k: how many at most.
          among: bool[users], the rows to search; all of them where left out.
          own: the row of each query, which is not its own neighbor.
        """
        rows = None if among is None else np.flatnonzero(among)
        count = len(self.users) if rows is None else len(rows)
        found = []
        for start in range(0, len(queries), QUERIES):
            part = queries[start : start + QUERIES]
            uppers = self._uppers(part, rows)
            for number, (query, upper) in enumerate(zip(part, uppers, strict=True)):
                possible = count
                if own is not None:
                    row = own[start + number]
                    if among is None or among[row]:
                        upper[row if rows is None else np.searchsorted(rows, row)] = -np.inf
                        possible -= 1
                found.append(self._nearest(query, min(k, possible), rows, upper))
        return found

    def _uppers(self, queries: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Upper bounds of the cosines with some rows, or with all: float32[queries, rows]."""
        table = self.vectors if self.bounds is None else self.bounds
        if self.axes is not None:
            queries = project(queries, self.axes)
        if rows is None:
            return queries @ table.T
        if len(rows) * SPARSE < len(table):
            return queries @ table[rows].T
        return (queries @ table.T).take(rows, axis=1)

    def _nearest(
        self, query: np.ndarray, k: int, rows: np.ndarray | None, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best of `rows`, or of all, by upper bounds; those of -inf do not count."""
        if k <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        first = min(len(upper), max(CHECKED_FIRST, 4 * k))
        best = np.argpartition(upper, -first)[-first:]
        best = best[upper[best] > -np.inf]
        kth = np.partition(self._cosines(query, _rows(best, rows)), -k)[-k]
        places = np.flatnonzero(upper >= kth - slack(len(query)))
        if self.bounds is not None and len(places) * SPARSE > len(self.vectors):
            exact = self.vectors @ query  # bounds that spare nothing for this query
            exact = exact if rows is None else exact[rows]
            places = places[exact[places] >= kth - slack(len(query))]
        cosines = self._cosines(query, _rows(places, rows))
        order = np.lexsort((places, -cosines))[:k]
        return _rows(places[order], rows), cosines[order]

    def _cosines(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Cosines of some rows, summed in double precision: equal vectors, equal cosines."""
        cosines = np.empty(len(rows), np.float32)
        wide = query.astype(np.float64)
        for start in range(0, len(rows), BLOCK):
            block = self.vectors[rows[start : start + BLOCK]]
            cosines[start : start + BLOCK] = block.astype(np.float64) @ wide
        return cosines


def open_index(lake: Lake, version: str | None = None) -> SimilarIndex:
    """Opens the index of a model version, by default of the promoted one.

    Opening it again costs little: a process keeps the newest of each version open.

    Raises:
      FootpathError: there is no index, or a file of it is missing or changed.
    """
    version = version or promoted_version(lake)
    folder, names = checked_folder(lake, version)
    status = [(folder / name).stat() for name in names]
    state = (folder, *((s.st_mtime_ns, s.st_size, s.st_ino) for s in status))
    known = _OPEN.get((lake.root, version))
    if known and known[0] == state:
        return known[1]
    files = map_files(folder, names)
    index = SimilarIndex(version, files[USERS], files[VECTORS], files.get(BOUNDS), files.get(AXES))
    _OPEN[lake.root, version] = (state, index)
    return index


def _rows(places: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return places if rows is None else rows[places]
