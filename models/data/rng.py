"""Random numbers that depend on what they are for, and on nothing else.

A number is a hash of (seed, epoch, user, purpose, index). It does not depend on the batch a user
falls into, on how batches are laid out, on the number of processes, or on what was drawn before:
a run that resumes draws what the undisturbed run would have drawn, without any saved state.
"""

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """The random numbers of B users in one epoch."""

    seed: int
    epoch: int
    users_B: np.ndarray

    def uniform(self, purpose: str, count: int) -> np.ndarray:
        """Returns float64 [B, count] in [0, 1)."""
        key = _mix(np.uint64(key_of(self.seed, self.epoch)) ^ _mix(self.users_B.astype(np.uint64)))
        key = _mix(key ^ np.uint64(zlib.crc32(purpose.encode())))
        bits = _mix(key[:, None] ^ _mix(np.arange(1, count + 1, dtype=np.uint64))[None, :])
        return (bits >> np.uint64(11)) * 2.0**-53

    def integers(self, purpose: str, below_B: np.ndarray, count: int = 1) -> np.ndarray:
        """Returns int64 [B, count], each in [0, below) of its user."""
        return (self.uniform(purpose, count) * below_B[:, None]).astype(np.int64)


def key_of(*parts: int) -> int:
    """A 64-bit hash of whole numbers, such as a seed and a step."""
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        key = _mix(key ^ _mix(np.array([part], dtype=np.uint64)))
    return int(key[0])


def _mix(x: np.ndarray) -> np.ndarray:
    """Steele, Lea and Flood's SplitMix64 (2014): a bijection whose output passes BigCrush."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
