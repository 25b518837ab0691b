"""The users most like a given user, by the cosine of their embeddings.

In come the published embeddings of one model version; out goes an index, the latest vector of every
user as rows of length one:

  feature_store/similar/<version>.json            the pointer, published last and in one step
  feature_store/similar/<version>-<hash>/         vectors.npy float32[users, dim], users.parquet

A query is one matrix-vector product over the memory-mapped vectors: exact, and milliseconds for a
hundred thousand users. Vectors of different versions are never compared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_bytes, hash_json
from contracts.base.sql import parquet
from contracts.config.dataset import Dataset
from contracts.lake.copies import local_copy
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.pointers import check_files, file_hashes, folder_beside, pointed_folder
from contracts.lake.publishing import publish_folder, publish_json, remove_folder, write_parquet
from contracts.lake.reading import read_json, read_table, stamps
from features.store.services import promoted_version
from features.store.view_specs import embedding_view, repository

if TYPE_CHECKING:
    import numpy as np

FILES = ("vectors.npy", "users.parquet")


@dataclass(frozen=True)
class IndexReport:
    """What the index holds."""

    version: str
    users: int
    dim: int
    folder: str


def build_index(dataset: Dataset, lake: Lake, version: str) -> IndexReport:
    """Builds the index of one model version's latest vectors. The same vectors give the same index.

    Raises:
      FootpathError: the version has no published embeddings, or a vector is not finite.
    """
    import numpy as np

    view = embedding_view(lake, version)
    objects = stamps(lake.table(view.table))
    dim = int(view.tags["dim"])
    users, vectors = _latest_vectors(lake, view.table, dim)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise FootpathError(
            f"the embedding of user '{users[int(finite.argmin())]}' by {version} of "
            f"{dataset.name} is not finite: train again, or embed again"
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(norms, np.finfo(np.float32).tiny)  # a zero vector stays zero
    folder = _publish(lake, version, users, vectors, objects)
    return IndexReport(version, len(users), dim, folder.name)


def similar_users(
    lake: Lake, user_id: str, k: int = 10, version: str | None = None
) -> list[tuple[str, float]]:
    """The k users most like a user and their cosines, nearest first, without the user.

    Args:
      lake: the data set's lake.
      user_id: whose neighbors.
      k: how many at most.
      version: of which model; by default the one that the alias `user_representation` uses.

    Raises:
      FootpathError: the index or the user is not there, or a file of the index was changed.
    """
    import numpy as np

    if k < 1:
        raise FootpathError(f"k is {k}, and a number of users from 1 was expected")
    version = version or promoted_version(lake)
    pointer = _pointer(lake, version)
    if not pointer.exists():
        raise FootpathError(
            f"there is no index of similar users for {version} ({pointer} is missing): "
            f"materialize similar_users_index; indexed: {_indexed(lake)}"
        )
    said = read_json(pointer)
    folder = local_copy(lake, folder_beside(pointer, said))
    advice = f"materialize similar_users_index of {version}"
    check_files(folder.with_name(pointer.name), said, FILES, advice)
    users = read_table(folder / "users.parquet").column("user_id").combine_chunks()
    row = pc.index(users, user_id).as_py()
    if row < 0:
        raise FootpathError(
            f"user '{user_id}' has no embedding by {version}: the index holds {len(users)} users "
            "who had an event before their day was embedded"
        )
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    cosines = vectors @ vectors[row]
    cosines[row] = -np.inf
    nearest = _top(cosines, min(k, len(users) - 1))
    return list(
        zip(users.take(pa.array(nearest)).to_pylist(), cosines[nearest].tolist(), strict=True)
    )


def indexed_objects(lake: Lake, version: str) -> dict[str, str]:
    """The day objects that the index of a version was built from; none where there is none."""
    pointer = _pointer(lake, version)
    return read_json(pointer)["objects"] if pointer.exists() else {}


def _latest_vectors(lake: Lake, table: str, dim: int) -> "tuple[pa.Array, np.ndarray]":
    """Returns users, sorted, and their newest vectors as float32[users, dim]."""
    with connect() as connection:
        rows = connection.sql(
            f"SELECT user_id, arg_max(CAST(embedding AS FLOAT[{dim}]), "
            "  struct_pack(e := event_timestamp, c := created, w := written_at)) AS embedding "
            f"FROM {parquet('$files')} GROUP BY user_id ORDER BY user_id",
            params={"files": lake.existing(table, lake.days(table))},
        ).to_arrow_table()
    users = rows.column("user_id").combine_chunks()
    flat = rows.column("embedding").combine_chunks().flatten()
    return users, flat.to_numpy(zero_copy_only=False).reshape(len(users), dim).copy()


def _top(scores: "np.ndarray", k: int) -> "np.ndarray":
    """The rows of the k highest scores, highest first, the first row first where equal."""
    import numpy as np

    if k <= 0:
        return np.empty(0, np.int64)
    threshold = np.partition(scores, -k)[-k]
    rows = np.flatnonzero(scores >= threshold)
    return rows[np.lexsort((rows, -scores[rows]))][:k]


def _publish(
    lake: Lake, version: str, users: pa.Array, vectors: "np.ndarray", objects: dict[str, str]
) -> Path:
    """Publishes the arrays, then the pointer; keeps the index before this one for its readers."""
    import numpy as np

    pointer = _pointer(lake, version)
    before = pointed_folder(pointer).name if pointer.exists() else None
    content = hash_json([hash_bytes(vectors.data), users.to_pylist()])
    target = pointer.parent / f"{version}-{content}"
    with lake.staging() as staging:
        folder = staging / target.name
        folder.mkdir()
        np.save(folder / "vectors.npy", vectors, allow_pickle=False)
        write_parquet(pa.table({"user_id": users}), folder / "users.parquet")
        files = file_hashes(folder)
        publish_folder(folder, target)
    document = {"folder": target.name, "users": len(users), "objects": objects, "files": files}
    publish_json(lake, document, pointer)
    for old in pointer.parent.glob(f"{version}-*"):
        if old.name not in (target.name, before):
            remove_folder(old)
    return target


def _pointer(lake: Lake, version: str) -> Path:
    return repository(lake) / "similar" / f"{version}.json"


def _indexed(lake: Lake) -> str:
    names = sorted(path.stem for path in (repository(lake) / "similar").glob("*.json"))
    return ", ".join(names) or "none"
