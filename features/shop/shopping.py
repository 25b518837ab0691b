"""What users do in a day: sessions, made of hunts, made of events.

In: catalog, population, calendar, and the intent that each user carries over from yesterday.
Out: one day's events in order of time. A *hunt* is the pursuit of one product kind:
[search] view+ [add to cart [purchase]]. Views step from an item to a similar one or start afresh
by popularity; the item that goes into the cart is the last one viewed. An unfinished hunt leaves
*heat*, which brings the user back soon, to the same category, readier to buy; a purchase cools it.

Everything is drawn per block of users from a stream keyed by (seed, day, block), so that a day
costs memory for its own events only and a longer shop begins with the same days. Legend of shapes:
U users of a block, S sessions, H hunts, N events.
"""

from dataclasses import dataclass

import numpy as np

from features.shop.bots import bot_events
from features.shop.calendar import Calendar
from features.shop.event_arrays import Codes, Events
from features.shop.population import DEVICES, Population
from features.shop.products import KINDS, Catalog, season
from features.shop.randomness import Stream, generator

BLOCK = 1 << 16  # users drawn together; part of what a seed means

# Monday to Sunday: how much of a mean day's traffic each has.
WEEKDAYS = np.array([0.93, 0.88, 0.90, 0.94, 0.98, 1.10, 1.27])
# Midnight to midnight, by hour: when sessions start on workdays and at weekends.
WORKDAY_HOURS = np.array([8, 4, 2, 2, 2, 4, 12, 24, 28, 26, 26, 30, 44, 40, 30, 28, 32, 42, 52, 64,
                          72, 66, 42, 20])  # fmt: skip
WEEKEND_HOURS = np.array([12, 6, 3, 2, 2, 2, 4, 10, 24, 44, 56, 60, 56, 52, 54, 56, 56, 56, 56, 60,
                          64, 56, 36, 18])  # fmt: skip

COOLING = 0.72  # of heat, a day
SPARK, SPARK_CHANCE = 2.0, 0.03  # heat out of nothing: a birthday, a broken kettle
ABANDONED_CART, HOTTEST = 1.0, 4.0
AFTER_PURCHASE = 0.25

LAST_HUNT, LAST_VIEW = 0.5, 0.3  # chances that a session, a hunt, goes no further
SEARCHED = 0.4  # of the hunts begin with a search
ELSEWHERE = 0.3  # of the hunts leave the session's main category
AFRESH = 0.6  # of the views do not step on from the one before
CART_LOG_ODDS, CART_HEAT = -2.3, 0.45
PURCHASE_LOG_ODDS, PURCHASE_HEAT = -0.6, 0.35
PAUSE, SHORTEST_PAUSE = 32.0, 3  # seconds between events: mean beyond the shortest, and that
USUAL_DEVICE = 0.85


@dataclass(frozen=True)
class Sessions:
    """The sessions of a block's day."""

    user: np.ndarray  # int32[S]
    start: np.ndarray  # int32[S], second of the shop
    category: np.ndarray  # int8[S], the main one
    other: np.ndarray  # int8[S]
    heat: np.ndarray  # float32[S]
    device: np.ndarray  # int8[S]


@dataclass(frozen=True)
class Hunts:
    """The hunts of those sessions, in order."""

    session: np.ndarray  # int32[H]
    cell: np.ndarray  # int32[H]
    searched: np.ndarray  # bool[H]
    views: np.ndarray  # int32[H]
    carted: np.ndarray  # bool[H]
    bought: np.ndarray  # bool[H]

    @property
    def length(self) -> np.ndarray:
        """Events of each hunt: int32[H]."""
        return self.views + self.searched + self.carted + self.bought


