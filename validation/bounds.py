"""Figures of days, one row a day, and the bounds that they must keep.

In:  for each day some figures, such as the share of broken rows or how far its volume lies from the
days before. Out: which bounds each day breaks, in sentences; and the same as columns of a frame,
over which Great Expectations judges them again. A figure that is missing keeps every bound.
"""

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

Figures = Mapping[str, float]


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
        """Returns the bounds that a day breaks."""
        found = self.figures[day]
        return [b for b in self.bounds if (_known(found.get(b.figure)) or 0) > b.most]

    def outside(self) -> Counter[str]:
        """Counts the days that break each bound, by its name."""
        return Counter(bound.name for day in self.figures for bound in self.broken(day))


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
