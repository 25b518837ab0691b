"""Can downstream teams live with a version's vectors? Figures of the published ones, and limits.

In:  the published embeddings of a version, those of the version served now, the newest day of
features and events. Out: figures, and a sentence for each limit that is broken.
"""

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from contracts.base.sql import parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import read_table
from contracts.lake.versions import version_named

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLED = 5000  # users whose vectors are looked at
PROBED = 500  # of these, users whose neighbors are
NEIGHBORS = 10


@dataclass(frozen=True)
class Health:
    """Figures of a version's vectors, and what of them is out of bounds."""

    figures: dict[str, float]
    faults: list[str]


@dataclass(frozen=True)
class _Vectors:
    users: "pa.Array"  # sorted
    x_UD: np.ndarray  # float32


def health(dataset: Dataset, lake: Lake, version: str, incumbent: str | None) -> Health:
    """Looks at what a version has published, on the newest day that has features.

    Args:
      dataset: whose limits, `promotion` of its YAML.
      lake: of the data set.
      version: that might be promoted.
      incumbent: the version that is served now, if there is one.
    """
    days = lake.days(f"user_embeddings/{version}")
    newest = lake.days("user_behavior_features")[-1:] or days[-1:]
    if not days or days[-1] < newest[0]:
        last = f"the last one is {days[-1]}" if days else "there is none"
        return Health({}, [f"{newest[0] if newest else 'no day'} is not embedded: {last}"])
    now = _sample(lake, version, days[-1])
    if not np.isfinite(now.x_UD).all():
        return Health({}, ["a vector is not finite"])
    figures = {
        "effective rank": _effective_rank(now.x_UD),
        "distinct vectors": len(np.unique(now.x_UD, axis=0)) / len(now.x_UD),
        "norm against the first day": _norm_ratio(now, _sample(lake, version, days[0])),
    }
    figures |= _coverage(dataset, lake, version, days[-1])
    figures |= _neighbors(lake, now, incumbent, days[-1]) if incumbent else {}
    if dataset.promotion.max_label_age_days and dataset.daily_tasks:
        as_of = dt.date.fromisoformat(version_named(lake, version).as_of)
        figures["days since the labels"] = float((days[-1] - as_of).days)
    return Health(figures, _faults(dataset, figures, len(now.x_UD)))


def _faults(dataset: Dataset, figures: dict[str, float], users: int) -> list[str]:
    limits = dataset.promotion
    least = {  # vectors of U users fill at most U - 1 dimensions
        "effective rank": ("min_effective_rank", min(limits.min_effective_rank, (users - 1) / 2)),
        "distinct vectors": ("min_distinct", limits.min_distinct),
        "active users with a vector": ("min_coverage", limits.min_coverage),
        "neighbors in common, against chance": ("min_neighbor_lift", limits.min_neighbor_lift),
        "norm against the first day": ("1 / max_norm_factor", 1 / limits.max_norm_factor),
    }
    most = {
        "norm against the first day": ("max_norm_factor", limits.max_norm_factor),
        "days since the labels": ("max_label_age_days", limits.max_label_age_days),
    }
    below = [
        f"{name} is {figures[name]:.3g}, below {field} {limit:.3g}"
        for name, (field, limit) in least.items()
        if figures.get(name, limit) < limit
    ]
    return below + [
        f"{name} is {figures[name]:.3g}, above {field} {limit:.3g}"
        for name, (field, limit) in most.items()
        if limit is not None and figures.get(name, limit) > limit
    ]


def _effective_rank(x_UD: np.ndarray) -> float:
    import torch

    from models.training.health import effective_rank

    return effective_rank(torch.tensor(x_UD))


def _norm_ratio(now: _Vectors, first: _Vectors) -> float:
    """The median length of the newest day's vectors, as a multiple of the first day's."""
    new, old = (float(np.median(np.linalg.norm(v.x_UD, axis=1))) for v in (now, first))
    return new / old if old > 0 else float(new > 0) * np.inf if new else 1.0


def _coverage(dataset: Dataset, lake: Lake, version: str, day: dt.date) -> dict[str, float]:
    """Users with an event in the last days, and who of them has a vector."""
    back = dataset.promotion.active_days
    days = [day - dt.timedelta(days=n) for n in range(back)]
    events = lake.existing("events", sorted(days))
    if not events:
        return {}
    with connect() as connection:
        active, covered = connection.execute(
            "SELECT count(*), count(vectors.user_id) "
            f"FROM (SELECT DISTINCT user_id FROM {parquet('$events')}) LEFT JOIN "
            f"(SELECT DISTINCT user_id FROM {parquet('$vectors')}) AS vectors USING (user_id)",
            {"events": events, "vectors": str(lake.day(f"user_embeddings/{version}", day))},
        ).fetchall()[0]
    return {"active users with a vector": covered / active} if active else {}


def _neighbors(lake: Lake, now: _Vectors, incumbent: str, day: dt.date) -> dict[str, float]:
    """Neighbors that users have by both versions, as a multiple of what chance would give."""
    if not lake.day(f"user_embeddings/{incumbent}", day).exists():
        return {}
    before = _sample(lake, incumbent, day)
    common = pc.index_in(now.users, before.users)
    here = np.flatnonzero(pc.is_valid(common).to_numpy(zero_copy_only=False))
    if len(here) < 10 * NEIGHBORS:  # chance alone would be most of it
        return {}
    there = common.drop_null().to_numpy()
    ours, theirs = _nearest(now.x_UD[here]), _nearest(before.x_UD[there])
    kept = np.mean([len(np.intersect1d(a, b)) for a, b in zip(ours, theirs, strict=True)])
    chance = NEIGHBORS * NEIGHBORS / (len(here) - 1)
    return {"neighbors in common, against chance": float(kept / chance)}


def _nearest(x_UD: np.ndarray) -> np.ndarray:
    """The nearest users of the first ones, by cosine; equal ones in an order of chance."""
    unit_UD = x_UD / np.maximum(np.linalg.norm(x_UD, axis=1, keepdims=True), 1e-12)
    cosine_PU = unit_UD[:PROBED] @ unit_UD.T
    cosine_PU += np.random.default_rng(0).uniform(0, 1e-6, cosine_PU.shape)
    np.fill_diagonal(cosine_PU, -np.inf)
    return np.argpartition(-cosine_PU, NEIGHBORS, axis=1)[:, :NEIGHBORS]


def _sample(lake: Lake, version: str, day: dt.date) -> _Vectors:
    """The newest vectors of a day, of users that a hash of their ids picks."""
    with connect() as connection:
        users = connection.sql(
            "SELECT user_id FROM (SELECT DISTINCT user_id "
            f"FROM {parquet('$path')}) ORDER BY md5(user_id), user_id LIMIT {SAMPLED}",
            params={"path": str(lake.day(f"user_embeddings/{version}", day))},
        ).to_arrow_table()["user_id"]
    rows = read_table(
        lake.day(f"user_embeddings/{version}", day),
        columns=["user_id", "created", "written_at", "embedding"],
        filters=pc.field("user_id").isin(users.combine_chunks()),
    )
    order = [(name, "ascending") for name in ("user_id", "created", "written_at")]
    rows = rows.sort_by(order).combine_chunks()
    ids = rows["user_id"].to_numpy()
    rows = rows.take(np.flatnonzero(np.append(ids[1:] != ids[:-1], True)))  # the last of each
    flat = rows["embedding"].combine_chunks().flatten().to_numpy()
    return _Vectors(rows["user_id"].combine_chunks(), flat.reshape(rows.num_rows, -1))
