"""What is kept of a day of a table: counts and histograms, a few kilobytes, that can be compared.

In:  DuckDB's aggregates over a day's clean rows. Out: a JSON object beside each published day, and
the distances between days computed from such objects alone: no row is read again.

A histogram's bin is an eighth of an octave, about 9 % wide, on either side of zero, and zero is a
bin of its own: bins depend on no data, so that those of different days can be compared and joined.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contracts.lake.layout import Lake
from contracts.lake.publishing import json_text, publish_file
from contracts.lake.reading import read_json

PER_OCTAVE = 8
# Above any |floor(log2(v) * PER_OCTAVE)|, so that the sign of a bin is the sign of its numbers.
MIDDLE = 10_000
# The bin of nulls, where they count: below all others.
MISSING = -2 * MIDDLE
# More kinds than this are put together as one: a mix is to stay small.
KINDS = 64
OTHERS = "(others)"

Bins = Mapping[int, int]  # bin -> rows

# A day as it is described: rows, users, `present.*` (rows), `mix.*` and `bins.*` (key -> rows).
Described = Mapping[str, Any]


def profile_path(lake: Lake, table: str, day: dt.date) -> Path:
    """Where the description of a published day lies."""
    return lake.table("profiles") / table / f"{day.isoformat()}.json"


def described(rows: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """A day's description from DuckDB's aggregates, small enough to keep."""
    day: dict[str, Any] = {"rows": rows}
    for name, value in found.items():
        if name.startswith("mix."):
            day[name] = _largest(value or {})
        elif name.startswith("bins."):
            day[name] = dict(sorted((value or {}).items()))
        else:
            day[name] = value or 0
    return day


def publish_description(
    lake: Lake, table: str, day: dt.date, found: Described, folder: Path
) -> None:
    """Keeps the description of a day beside the published one; `folder` is for staging."""
    staged = folder / f"{table} {day}.json"
    staged.write_text(json_text(found), encoding="utf-8")
    publish_file(staged, profile_path(lake, table, day))


def read_descriptions(
    lake: Lake, table: str, first: dt.date, last: dt.date
) -> dict[dt.date, Described]:
    """Reads the descriptions of the days from first to last that have one."""
    folder = lake.table("profiles") / table
    days = sorted(dt.date.fromisoformat(path.stem) for path in folder.glob("*.json"))
    return {
        day: {
            name: {int(key): rows for key, rows in value.items()}
            if name.startswith("bins.")
            else value
            for name, value in read_json(profile_path(lake, table, day)).items()
        }
        for day in days
        if first <= day <= last
    }


def _largest(mix: Mapping[str | None, int]) -> dict[str, int]:
    """The most frequent kinds, and the rest as one."""
    ordered = sorted(((n, str(kind)) for kind, n in mix.items()), reverse=True)
    kept = {kind: n for n, kind in ordered[:KINDS]}
    rest = sum(n for n, _ in ordered[KINDS:])
    return kept | ({OTHERS: rest} if rest else {})


def bin_of(number: str) -> str:
    """The SQL of a number's bin; null for null."""
    return (
        # A number that is none fits no bin; its row is refused anyway.
        f"CASE WHEN {number} = 0 THEN 0 ELSE TRY_CAST(sign({number}) * "
        f"({MIDDLE} + floor(log2(abs({number})) * {PER_OCTAVE})) AS INTEGER) END"
    )


def middle_of(bins: np.ndarray) -> np.ndarray:
    """A number in the middle of each bin."""
    size = np.exp2((np.abs(bins) - MIDDLE + 0.5) / PER_OCTAVE)
    return np.where(bins == 0, 0.0, np.sign(bins) * size)


def quantiles(bins: Bins, shares: Iterable[float]) -> np.ndarray:
    """Returns quantiles, to the width of a bin; NaN if there are no rows."""
    shares = np.asarray(list(shares))
    if not bins:
        return np.full(len(shares), np.nan)
    places = np.array(sorted(bins))
    upto = np.cumsum([bins[int(place)] for place in places])
    return middle_of(places)[np.searchsorted(upto, shares * upto[-1]).clip(0, len(places) - 1)]


class Trailing:
    """Counts of some days added up, while the days move on by a few at a time.

    Attributes:
      counts: of every histogram of these days, by its name: bin -> rows.
      parts: how many of the days have rows in it.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Counter[int]] = defaultdict(Counter)
        self.parts: Counter[str] = Counter()
        self._days: dict[dt.date, Described] = {}

    def __len__(self) -> int:
        """How many days there are."""
        return len(self._days)

    def move(self, days: Mapping[dt.date, Described]) -> None:
        """Adds the days that are new and takes away those that are gone."""
        for day in self._days.keys() - days.keys():
            self._count(self._days[day], -1)
        for day in days.keys() - self._days.keys():
            self._count(days[day], 1)
        self._days = dict(days)

    def _count(self, found: Described, sign: int) -> None:
        for name, bins in found.items():
            if not name.startswith("bins.") or not bins:
                continue
            self.parts[name] += sign
            counts = self.counts[name]
            for place, rows in bins.items():
                if not (rows := counts[place] + sign * rows):
                    del counts[place]
                else:
                    counts[place] = rows


def distances(day: Mapping, before: Sequence[Mapping]) -> tuple[float, np.ndarray]:
    """Returns Jensen-Shannon distances, in [0, 1], of days that have rows.

    Returns:
      That of a day from the days before put together; that of each of these from the others.
    """
    keys = sorted({key for counts in (day, *before) for key in counts})
    now = np.array([day.get(key, 0) for key in keys], float)
    # One row a day, one column a key.
    past = np.array([[counts.get(key, 0) for key in keys] for counts in before], float)
    total = past.sum(axis=0)
    return float(_distance(now, total)), _distance(past, total - past)


def distance(day: Mapping, before: Mapping) -> float:
    """The Jensen-Shannon distance, in [0, 1], of a day from days put together."""
    keys = sorted(day.keys() | before.keys())
    now, total = (np.array([counts.get(key, 0) for key in keys], float) for counts in (day, before))
    return float(_distance(now, total))


def _distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The Jensen-Shannon distance of counts, along the last axis."""
    # scipy's own `jensenshannon` is NaN where a side has no rows.
    from scipy.special import rel_entr

    p, q = (x / np.maximum(x.sum(axis=-1, keepdims=True), 1) for x in (p, q))
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / np.log(4)
    return np.sqrt(np.clip(divergence, 0, 1))


def stability(day: Bins, reference: Bins, groups: int = 10) -> float:
    """The population stability index over quantile groups of the reference.

    Bins are put together to at most `groups` groups of about equally many reference rows. Half a
    row is added to each group, so that an empty one does not make the index infinite.
    """
    places = sorted(day.keys() | reference.keys())
    p, q = (np.array([counts.get(key, 0) for key in places], float) for counts in (day, reference))
    if not p.sum() or not q.sum():
        return float("nan")
    before = np.cumsum(q) - q
    group = np.minimum((before / q.sum() * groups).astype(int), groups - 1)
    p, q = np.bincount(group, p, groups), np.bincount(group, q, groups)
    is_used = (p + q) > 0
    p, q = p[is_used] + 0.5, q[is_used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())
