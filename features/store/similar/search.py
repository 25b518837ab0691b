"""Similar users of a user or of any vector: what the command line and the HTTP service ask."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.store.similar.filters import Filters, rows_where
from features.store.similar.index import open_index

Neighbors = list[tuple[str, float]]


def similar_users(
    lake: Lake,
    user_id: str | None = None,
    *,
    vector: np.ndarray | Sequence[float] | None = None,
    k: int = 10,
    version: str | None = None,
    filters: Filters | None = None,
    rows: np.ndarray | None = None,
) -> Neighbors:
    """The k users most like a user, or nearest to a vector, and their cosines, nearest first.

    Exact, of the newest vectors of one model version. A user is not among their own neighbors.

    Args:
      lake: the data set's lake.
      user_id: whose neighbors; or give a vector.
      vector: [dim] of any length, as the version's model gives it.
      k: how many at most.
      version: of which model; by default the one that the alias `user_representation` uses.
      filters: attribute -> value or values: only among users who have one of them, in each.
      rows: only among these rows of the index: bool[users], or row numbers (`open_index(...).row`).

    Raises:
      FootpathError: the index, the user or an attribute is not there, a file of the index was
        changed, or the vector is not one of this version.
    """
    if (user_id is None) == (vector is None):
        raise FootpathError("similar users are those of a user or of a vector: give one of them")
    users = None if user_id is None else [user_id]
    vectors = None if vector is None else np.asarray(vector, np.float64).reshape(1, -1)
    return similar_users_batch(
        lake, users, vectors=vectors, k=k, version=version, filters=filters, rows=rows
    )[0]


def similar_users_batch(
    lake: Lake,
    user_ids: Sequence[str] | None = None,
    *,
    vectors: np.ndarray | None = None,
    k: int = 10,
    version: str | None = None,
    filters: Filters | None = None,
    rows: np.ndarray | None = None,
) -> list[Neighbors]:
    """The neighbors of many users, or of many vectors [vectors, dim], in their order.

    Arguments and errors are those of `similar_users`; one scan serves many.
    """
    if k < 1:
        raise FootpathError(f"k is {k}, and a number of users from 1 was expected")
    index = open_index(lake, version)
    own = None
    if vectors is None:
        own = [index.row(user) for user in user_ids or ()]
        queries = index.vectors[own]
    else:
        queries = index.unit_vectors(vectors)
    among = rows_where(lake, index, filters) if filters else None
    if rows is not None:
        given = np.zeros(len(index.users), bool)
        given[rows] = True
        among = given if among is None else among & given
    found = index.search(queries, k, among, own)
    return [
        list(zip(index.users.take(pa.array(near)).to_pylist(), cosines.tolist(), strict=True))
        for near, cosines in found
    ]
