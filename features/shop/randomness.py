"""Random streams that depend on what they are for, never on what was drawn before."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random stream is for."""

    CATALOG = 1
    POPULATION = 2
    BEHAVIOR = 3
    BOTS = 4
    DELIVERY = 5


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of (seed, stream, key): always the same one, in any order of calls."""
    sequence = np.random.SeedSequence([seed, int(stream), *key])
    return np.random.Generator(np.random.SFC64(sequence))
