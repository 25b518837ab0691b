"""The users most like a given user, by the cosine of their embeddings.

In come the published embeddings of one model version; out goes an index, the latest vector of every
user as rows of length one:

  feature_store/similar/<version>.json            the pointer, published last and in one step
  feature_store/similar/<version>-<hash>/         vectors.npy float32[users, dim], users.parquet

A query is one matrix-vector product over the memory-mapped vectors: exact, and milliseconds for a
hundred thousand users. Vectors of different versions are never compared.
"""

import bisect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

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
    folder = _publish(lake, version, users, unit(vectors), objects)
    return IndexReport(version, len(users), dim, folder.name)


@dataclass(frozen=True)
class Index:
    """An open index: users in order, and their vectors, a map of the file."""

    version: str
    users: pa.StringArray
    vectors: "np.ndarray"  # float32 [users, dim], rows of length one

    def row_of(self, user_id: str) -> int:
        """The row of a user.

        Raises:
          FootpathError: the user is not there.
        """
        wanted = user_id.encode()
        row = bisect.bisect_left(
            range(len(self.users)), wanted, key=lambda n: self.users[n].as_py().encode()
        )
        if row == len(self.users) or self.users[row].as_py() != user_id:
            raise FootpathError(
                f"user '{user_id}' has no embedding by {self.version}: the index holds "
                f"{len(self.users)} users who had an event before their day was embedded"
            )
        return row

    def nearest(
        self,
        vector: "np.ndarray",
        k: int,
        without: int | None = None,
        among: "np.ndarray | None" = None,
    ) -> list[tuple[str, float]]:
        """The k users of the highest cosine to a vector, and their cosines, nearest first.

        Args:
          vector: float32 [dim]; of length one, or zero.
          k: how many at most.
          without: a row that is left out.
          among: bool [users], which rows are looked at; all where it is left out.
        """
        import numpy as np

        rows = None if among is None else np.flatnonzero(among)
        if rows is not None and 4 * len(rows) < len(self.users):
            cosines = self.vectors[rows] @ vector
        else:
            cosines = self.vectors @ vector
            cosines = cosines if rows is None else cosines[rows]
        if without is not None:
            place = without if rows is None else np.flatnonzero(rows == without)
            cosines[place] = -np.inf
        left = len(cosines) - int(np.isneginf(cosines).sum())
        nearest = _top(cosines, min(k, left))
        users = self.users.take(pa.array(nearest if rows is None else rows[nearest]))
        return list(zip(users.to_pylist(), cosines[nearest].tolist(), strict=True))


def unit(vector: "np.ndarray") -> "np.ndarray":
    """A vector, or rows of them, scaled to length one; a zero vector stays zero."""
    import numpy as np

    norms = np.linalg.norm(vector, axis=-1, keepdims=True)
    return vector / np.maximum(norms, np.finfo(np.float32).tiny)


def open_index(lake: Lake, version: str) -> Index:
    """Opens the index of a model version.

    Raises:
      FootpathError: there is none, or one of its files was changed.
    """
    import numpy as np

    pointer = index_pointer(lake, version)
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
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    return Index(version, users, vectors)


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
    if k < 1:
        raise FootpathError(f"k is {k}, and a number of users from 1 was expected")
    index = open_index(lake, version or promoted_version(lake))
    row = index.row_of(user_id)
    return index.nearest(index.vectors[row], k, without=row)


def indexed_objects(lake: Lake, version: str) -> dict[str, str]:
    """The day objects that the index of a version was built from; none where there is none."""
    pointer = index_pointer(lake, version)
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

    pointer = index_pointer(lake, version)
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


def index_pointer(lake: Lake, version: str) -> Path:
    """The document that says which folder is the index of a model version."""
    return repository(lake) / "similar" / f"{version}.json"


def _indexed(lake: Lake) -> str:
    names = sorted(path.stem for path in (repository(lake) / "similar").glob("*.json"))
    return ", ".join(names) or "none"
