"""A day of events held against the published days before it: volume, users, nulls, mixes, values.

In:  what describes each day of a run (counted in the same pass as its broken rows), and the stored
descriptions of the days before, a few kilobytes each: no event is read again. Out: for each day its
figures, to be held against the bounds of `quality.profile`.

Volume and users are judged on a log scale, in robust deviations (1.4826 x median absolute
deviation), against days of the same weekday where three of them are known. Mixes and values are
judged by the Jensen-Shannon distance (validation/sketch.py), of which what the days before keep
from each other is taken off: small sources vary, and that is no news. A day of a range is held
against the earlier days of the range too, but not against those that stopped.
"""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contracts.config.policy import Quality
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json
from validation.bounds import Bound, Figures
from validation.sketch import distances, quantiles

# A day as it is described: rows, users, `present.*` (rows), `mix.*` and `bins.*` (key -> rows).
Described = Mapping[str, Any]

SHARES = (0.05, 0.5, 0.95)
# More kinds than this are put together as one: a mix is to stay small.
KINDS = 64
OTHERS = "(others)"
# Days of one weekday that tell what is usual on it.
WEEKDAYS = 3
# A source as steady as a clock may still vary by so much (on the log scale) from day to day.
LEAST_DEVIATION = 0.1

MIXES = {"mix.action": "actions", "mix.category": "categories", "bins.value": "values"}

SENTENCES = {
    "volume": "deviations of the number of rows from that of the days before",
    "volume_ratio": "the factor between the number of rows and that of the days before",
    "users": "deviations of the number of users from that of the days before",
    "actions": "the distance of the mix of actions from the days before, beyond the usual one,",
    "categories": "the distance of the mix of categories from the days before, beyond the usual "
    "one,",
    "values": "the distance of the distribution of values from the days before, beyond the usual "
    "one,",
    "value_factor": "the factor of a quantile of the values to the days before, beyond the usual "
    "one,",
}


def profile_path(lake: Lake, table: str, day: dt.date) -> Path:
    """Returns where the description of a published day lies."""
    return lake.table("profiles") / table / f"{day.isoformat()}.json"


