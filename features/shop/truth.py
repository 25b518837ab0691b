"""What the shop put into its files, counted exactly, so that tests can check what others find."""

import datetime as dt
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from features.shop.delivery import BROKEN, RATES, Fate
from features.shop.event_arrays import Rows

FORMAT = 1  # raised when the same arguments come to mean different files


@dataclass(frozen=True)
class ShopTruth:
    """The counts of one generated shop; `truth.json` holds the same.

    lines = events + repeated + the sum of malformed.
    """

    users: int
    days: int
    seed: int
    start: str  # ISO date of the first local day
    format: int
    items: int
    lines: int  # in all files
    events: int  # well-formed, each counted once
    repeated: int  # second deliveries of an event, the same bytes
    late: int  # events whose only delivery lies in a file that begins an hour or more after them
    malformed: dict[str, int]  # by kind: each such row is delivered once, on time
    bots: list[str]  # user ids
    bot_events: int  # of the events
    rates: dict[str, float]  # of the events drawn, by fate
    files: dict[str, int]  # lines by path below the folder
    by_day: dict[str, dict[str, int]]  # events, repeated, malformed (dated ones) by local day

    def is_of(self, users: int, days: int, seed: int, start: dt.date) -> bool:
        """Whether these arguments would give this shop."""
        mine = (self.users, self.days, self.seed, self.start, self.format)
        return mine == (users, days, seed, start.isoformat(), FORMAT)

    def write(self, folder: Path) -> None:
        """Writes truth.json."""
        (folder / "truth.json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "ShopTruth | None":
        """Reads truth.json; none where there is none, or none of this format."""
        try:
            return cls(**json.loads((folder / "truth.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass
class Count:
    """Counts fates as the days go by."""

    days: int
    fates: np.ndarray = field(init=False)  # int64[days, fates], by local day
    bot_events: int = 0
    files: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fates = np.zeros((self.days, len(Fate)), np.int64)

    def add(self, rows: Rows, local_day: np.ndarray, bots: np.ndarray) -> None:
        """Counts rows[N] with their fates, each once; bots are user numbers in order."""
        cell = local_day * len(Fate) + rows.fate
        self.fates += np.bincount(cell, minlength=self.fates.size).reshape(self.fates.shape)
        place = np.searchsorted(bots, rows.user).clip(max=len(bots) - 1)
        self.bot_events += int(((bots[place] == rows.user) & (rows.fate < Fate.NOT_JSON)).sum())

    def by_day(self, dates: list[dt.date]) -> dict[str, dict[str, int]]:
        """What a reader of each event day should find."""
        dated = [fate for fate in BROKEN if fate not in (Fate.NOT_JSON, Fate.BAD_TIMESTAMP)]
        return {
            date.isoformat(): {
                "events": int(fates[: Fate.NOT_JSON].sum()),
                "repeated": int(fates[Fate.REPEATED]),
                "malformed": int(fates[dated].sum()),
            }
            for date, fates in zip(dates, self.fates, strict=True)
        }

    def total(self, fate: Fate) -> int:
        """How many events had a fate."""
        return int(self.fates[:, fate].sum())


def rates() -> dict[str, float]:
    """The rates at which fates are drawn, by lower-case name."""
    return {fate.name.lower(): rate for fate, rate in RATES.items()}