class Behavior:
    """Draws day after day. Days must be asked for in order, for intent carries over."""

    def __init__(self, catalog: Catalog, population: Population, calendar: Calendar, seed: int):
        self.catalog, self.population, self.calendar = catalog, population, calendar
        self.codes = Codes(catalog.size)
        self.seed = seed
        self._heat = np.full(population.size, 0.25, np.float32)
        self._category = np.full(population.size, -1, np.int8)  # of the last session

    def day(self, day: int) -> Events:
        """The events of the sessions that start on a day, in order of time.

        A session may run past midnight; past the shop's end it is cut off.
        """
        blocks = [
            self._block(slice(first, first + BLOCK), day, number)
            for number, first in enumerate(range(0, self.population.size, BLOCK))
        ]
        bots = bot_events(self.catalog, self.population, self.calendar, day, self.seed)
        events = Events.concatenate([*blocks, bots])
        if day == self.calendar.days - 1:
            events = events.take(np.flatnonzero(events.second < self.calendar.end))
        return events.sort_by(events.second)

    def _block(self, block: slice, day: int, number: int) -> Events:
        rng = generator(self.seed, Stream.BEHAVIOR, day, number)
        sessions = self._sessions(rng, block, day)
        hunts = _hunts(rng, sessions, self.population)
        self._remember(sessions, hunts)
        return self._events(rng, sessions, hunts, day)

    def _sessions(self, rng: np.random.Generator, block: slice, day: int) -> Sessions:
        population, weekday = self.population, self.calendar.date(day).weekday()
        heat = self._heat[block]
        heat *= COOLING
        heat += SPARK * (rng.random(len(heat), np.float32) < SPARK_CHANCE)
        np.minimum(heat, HOTTEST, out=heat)
        rate = population.activity[block] * WEEKDAYS[weekday] * (0.7 + 0.6 * heat)
        count = rng.poisson(rate * (population.joined[block] <= day))
        user = np.repeat(np.arange(block.start, block.start + len(heat), dtype=np.int32), count)
        category, other = self._categories(rng, user, day)
        hot = self._heat[user]
        again = rng.random(len(user), np.float32) < hot / (0.8 + hot)
        last = self._category[user]
        usual = rng.random(len(user), np.float32) < USUAL_DEVICE
        any_device = rng.integers(0, len(DEVICES), len(user), np.int8)
        return Sessions(
            user=user,
            start=self._starts(rng, len(user), day, weekday),
            category=np.where(again & (last >= 0), last, category),
            other=other,
            heat=hot,
            device=np.where(usual, population.device[user], any_device),
        )

    def _categories(
        self, rng: np.random.Generator, user: np.ndarray, day: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws two categories for each session from its user's interests: int8[S] each."""
        interest = self.population.log_interest(user, day)
        interest += season(self.calendar.date(day).timetuple().tm_yday)[:, None]
        cumulative = np.cumsum(np.exp(interest, out=interest), axis=0, out=interest)
        draws = rng.random((2, len(user)), np.float32) * cumulative[-1]
        first, second = ((cumulative[:-1] < draw).sum(axis=0, dtype=np.int8) for draw in draws)
        return first, second

    def _starts(self, rng: np.random.Generator, count: int, day: int, weekday: int) -> np.ndarray:
        """Draws when sessions start: int32[S]. A day of 23 or 25 hours is squeezed or stretched."""
        hours = WEEKEND_HOURS if weekday >= 5 else WORKDAY_HOURS
        cumulative = np.concatenate([[0], np.cumsum(hours)]) / hours.sum()
        part = np.interp(rng.random(count), cumulative, np.arange(25) / 24)
        begin, end = self.calendar.midnights[day : day + 2]
        return (begin + part * (end - begin)).astype(np.int32)

    def _remember(self, sessions: Sessions, hunts: Hunts) -> None:
        """Lets carts heat, purchases cool, and the last category stay in mind."""
        user = sessions.user[hunts.session]
        left = user[hunts.carted & ~hunts.bought]
        self._heat[left] = np.minimum(self._heat[left] + ABANDONED_CART, HOTTEST)
        buyers = np.unique(user[hunts.bought])
        self._heat[buyers] *= AFTER_PURCHASE
        self._category[sessions.user] = sessions.category

    def _events(
        self, rng: np.random.Generator, sessions: Sessions, hunts: Hunts, day: int
    ) -> Events:
        length = hunts.length
        first = np.cumsum(length, dtype=np.int32) - length  # event that each hunt begins with
        slot = self._slots(rng, hunts, first, day)
        what = self.codes.view(slot)
        what[first[hunts.searched]] = self.codes.search(
            hunts.cell[hunts.searched] * KINDS + rng.integers(0, KINDS, hunts.searched.sum())
        )
        cart = (first + hunts.searched + hunts.views)[hunts.carted]
        what[cart] = self.codes.add_to_cart(slot[cart - 1])
        buy = (first + length - 1)[hunts.bought]
        what[buy] = self.codes.purchase(slot[buy - 2])
        session_length = np.bincount(hunts.session, length, len(sessions.user)).astype(np.int32)
        return Events(
            second=_seconds(rng, sessions.start, session_length),
            user=np.repeat(sessions.user, session_length),
            device=np.repeat(sessions.device, session_length),
            what=what,
        )

    def _slots(
        self, rng: np.random.Generator, hunts: Hunts, first: np.ndarray, day: int
    ) -> np.ndarray:
        """Draws the item of every event as if it were a view: its slot, int32[N]."""
        length = hunts.length
        size = np.repeat(self.catalog.cell_size[hunts.cell], length)
        popular = (size + np.float32(1)) ** rng.random(len(size), np.float32) - 1  # Zipf by rank
        rotation = np.repeat(self.catalog.rotation(day)[hunts.cell], length)
        place = popular.astype(np.int32) - rotation
        afresh = rng.random(len(size), np.float32) < AFRESH
        afresh[first] = True
        step = rng.integers(1, 4, len(size), np.int8)  # one to three further in the row
        step[afresh] = 0
        walked = np.cumsum(step, dtype=np.int32)
        anchor = np.maximum.accumulate(np.where(afresh, np.arange(len(size), dtype=np.int32), 0))
        place = (place[anchor] + walked - walked[anchor]) % size
        return np.repeat(self.catalog.cell_start[hunts.cell], length) + place


def _hunts(rng: np.random.Generator, sessions: Sessions, population: Population) -> Hunts:
    count = rng.geometric(LAST_HUNT, len(sessions.user))
    session = np.repeat(np.arange(len(count), dtype=np.int32), count)
    total = len(session)
    elsewhere = rng.random(total, np.float32) < ELSEWHERE
    category = np.where(elsewhere, sessions.other[session], sessions.category[session])
    user = sessions.user[session]
    taste = population.style[user] + 0.8 * rng.standard_normal(total, np.float32)
    kind = np.floor(taste).clip(0, KINDS - 1).astype(np.int32)
    heat = sessions.heat[session]
    wish = population.appetite[user]
    carted = _chance(rng, CART_LOG_ODDS + wish + CART_HEAT * heat)
    bought = carted & _chance(rng, PURCHASE_LOG_ODDS + 0.5 * wish + PURCHASE_HEAT * heat)
    return Hunts(
        session=session,
        cell=category.astype(np.int32) * KINDS + kind,
        searched=rng.random(total, np.float32) < SEARCHED,
        views=rng.geometric(LAST_VIEW, total).astype(np.int32),
        carted=carted,
        bought=bought,
    )


def _chance(rng: np.random.Generator, log_odds: np.ndarray) -> np.ndarray:
    """Tosses one coin for each of the log odds."""
    return rng.random(len(log_odds), np.float32) * (1 + np.exp(-log_odds)) < 1


def _seconds(rng: np.random.Generator, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Draws the second of every event of sessions[S] that start so and are so long: int32[N]."""
    pause = (rng.standard_exponential(int(length.sum()), np.float32) * PAUSE).astype(np.int32)
    pause += SHORTEST_PAUSE
    elapsed = np.cumsum(pause, dtype=np.int32)
    first = np.cumsum(length, dtype=np.int32) - length
    return elapsed + np.repeat(start - elapsed[first], length)