def described(rows: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a day's description from DuckDB's aggregates, small enough to keep."""
    day: dict[str, Any] = {"rows": rows}
    for name, value in found.items():
        if name.startswith("mix."):
            day[name] = _largest(value or {})
        elif name.startswith("bins."):
            day[name] = dict(sorted((value or {}).items()))
        else:
            day[name] = value or 0
    return day


def write_description(lake: Lake, table: str, day: dt.date, found: Described) -> None:
    """Keeps the description of a day beside the published one."""
    publish_json(lake, found, profile_path(lake, table, day))


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


def bounds_of(quality: Quality, figures: Mapping[dt.date, Figures]) -> list[Bound]:
    """Returns the bounds of the figures that some day has."""
    names = sorted({name for found in figures.values() for name in found})
    bounds = []
    for name in names:
        kind, _, column = name.partition(".")
        allowed = getattr(quality.profile, kind)
        told = SENTENCES.get(name) or (
            f"the change of the share of nulls in {column}, beyond the usual one,"
        )
        for most, stops in ((allowed.stop, True), (allowed.warn, False)):
            if most is not None:
                bounds.append(Bound(name, most, stops, told))
    return bounds


def figures_of(
    quality: Quality, day: dt.date, today: Described, before: Mapping[dt.date, Described]
) -> dict[str, float]:
    """Returns what is strange about a day, in numbers; nothing while too few days are known.

    Args:
      quality: how many days count, how many there must be, and whether a day may be empty: then
        few rows are no reason to stop it.
      day: which.
      today: its description.
      before: descriptions of days; those before `config.days` days ago, and later ones, are left.
    """
    config = quality.profile
    first = day - dt.timedelta(days=config.days)
    known = {d: found for d, found in before.items() if first <= d < day}
    if len(known) < config.min_days:
        return {}
    figures = {}
    # Where days may be empty, a shop that is open says nothing of one that was closed.
    open_days = {d: f for d, f in known.items() if f.get("rows") or not quality.allow_empty_days}
    for name, key in (("volume", "rows"), ("users", "users")):
        if len(open_days) < config.min_days or (quality.allow_empty_days and not today["rows"]):
            continue
        usual, deviations = _deviations(
            day, today.get(key, 0), {d: f.get(key, 0) for d, f in open_days.items()}
        )
        figures[name] = deviations
        # Where days differ that much by nature, a factor says nothing.
        if name == "volume" and deviations > (config.volume.warn or 0):
            many, few = (today[key] + 1) / usual, usual / (today[key] + 1)
            figures["volume_ratio"] = many if quality.allow_empty_days else max(many, few)
    if not today["rows"]:
        return figures
    past = [found for found in known.values() if found.get("rows")]
    for name in (name for name in today if name.startswith("present.")):
        shares = [1 - found[name] / found["rows"] for found in past if name in found]
        if len(shares) >= config.min_days:
            share = 1 - today[name] / today["rows"]
            figures[f"nulls.{name.removeprefix('present.')}"] = _beyond(share, shares)
    for name, figure in MIXES.items():
        parts = [_coarse(name, found[name]) for found in past if found.get(name)]
        if today.get(name) and len(parts) >= config.min_days:
            found, usual = distances(_coarse(name, today[name]), parts)
            figures[figure] = max(0.0, found - _usually(usual))
    parts = [found["bins.value"] for found in past if found.get("bins.value")]
    if today.get("bins.value") and len(parts) >= config.min_days:
        logs = np.array([_signed_log(quantiles(part, SHARES)) for part in parts])
        now = _signed_log(quantiles(today["bins.value"], SHARES))
        beyond = [_beyond(value, past) for value, past in zip(now, logs.T, strict=True)]
        figures["value_factor"] = math.exp(max(beyond))
    return figures


def _beyond(value: float, before: Sequence[float]) -> float:
    """Returns how much farther a value lies from the median of the days before than is usual."""
    away = np.abs(np.asarray(before) - np.median(before))
    spread = 3 * 1.4826 * float(np.median(away))
    return max(0.0, abs(value - float(np.median(before))) - spread)


def _usually(distances: np.ndarray) -> float:
    """Returns a distance that a usual day hardly exceeds."""
    middle = float(np.median(distances))
    return middle + 3 * 1.4826 * float(np.median(np.abs(distances - middle)))


def _deviations(day: dt.date, count: int, before: Mapping[dt.date, int]) -> tuple[float, float]:
    """Returns what would be usual, and how many robust deviations a count lies from it."""
    logs = {d: math.log(n + 1) for d, n in before.items()}
    usual = {d: _usual(d, logs) for d in [*logs, day]}
    residuals = [abs(logs[d] - usual[d]) for d in logs]
    deviation = max(
        1.4826 * float(np.median(residuals)), LEAST_DEVIATION, math.exp(-usual[day] / 2)
    )
    return math.exp(usual[day]), abs(math.log(count + 1) - usual[day]) / deviation


def _usual(day: dt.date, logs: Mapping[dt.date, float]) -> float:
    """Returns the median of the days of one weekday, or of all where too few are known."""
    same = [value for d, value in logs.items() if d.weekday() == day.weekday() and d != day]
    return float(np.median(same if len(same) >= WEEKDAYS else list(logs.values())))


def _coarse(name: str, counts: Mapping) -> Mapping:
    """Returns the counts of a histogram by octave: finer bins of a day are mostly chance."""
    if not name.startswith("bins."):
        return counts
    octaves: dict[int, int] = {}
    for place, rows in counts.items():
        octaves[round(place / 8)] = octaves.get(round(place / 8), 0) + rows
    return octaves


def _signed_log(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))


def _largest(mix: Mapping[str | None, int]) -> dict[str, int]:
    """Returns the most frequent kinds, and the rest as one."""
    ordered = sorted(((n, str(kind)) for kind, n in mix.items()), reverse=True)
    kept = {kind: n for n, kind in ordered[:KINDS]}
    rest = sum(n for n, _ in ordered[KINDS:])
    return kept | ({OTHERS: rest} if rest else {})
