"""The whole shop, day after day, into a folder that appears in one step.

In: the arguments of `generate_shop`. Out: the folder that the package's docstring describes.
Days are drawn in order and written hour by hour; nothing but the users and the rows under way is
kept, so memory grows with users and with events a day, not with days.
"""

import datetime as dt
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from contracts.base.errors import FootpathError
from features.shop.calendar import HOUR, Calendar
from features.shop.delivery import BROKEN, Delivery, Fate
from features.shop.event_arrays import Codes, Rows
from features.shop.folder import appearing, is_finished
from features.shop.gzip_files import HourFiles
from features.shop.json_lines import Lines
from features.shop.population import make_population, user_ids, write_users
from features.shop.products import item_count, make_catalog, write_items
from features.shop.shopping import Behavior
from features.shop.truth import FORMAT, Count, ShopTruth, rates

MOST_USERS = 10_000_000
MOST_DAYS = 3650


def generate_shop(
    folder: Path,
    users: int,
    days: int,
    seed: int = 0,
    start: dt.date = dt.date(2026, 1, 1),
    progress: Callable[[int, int], None] | None = None,
) -> ShopTruth:
    """Fills a folder with the landing files of a synthetic shop.

    The same arguments give the same bytes (on the same NumPy and kind of processor), whatever the
    machine's memory and cores; a longer shop begins with the files of a shorter one, up to the
    last two days of the latter. A folder that already holds the shop asked for is left as it is.

    Args:
      folder: made, or replaced where it holds another shop; appears complete or not at all.
      users: how many, bots among them.
      days: how many local days (Europe/Berlin) from start.
      seed: not negative.
      start: the first local day.
      progress: called with (days done, days) after each day.

    Returns:
      What was put in, counted.

    Raises:
      FootpathError: an argument is out of range, the folder holds something else, or another
        process is filling it.
    """
    _check(users, days, seed)
    found = ShopTruth.read(folder)
    if found and found.is_of(users, days, seed, start) and is_finished(folder, found):
        return found
    with appearing(folder) as work:
        calendar = Calendar(start, days)
        truth = _fill(work, calendar, users, seed, progress or (lambda _done, _days: None))
        truth.write(work)
    return truth


def _fill(
    folder: Path, calendar: Calendar, users: int, seed: int, progress: Callable[[int, int], None]
) -> ShopTruth:
    catalog = make_catalog(item_count(users), seed)
    population = make_population(users, seed)
    write_items(catalog, folder / "items.csv")
    write_users(population, folder / "users.csv")
    behavior = Behavior(catalog, population, calendar, seed)
    delivery = Delivery(calendar, Codes(catalog.size), seed)
    lines, count = Lines(catalog, calendar), Count(calendar.days)
    with HourFiles() as files:
        for day in range(calendar.days):
            sent, arrived = delivery.day(day, behavior.day(day))
            count.add(sent, calendar.local(sent.second)[0], population.bots)
            paths, cuts = by_hour(arrived, calendar)
            count.files |= dict(zip(paths, np.diff(cuts).tolist(), strict=True))
            for file, pieces in groupby(lines.encode(arrived, cuts), itemgetter(0)):
                files.write(folder / paths[file], [text for _, text in pieces])
            progress(day + 1, calendar.days)
    bots = user_ids(population.bots).to_pylist()
    return _truth(calendar, count, users, seed, catalog.size, bots)


def _truth(
    calendar: Calendar, count: Count, users: int, seed: int, items: int, bots: list[str]
) -> ShopTruth:
    return ShopTruth(
        users=users,
        days=calendar.days,
        seed=seed,
        start=calendar.start.isoformat(),
        format=FORMAT,
        items=items,
        lines=sum(count.files.values()),
        events=sum(count.total(fate) for fate in (Fate.ON_TIME, Fate.REPEATED, Fate.LATE)),
        repeated=count.total(Fate.REPEATED),
        late=count.total(Fate.LATE),
        malformed={fate.name.lower(): count.total(fate) for fate in BROKEN},
        bots=bots,
        bot_events=count.bot_events,
        rates=rates(),
        files=count.files,
        by_day=count.by_day([calendar.date(day) for day in range(calendar.days)]),
    )


def by_hour(rows: Rows, calendar: Calendar) -> tuple[list[str], np.ndarray]:
    """Cuts rows[N] in order of arrival into F files, one an hour in which anything arrived.

    Returns:
      The files' paths below the shop's folder, and where each begins and the last ends.
    """
    hours = rows.arrival // HOUR
    starts = np.flatnonzero(np.diff(hours, prepend=-1))
    instants = [calendar.hour(hour) for hour in hours[starts].tolist()]
    paths = [f"events/{instant:%Y-%m-%d/%H}.jsonl.gz" for instant in instants]
    return paths, np.append(starts, len(rows))


def _check(users: int, days: int, seed: int) -> None:
    if not 1 <= users <= MOST_USERS:
        raise FootpathError(f"users is {users}: give a number from 1 to {MOST_USERS:,}")
    if not 1 <= days <= MOST_DAYS:
        raise FootpathError(f"days is {days}: give a number from 1 to {MOST_DAYS:,}")
    if seed < 0:
        raise FootpathError(f"seed is {seed}: give a number that is not negative")
