"""How the log gets damaged on its way: rows arrive late, twice, or broken, at known rates.

In: a day's events. Out: the rows that arrive until the day's end, in order of arrival; what comes
later is kept for the days after. Each event has one fate, so that every count is exact.
"""

from dataclasses import replace
from enum import IntEnum

import numpy as np

from features.shop.calendar import HOUR, Calendar
from features.shop.event_arrays import Codes, Events, Rows
from features.shop.randomness import Stream, generator


class Fate(IntEnum):
    """What becomes of an event on its way."""

    ON_TIME = 0
    REPEATED = 1  # delivered twice, the same bytes
    LATE = 2  # by 2 to 46 hours
    NOT_JSON = 3  # the line is cut off
    BAD_TIMESTAMP = 4  # a date that does not exist, or null
    MISSING_USER = 5  # null
    UNKNOWN_ACTION = 6
    NEGATIVE_PRICE = 7


RATES = {
    Fate.REPEATED: 0.006,
    Fate.LATE: 0.006,
    Fate.NOT_JSON: 0.0005,
    Fate.BAD_TIMESTAMP: 0.0005,
    Fate.MISSING_USER: 0.0005,
    Fate.UNKNOWN_ACTION: 0.0005,
    Fate.NEGATIVE_PRICE: 0.0005,
}
BROKEN = tuple(fate for fate in RATES if fate >= Fate.NOT_JSON)

LATENCY = 4  # seconds: an event on time arrives sooner than that
LATE_BY = (2 * HOUR, 46 * HOUR)
REPEAT_AFTER = (1, 36 * HOUR)  # seconds from the first delivery to the second


class Delivery:
    """Delivers day after day, and holds what is under way."""

    def __init__(self, calendar: Calendar, codes: Codes, seed: int):
        self.calendar, self.codes, self.seed = calendar, codes, seed
        self._under_way: list[Rows] = []

    def day(self, day: int, events: Events) -> tuple[Rows, Rows]:
        """Takes a day's events and gives what happened to them, and what arrives by its end.

        Returns:
          The day's own events with their fates, each once; and the deliveries, in order of
          arrival. Rows that would arrive after the shop's last day arrive on time instead.
        """
        rng = generator(self.seed, Stream.DELIVERY, day)
        rows = self._send(rng, day, events)
        copies = self._again(rng, rows.take(np.flatnonzero(rows.fate == Fate.REPEATED)))
        arriving = Rows.concatenate([*self._under_way, rows, copies])
        arriving = arriving.sort_by(arriving.arrival)
        arrived = int(np.searchsorted(arriving.arrival, self.calendar.midnights[day + 1]))
        self._under_way = [arriving.take(np.arange(arrived, len(arriving)))]
        return rows, arriving.take(slice(arrived))

    def _send(self, rng: np.random.Generator, day: int, events: Events) -> Rows:
        fate = _fates(rng, len(events))
        delay = rng.integers(0, LATENCY, len(events), np.int8).astype(np.int32)
        late = np.flatnonzero(fate == Fate.LATE)
        delay[late] = _spread(rng, LATE_BY, len(late))
        in_time = late[events.second[late] + delay[late] >= self.calendar.end]
        fate[in_time], delay[in_time] = Fate.ON_TIME, 0
        return Rows(
            second=events.second,
            user=events.user,
            device=events.device,
            what=_break(fate, events.what, self.codes),
            day=np.full(len(events), day, np.int16),
            sequence=np.arange(len(events), dtype=np.int32),
            fate=fate,
            arrival=np.minimum(events.second + delay, self.calendar.end - 1),
        )

    def _again(self, rng: np.random.Generator, rows: Rows) -> Rows:
        second = rows.arrival + _spread(rng, REPEAT_AFTER, len(rows))
        return replace(rows, arrival=np.where(second < self.calendar.end, second, rows.arrival))


def _fates(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws one fate for each event: int8[count]."""
    draw = rng.random(count, np.float32)
    fate = np.zeros(count, np.int8)
    unlucky = np.flatnonzero(draw < sum(RATES.values()))
    bounds = np.cumsum(list(RATES.values()))[:-1]
    fate[unlucky] = np.array(list(RATES), np.int8)[np.searchsorted(bounds, draw[unlucky])]
    return fate


def _spread(rng: np.random.Generator, bounds: tuple[int, int], count: int) -> np.ndarray:
    """Draws seconds between bounds, log-uniform: most delays are short. int32[count]."""
    low, high = np.log(bounds)
    return np.exp(rng.uniform(low, high, count)).astype(np.int32)


def _break(fate: np.ndarray, what: np.ndarray, codes: Codes) -> np.ndarray:
    """Replaces what happened where the row is broken in that part of its text."""
    what = what.copy()
    what[fate == Fate.NOT_JSON] = codes.cut_off
    unknown, negative = fate == Fate.UNKNOWN_ACTION, fate == Fate.NEGATIVE_PRICE
    what[unknown] = codes.unknown_action(what[unknown])
    what[negative] = codes.negative_price(what[negative])
    return what
