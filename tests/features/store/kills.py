"""A store that is read all the time while it is killed, and what is known of it."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.lake.layout import Lake
from tests import crash
from tests.features.store import states
from tests.features.store.states import FAILED, PUBLISHED, READS, SETTLED, STOP

crash.preload("tests.features.store.states")
FAULTS = "faults"


@dataclass
class Place:
    """A store that is read all the time, and what is known of it."""

    lake: Lake
    folder: Path  # of the test's own
    numbers: Any = field(default_factory=lambda: crash.numbers(5))
    state: int = 0
    kills: int = 0

    def publish(self) -> None:
        """Publishes the next state."""
        self.state += 1
        self.numbers[PUBLISHED] = self.state
        states.publish(self.lake, self.state)

    def settle(self) -> None:
        """Notes that the published state is online for all."""
        self.numbers[SETTLED] = self.state

    def told(self) -> list[str]:
        """What the reader has found, a line a fault."""
        path = self.folder / FAULTS
        return path.read_text().splitlines()[:5] if path.exists() else []

    @contextlib.contextmanager
    def reader(self) -> Iterator[None]:
        """Reads in another process meanwhile, and has found nothing wrong in the end."""
        self.numbers[STOP] = 0
        child = crash.start(states.read_on, self.numbers, str(self.folder / FAULTS))
        try:
            end = time.monotonic() + 60
            while not self.numbers[READS] and time.monotonic() < end:
                time.sleep(0.05)
            yield
        finally:
            self.numbers[STOP] = 1
            child.join()
        assert self.told() == []
        assert child.exitcode == 0
        assert self.numbers[READS] > 0

    def report(self, what: str) -> None:
        """Prints how much was done."""
        counts = {"kills": self.kills, "reads": self.numbers[READS]}
        print(json.dumps({what: counts | {"unanswered": self.numbers[FAILED]}}))
