"""Sequences of users who are in no table yet: their events as they come, in a model's vocabulary.

In: events of a few users, the data set's catalog and a checkpoint's frozen vocabulary. Out: the
arrays of training sequences, by the code that the daily ones take (encoding.py), in memory.
"""

import datetime as dt
import threading
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from contracts.base.clock import day_window
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.learning.encoding import (
    encode_past,
    load_catalog,
    load_past,
    load_vocabulary,
    read_vocabulary,
    vocabulary_arrays,
)
from features.learning.tokens import load_documents
from features.sessionization.session_pass import Pauses


class LiveEncoder:
    """Encodes events with a vocabulary and a catalog that are loaded once; one call at a time."""

    def __init__(self, dataset: Dataset, lake: Lake, vocabulary: Path) -> None:
        """Loads both.

        Args:
          dataset: of the events.
          lake: of its catalog.
          vocabulary: a `vocabulary.json` of a checkpoint.

        Raises:
          FootpathError: the vocabulary is none.
        """
        self._dataset, self._lock = dataset, threading.Lock()
        self.words = read_vocabulary(vocabulary)
        self._connection = connect()
        self._connection.execute("SET threads = 1")  # a few rows; other requests want the cores
        load_catalog(self._connection, lake.single("items"))
        load_vocabulary(self._connection, self.words)

    def encode(self, events: pa.Table) -> dict[str, np.ndarray]:
        """The arrays of users' events.

        Args:
          events: of the schema EVENTS, as the gate would publish them, in any order.
        """
        ends = _day_ends(events, self._dataset.timezone)
        with self._lock:
            connection = self._connection
            connection.register("live", events)
            load_past(connection, self._dataset, "live")
            load_documents(connection, self._dataset.learning)
            pauses = Pauses.of(self._dataset.sessions)
            _, arrays = encode_past(connection, ends, pauses, _in_memory)
            return arrays | vocabulary_arrays(connection, self.words)


def _in_memory(_: str, dtype: type, length: int) -> np.ndarray:
    return np.empty(length, dtype)


def _day_ends(events: pa.Table, timezone: str) -> np.ndarray:
    """When the local days end that have an event, in microseconds since 1970."""
    zone = ZoneInfo(timezone)
    instants: list[dt.datetime] = events["timestamp"].to_pylist()
    days = sorted({instant.astimezone(zone).date() for instant in instants})
    ends = [day_window(day, timezone)[1] for day in days]
    return np.array([round(end.timestamp()) * 1_000_000 for end in ends], np.int64)
