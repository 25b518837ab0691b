"""What a plan consists of: requests for runs, and notes of what is not requested."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Literal, Protocol

# A stage that was requested and failed for `failed`; days that wait or are stopped; files refused.
Kind = Literal["works", "waits", "stopped", "refused", "missing", "partial", "failed"]


@dataclass(frozen=True)
class Request:
    """One run that is due: of which job, over which partitions, and why."""

    stage: str
    reason: str  # a sentence without its end
    key: str  # hash of what it will be made of: alike for the same request
    first: str | None = None
    last: str | None = None
    config: dict[str, dict] = field(default_factory=dict)  # of its assets, by name
    whole: bool = False  # everything of the range is built, not only what is due

    def __str__(self) -> str:
        span = f" {self.first} to {self.last}" if self.last and self.last != self.first else ""
        span = f" {self.first}" if self.first and not span else span
        return f"{self.stage}{span}: {self.reason}"


@dataclass(frozen=True)
class Note:
    """Something that is not requested, and why."""

    kind: Kind
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


@dataclass(frozen=True)
class Plan:
    """What is due of a data set now."""

    requests: list[Request] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


class History(Protocol):
    """What is known of earlier requests."""

    def running(self, stage: str) -> str | None:
        """A run of the stage that has not ended."""
        ...

    def held(self, request: Request, now: dt.datetime) -> str | None:
        """Why a request is not made again yet, in words."""
        ...

    def is_done(self, key: str) -> bool:
        """Whether a request of this key has succeeded."""
        ...


class NoHistory:
    """Where nobody asks when what was done: nothing runs, and nothing is due by the clock alone."""

    def running(self, stage: str) -> str | None:  # noqa: ARG002
        """Nothing runs."""
        return None

    def held(self, request: Request, now: dt.datetime) -> str | None:  # noqa: ARG002
        """Nothing is held."""
        return None

    def is_done(self, key: str) -> bool:  # noqa: ARG002
        """Everything is done."""
        return True
