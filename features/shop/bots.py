"""Bots: a few accounts that walk through the catalog at a steady pace for days on end.

Their events never leave a gap long enough to end a session, which is what the bot rule of
sessions is for.
"""

import numpy as np

from features.shop.calendar import Calendar
from features.shop.event_arrays import Codes, Events
from features.shop.population import DEVICES, Population
from features.shop.products import Catalog
from features.shop.randomness import Stream, generator

SHORTEST, LONGEST = 120, 420  # seconds from one event of a bot to the next
SPELL, REST = 4, 17  # days at work, then days off
STAGGER = 7  # days over which the bots' spells are spread


def is_at_work(bot: np.ndarray, day: int) -> np.ndarray:
    """Which bots, by their place among the bots, work on a day; the first does on day 0."""
    since = day - bot % STAGGER
    return (since >= 0) & (since % (SPELL + REST) < SPELL)


def bot_events(
    catalog: Catalog, population: Population, calendar: Calendar, day: int, seed: int
) -> Events:
    """The bots' events of a day, bot after bot."""
    rng = generator(seed, Stream.BOTS)
    pace = rng.integers(SHORTEST, LONGEST, len(population.bots))
    entry = rng.integers(0, catalog.size, len(population.bots))
    working = np.flatnonzero(is_at_work(np.arange(len(population.bots)), day))
    begin, end = calendar.midnights[day : day + 2]
    count = (end - begin) // pace[working]
    bot = np.repeat(working, count)
    nth = np.arange(len(bot)) - np.repeat(np.cumsum(count) - count, count)
    jitter = generator(seed, Stream.BOTS, day).integers(0, SHORTEST // 2, len(bot))
    slot = (entry[bot] + day * (end - begin) // pace[bot] + nth) % catalog.size
    return Events(
        second=(begin + nth * pace[bot] + jitter).astype(np.int32),
        user=population.bots[bot],
        device=np.full(len(bot), DEVICES.index("desktop"), np.int8),
        what=Codes(catalog.size).view(slot.astype(np.int32)),
    )
