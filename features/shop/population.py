"""Who visits the shop: age, gender, latent interests, appetite, and which of them are bots.

In: a number of users and a seed. Out: a `Population` of flat arrays, and `users.csv`. Age and
gender shape interests and are not readable from them outright: most of what a user likes is
latent.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from features.shop.products import CATEGORIES, KINDS
from features.shop.randomness import Stream, generator

LATENT = 6  # dimensions of interest
AGES = (16, 85)  # [youngest, oldest)

GENDER_STRENGTH = 0.48  # how far gender, age and the latent interests move the log interest
AGE_STRENGTH = 1.9
LATENT_STRENGTH = 0.9
AGE_WIDTH = 18.0  # years

SESSIONS_PER_DAY = 0.33  # of the mean user, before intent
ACTIVITY_SPREAD = 0.9  # sigma of the log-normal: few users make most events
APPETITE_SPREAD = 0.9  # of the log odds to put into the cart
DRIFT_DAYS = 150.0  # in which an interest turns by a right angle

BOTS_PER_USER = 0.001
JOINING_SHARE, JOINING_DAYS = 0.2, 90  # users who come only later, and over how many days

DEVICES = ("mobile", "desktop", "tablet")


@dataclass(frozen=True)
class Population:
    """The users, by number; U users, K latent dimensions, G categories."""

    woman: np.ndarray  # bool[U]
    age: np.ndarray  # int16[U]
    style: np.ndarray  # float32[U], 0 to KINDS: which product kinds appeal
    interest: np.ndarray  # float32[U, K], now
    later_interest: np.ndarray  # float32[U, K], what it turns into
    loadings: np.ndarray  # float32[G, K]
    demographic: np.ndarray  # float32[G, 2 * ages], log interest by gender and age
    activity: np.ndarray  # float32[U], sessions a day; 0 for bots
    appetite: np.ndarray  # float32[U], log odds
    joined: np.ndarray  # int16[U], the first day on which the user may come
    device: np.ndarray  # int8[U], the usual one
    bots: np.ndarray  # int32[B], their numbers, in order

    @property
    def size(self) -> int:
        """The number of users, bots included."""
        return len(self.age)

    def log_interest(self, users: np.ndarray, day: int) -> np.ndarray:
        """The log interest of users[S] in each category on a day: float32[G, S]."""
        angle = 0.5 * np.pi * day / DRIFT_DAYS
        latent = np.float32(np.cos(angle)) * self.interest[users]
        latent += np.float32(np.sin(angle)) * self.later_interest[users]
        group = self.woman[users] * np.int16(AGES[1] - AGES[0]) + (self.age[users] - AGES[0])
        shown = self.demographic[:, group]
        # Not a matrix product: BLAS rounds differently with the number of its threads.
        for loading, values in zip(self.loadings.T, np.ascontiguousarray(latent.T), strict=True):
            shown += loading[:, None] * values
        return shown


def make_population(users: int, seed: int) -> Population:
    """Draws so many users."""
    rng = generator(seed, Stream.POPULATION)
    woman = rng.random(users) < 0.53
    age = _ages(users, rng)
    bots = np.sort(rng.permutation(users)[: max(1, round(users * BOTS_PER_USER))])
    activity = rng.lognormal(-0.5 * ACTIVITY_SPREAD**2, ACTIVITY_SPREAD, users)
    activity[bots] = 0
    late = rng.random(users) < JOINING_SHARE
    youth = 1 - (age - AGES[0]) / (AGES[1] - AGES[0])
    return Population(
        woman=woman,
        age=age,
        style=(KINDS * (1 - youth + rng.normal(0, 0.18, users))).astype(np.float32),
        interest=rng.standard_normal((users, LATENT), np.float32),
        later_interest=rng.standard_normal((users, LATENT), np.float32),
        loadings=_loadings(rng),
        demographic=_demographic(rng),
        activity=(SESSIONS_PER_DAY * activity).astype(np.float32),
        appetite=rng.normal(0, APPETITE_SPREAD, users).astype(np.float32),
        joined=np.where(late, rng.integers(0, JOINING_DAYS, users), 0).astype(np.int16),
        device=np.where(rng.random(users) < 0.35 + 0.5 * youth, 0, rng.integers(1, 3, users))
        .astype(np.int8),
        bots=bots.astype(np.int32),
    )  # fmt: skip


def user_ids(numbers: np.ndarray) -> pa.StringArray:
    """The ids of users by number: u and eight digits."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
    return pc.binary_join_element_wise("u", digits, "")


def write_users(population: Population, path: Path) -> None:
    """Writes `users.csv`: user, age, gender (F or M)."""
    gender = pa.array(["M", "F"]).take(pa.array(population.woman.astype(np.int8)))
    ids = user_ids(np.arange(population.size))
    table = pa.table({"user": ids, "age": pa.array(population.age), "gender": gender})
    pyarrow.csv.write_csv(table, path)


def _ages(users: int, rng: np.random.Generator) -> np.ndarray:
    """The young shop online more: a gamma above the youngest age, median about 36."""
    years = AGES[0] + rng.gamma(2.6, 9.0, users)
    return years.clip(AGES[0], AGES[1] - 1).astype(np.int16)


def _loadings(rng: np.random.Generator) -> np.ndarray:
    shape = (len(CATEGORIES), LATENT)
    return rng.normal(0, LATENT_STRENGTH / np.sqrt(LATENT), shape).astype(np.float32)


def _demographic(rng: np.random.Generator) -> np.ndarray:
    women = np.array([category.women for category in CATEGORIES])[:, None, None]
    peak = np.array([category.age for category in CATEGORIES])[:, None, None]
    popularity = rng.normal(0, 0.4, (len(CATEGORIES), 1, 1))
    by_age = AGE_STRENGTH * np.exp(-0.5 * ((np.arange(*AGES) - peak) / AGE_WIDTH) ** 2)
    by_gender = GENDER_STRENGTH * women * np.array([-1.0, 1.0])[:, None]
    logs = popularity + by_gender + by_age  # [G, 2, ages]
    return logs.reshape(len(CATEGORIES), -1).astype(np.float32)
