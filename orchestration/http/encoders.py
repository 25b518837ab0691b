"""Model versions that are ready to encode a user by raw events, as the daily embedding does.

PyTorch is loaded with the first of them. One call at a time each: the texts of a request are
attached to the model.
"""

import datetime as dt
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import version_named
from contracts.recipes.checkpoint import TaskFacts
from features.learning.live import LiveEncoder
from orchestration.http.histories import EventGate, looked_at
from orchestration.http.questions import RawEvent

if TYPE_CHECKING:
    from models.encoder import Encoder


@dataclass(frozen=True)
class EncodedUser:
    """One user: a vector, and of a task model what it predicts."""

    vector: np.ndarray  # float32 [dim]
    predicted: np.ndarray | None  # float32 [values]; none too where events do not suffice
    as_of: dt.datetime


@dataclass(frozen=True)
class OpenEncoder:
    """A checkpoint, its vocabulary, the catalog, and the gate of events."""

    gate: EventGate
    live: LiveEncoder
    model: "Encoder"
    lock: threading.Lock

    @classmethod
    def open(cls, dataset: Dataset, lake: Lake, version: str) -> "OpenEncoder":
        """Loads a model version.

        Raises:
          FootpathError: it is not there, or is damaged.
        """
        import torch

        from models.checkpoint import VOCABULARY
        from models.encoder import Encoder
        from models.experiments.cells import local_model
        from models.runtime.device import prepare

        folder = local_model(lake, version_named(lake, version).trial)
        device = prepare("cpu", threads=1)  # the processes of the service share the cores
        with torch.no_grad():
            model = Encoder.load(folder, device)
        live = LiveEncoder(dataset, lake, folder / VOCABULARY)
        return cls(EventGate(dataset), live, model, threading.Lock())

    @property
    def task(self) -> TaskFacts | None:
        """What the model predicts, if anything."""
        return self.model.task

    def encode(self, events: Sequence[RawEvent], as_of: str | None) -> EncodedUser:
        """Encodes one user.

        Raises:
          Refusal: the events would not pass the gate, or are not before `as_of`.
        """
        from models.data.sequences import sequences_of

        table = self.gate.table(events)
        instant = looked_at(table, as_of)
        sequences = sequences_of(self.live.encode(table), self.live.words, instant)
        with self.lock:
            encoded = self.model.encode(sequences, np.zeros(1, np.int64), int(instant.timestamp()))
            (_, found), *_ = encoded
        predicted = None
        if found.predicted_nC is not None and np.isfinite(found.predicted_nC[0]).all():
            predicted = found.predicted_nC[0]
        return EncodedUser(found.vectors_nD[0], predicted, instant)
