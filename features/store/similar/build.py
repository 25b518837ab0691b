"""Builds the index of similar users of a model version, and measures it.

In:  the version's published embeddings. Out: its index (see the package), and what a sample of the
users in it finds: how many of the true nearest, after reading how many vectors, in what time.
"""

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from contracts.base.sql import parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import stamps
from features.store.similar.bounds import make_bounds, slack
from features.store.similar.files import (
    USERS,
    VECTORS,
    checked_folder,
    indexed_objects,
    map_files,
    publish_index,
    write_files,
)
from features.store.similar.index import SimilarIndex
from features.store.view_specs import EMBEDDINGS, embedding_view

SAMPLE = 64  # users whose neighbors are compared with those of a whole scan
K = 10


@dataclass(frozen=True)
class IndexReport:
    """What the index holds, and what a sample of its users found in it."""

    version: str
    users: int
    dim: int
    folder: str
    columns: int  # that bound the cosines; 0 where every search reads all vectors
    recall: float  # of the 10 nearest, against a whole scan; 1 where there is nobody to find
    milliseconds: float  # median of a query


def build_index(dataset: Dataset, lake: Lake, version: str) -> IndexReport:
    """Builds the index of one model version's latest vectors. The same vectors give the same index.

    Raises:
      FootpathError: the version has no published embeddings, or a vector is not finite.
    """
    view = embedding_view(lake, version)
    objects = stamps(lake.table(view.table))
    dim = int(view.tags["dim"])
    users, vectors = _unit_vectors(dataset, lake, version, objects, dim)
    sample = np.linspace(0, len(users) - 1, min(SAMPLE, len(users))).astype(np.int64)
    bounds, axes = make_bounds(vectors, vectors[sample[:: SAMPLE // 16]], K) or (None, None)
    index = SimilarIndex(version, users, vectors, bounds, axes)
    recall, milliseconds = measure_index(index, sample)
    columns = 0 if axes is None else axes.shape[1]
    document = {"users": len(users), "columns": columns, "recall": recall, "objects": objects}
    with lake.staging() as staging:
        folder = staging / version
        write_files(folder, users, vectors, bounds, axes)
        published = publish_index(lake, version, folder, document)
    return IndexReport(version, len(users), dim, published.name, columns, recall, milliseconds)


def measure_index(index: SimilarIndex, sample: np.ndarray) -> tuple[float, float]:
    """Recall at 10 of a sample of users against a whole scan, and median milliseconds.

    Whom the whole scan puts as near as the tenth, within rounding, may stand for them.

    Args:
      index: an open one, or one that is about to be published.
      sample: rows of the users.

    Returns:
      The recall, 1 where there is nobody to find, and the milliseconds.
    """
    k = min(K, len(index.users) - 1)
    if k < 1:
        return 1.0, 0.0
    recalls, seconds = [], []
    for row in sample.tolist():
        begun = time.perf_counter()
        ((near, _),) = index.search(index.vectors[[row]], k, own=[row])
        seconds.append(time.perf_counter() - begun)
        cosines = index.vectors @ index.vectors[row]
        cosines[row] = -np.inf
        tenth = np.partition(cosines, -k)[-k] - slack(index.vectors.shape[1])
        recalls.append(float((cosines[near] >= tenth).sum()) / k)
    return float(np.mean(recalls)), 1000 * float(np.median(seconds))


def _unit_vectors(
    dataset: Dataset, lake: Lake, version: str, objects: dict[str, str], dim: int
) -> tuple[pa.Array, np.ndarray]:
    """Users, sorted, and their newest vectors with length one, or zero, as float32[users, dim].

    Where days were added after those of the index that there is, and no other has changed, they
    alone are read: all other users keep the vectors that the index has.
    """
    known = indexed_objects(lake, version)
    added = sorted(objects.keys() - known.keys())
    is_later = all(name > max(known, default="") for name in added)
    if known.items() <= objects.items() and is_later and (before := _indexed(lake, version)):
        if not added:
            return before
        return _replaced(before, _normalized(dataset, lake, version, added, dim))
    return _normalized(dataset, lake, version, sorted(objects), dim)


def _indexed(lake: Lake, version: str) -> tuple[pa.Array, np.ndarray] | None:
    """Users and vectors of the index that there is; None where there is none, or a damaged one."""
    try:
        files = map_files(*checked_folder(lake, version))
    except FootpathError:
        return None
    return files[USERS], files[VECTORS]


def _replaced(
    before: tuple[pa.Array, np.ndarray], newer: tuple[pa.Array, np.ndarray]
) -> tuple[pa.Array, np.ndarray]:
    """Rows of before and newer ones, which replace those of the same users, sorted by user."""
    kept = np.flatnonzero(~pc.is_in(before[0], newer[0]).to_numpy(zero_copy_only=False))
    users = pa.concat_arrays([before[0].take(pa.array(kept)), newer[0]])
    order = pc.sort_indices(users)
    vectors = np.concatenate([before[1][kept], newer[1]])
    return users.take(order), vectors[order.to_numpy()]


def _normalized(
    dataset: Dataset, lake: Lake, version: str, names: list[str], dim: int
) -> tuple[pa.Array, np.ndarray]:
    """The same of the users in these objects.

    Raises:
      FootpathError: a vector is not finite.
    """
    users, vectors = _latest_vectors(lake, f"{EMBEDDINGS}/{version}", names, dim)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise FootpathError(
            f"the embedding of user '{users[int(finite.argmin())]}' by {version} of "
            f"{dataset.name} is not finite: train again, or embed again"
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(norms, np.finfo(np.float32).tiny)  # a zero vector stays zero
    return users, vectors


def _latest_vectors(
    lake: Lake, table: str, names: list[str], dim: int
) -> tuple[pa.Array, np.ndarray]:
    """The users in some objects, sorted, and their newest vectors there."""
    with connect() as connection:
        rows = connection.sql(
            f"SELECT user_id, arg_max(CAST(embedding AS FLOAT[{dim}]), "
            "  struct_pack(e := event_timestamp, c := created, w := written_at)) AS embedding "
            f"FROM {parquet('$files')} GROUP BY user_id ORDER BY user_id",
            params={"files": [str(lake.table(table) / name) for name in names]},
        ).to_arrow_table()
    users = rows.column("user_id").cast(pa.large_string()).combine_chunks()
    flat = rows.column("embedding").combine_chunks().flatten()
    return users, flat.to_numpy(zero_copy_only=False).reshape(len(users), dim).copy()
