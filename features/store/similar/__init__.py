"""Similar users: nearest neighbors by the cosine of the embeddings of one model version.

In:  the published embeddings of a version, and the users table where a filter asks for it. Out: an
index, the latest vector of every user, and the users nearest to a user or to any vector.

  feature_store/similar/<version>.json            the pointer, published last and in one step
  feature_store/similar/<version>-<hash>/
    vectors.npy     float32[users, dim], rows of length one
    users.arrow     their ids, sorted: an Arrow file
    bounds.npy      float32[users, columns + 1], projections and what they leave (bounds.py)
    axes.npy        float32[dim, columns], the directions of the projection

All are memory-mapped, so an open index costs no memory of its own and a user is found by binary
search. Answers are exact; `bounds.npy` only spares most of the reading, and is left out where it
would spare none. Vectors of different versions are never compared.
"""

from features.store.similar.build import IndexReport, build_index
from features.store.similar.files import indexed_objects
from features.store.similar.filters import parse_filters, rows_where
from features.store.similar.index import SimilarIndex, open_index
from features.store.similar.search import similar_users, similar_users_batch

__all__ = [
    "IndexReport",
    "SimilarIndex",
    "build_index",
    "indexed_objects",
    "open_index",
    "parse_filters",
    "rows_where",
    "similar_users",
    "similar_users_batch",
]
