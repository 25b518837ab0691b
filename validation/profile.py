"""A day of events held against the published days before it: volume, users, nulls, mixes, values.

In:  what describes each day of a run (counted in the same pass as its broken rows), and the stored
descriptions of the days before, a few kilobytes each: no event is read again. Out: for each day
its figures and those bounds of `quality.profile` that it breaks, in sentences; and the same as
columns of a frame, over which Great Expectations judges them again. A figure that is missing keeps
every bound.

Volume and users are judged on a log scale, in robust deviations (1.4826 x median absolute
deviation), against days of the same weekday where three of them are known. Mixes and values are
judged by the Jensen-Shannon distance (validation/descriptions.py), of which what the days before
keep from each other is taken off: small sources vary, and that is no news. A day of a range is held
against the earlier days of the range too, but not against those that stopped.
"""

import datetime as dt
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from contracts.config.policy import Quality
from validation.descriptions import Described, distances, quantiles

Figures = Mapping[str, float]

SHARES = (0.05, 0.5, 0.95)
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


@dataclass(frozen=True)
class Bound:
    """The most that a figure of a day may be."""

    figure: str
    most: float
    stops: bool  # the day; otherwise it is said, and the day goes on
    sentence: str  # what the figure means

    @property
    def name(self) -> str:
        """How the bound is called among the rules."""
        return f"{self.figure} {'stop' if self.stops else 'warn'}"


@dataclass(frozen=True)
class DayFrame:
    """Days with their figures, and the bounds of these."""

    figures: Mapping[dt.date, Figures]
    bounds: list[Bound]

    @property
    def table(self) -> pa.Table:
        """One row a day: `day`, and a column for every figure that has a bound."""
        names = sorted({bound.figure for bound in self.bounds})
        columns = {
            name: pa.array([_known(found.get(name)) for found in self.figures.values()], "double")
            for name in names
        }
        return pa.table({"day": [str(day) for day in self.figures], **columns})

    def broken(self, day: dt.date) -> list[Bound]:
        """The bounds that a day breaks."""
        found = self.figures[day]
        return [b for b in self.bounds if (_known(found.get(b.figure)) or 0) > b.most]

    def outside(self) -> Counter[str]:
        """Counts the days that break each bound, by its name."""
        return Counter(bound.name for day in self.figures for bound in self.broken(day))


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def bounds_of(quality: Quality, figures: Mapping[dt.date, Figures]) -> list[Bound]:
    """The bounds of the figures that some day has."""
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
    """What is strange about a day, in numbers; nothing while too few days are known.

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
    """How much farther a value lies from the median of the days before than is usual."""
    middle = statistics.median(map(float, before))
    spread = 3 * 1.4826 * statistics.median(abs(float(known) - middle) for known in before)
    return max(0.0, abs(value - middle) - spread)


def _usually(distances: np.ndarray) -> float:
    """A distance that a usual day hardly exceeds."""
    middle = float(np.median(distances))
    return middle + 3 * 1.4826 * float(np.median(np.abs(distances - middle)))


def _deviations(day: dt.date, count: int, before: Mapping[dt.date, int]) -> tuple[float, float]:
    """What would be usual, and how many robust deviations a count lies from it."""
    logs = {d: math.log(n + 1) for d, n in before.items()}
    usual = {d: _usual(d, logs) for d in [*logs, day]}
    residuals = [abs(logs[d] - usual[d]) for d in logs]
    deviation = max(
        1.4826 * statistics.median(residuals), LEAST_DEVIATION, math.exp(-usual[day] / 2)
    )
    return math.exp(usual[day]), abs(math.log(count + 1) - usual[day]) / deviation


def _usual(day: dt.date, logs: Mapping[dt.date, float]) -> float:
    """The median of the days of one weekday, or of all where too few are known."""
    same = [value for d, value in logs.items() if d.weekday() == day.weekday() and d != day]
    return statistics.median(same if len(same) >= WEEKDAYS else logs.values())


def _coarse(name: str, counts: Mapping) -> Mapping:
    """The counts of a histogram by octave: finer bins of a day are mostly chance."""
    if not name.startswith("bins."):
        return counts
    octaves: dict[int, int] = {}
    for place, rows in counts.items():
        octaves[round(place / 8)] = octaves.get(round(place / 8), 0) + rows
    return octaves


def _signed_log(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))
