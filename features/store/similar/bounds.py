"""Upper bounds of cosines from a few columns: an exact search that reads a part of the vectors.

In:  unit vectors x of all users. Out: the coordinates p of each along the axes V of largest second
moment, and the length r of what they leave. For a query q with coordinates a and a rest of length
s, the Cauchy-Schwarz inequality gives

    x.q  =  p.a + (x - Vp).(q - Va)  <=  p.a + r s

so one product over `columns + 1` numbers a user bounds every cosine from above, and whoever is
below the k-th best cosine found so far need not be read. Embeddings fill few dimensions, so few
users are left; where they fill all of them, bounds cost more than they spare, and none are made.
"""

import numpy as np

BLOCK = 1 << 16  # rows that are worked on at once
COLUMNS = (15, 31, 63)  # tried; with the rest they fill whole cache lines

# A row that is read alone costs as much as this many in a scan.
SCATTERED = 8
WORTH = 0.8  # bounds that cost more than this share of a whole scan are not made


def make_bounds(
    vectors: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds and axes of the cheapest number of columns; None where a whole scan is cheaper.

    Args:
      vectors: float32[users, dim], of length one or zero.
      queries: float32[queries, dim], a sample of them, by which the cost is judged.
      k: neighbors that a query asks for.

    Returns:
      bounds float32[users, columns + 1] and axes float32[dim, columns], or None.
    """
    users, dim = vectors.shape
    tried = [columns for columns in COLUMNS if columns + 1 <= dim * WORTH]
    if not tried or users <= k:
        return None
    moments = vectors.T @ vectors
    axes = np.linalg.eigh(moments.astype(np.float64))[1][:, ::-1].astype(np.float32)
    best = np.partition(vectors @ queries.T, -k, axis=0)[-k]  # [queries]: k-th best cosines
    cheapest, made = WORTH * dim, None
    for columns in tried:
        if columns + 1 >= cheapest:
            break
        part = np.ascontiguousarray(axes[:, :columns])
        bounds = project(vectors, part)
        left = (bounds @ project(queries, part).T >= best - slack(dim)).mean()
        cost = columns + 1 + left * SCATTERED * dim  # numbers read a user
        if cost < cheapest:
            cheapest, made = cost, (bounds, part)
    return made


def project(vectors: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Coordinates along the axes, then the length of the rest: float32[vectors, columns + 1]."""
    projected = np.empty((len(vectors), axes.shape[1] + 1), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        along = block @ axes
        projected[start : start + BLOCK, :-1] = along
        projected[start : start + BLOCK, -1] = np.linalg.norm(block - along @ axes.T, axis=1)
    return projected


def slack(dim: int) -> float:
    """What a float32 product of unit vectors may be wrong by, generously."""
    return 4 * dim * float(np.finfo(np.float32).eps)
