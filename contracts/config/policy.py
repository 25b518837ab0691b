"""The YAML's sections on what becomes of events: sessions, and what the gate lets through."""

import datetime as dt
import re
from typing import Annotated, Literal

import duckdb
from pydantic import Field, model_validator

from contracts.base.schema import Name, Strict


class Sessions(Strict):
    """What a session is: a run of events without a gap, or those of one id of the source."""

    by: Literal["gap", "source"] = Field(
        "gap", description="source: a user's events of one events.session_id are a session"
    )
    gap_minutes: int = Field(
        30, ge=1, le=24 * 60, description="a longer gap ends a session of events without an id"
    )
    open_minutes: int | None = Field(
        None,
        ge=1,
        le=24 * 60,
        description="by source: how long a session waits for its next event before it closes, "
        "and days look back; an id that comes again later begins another one. By default 1440",
    )

    @property
    def gap(self) -> dt.timedelta:
        """The longest pause within a session of events without an id."""
        return dt.timedelta(minutes=self.gap_minutes)

    @property
    def opens(self) -> dt.timedelta:
        """The longest pause within a session of the source."""
        return dt.timedelta(minutes=self.open_minutes or 24 * 60)

    @property
    def longest(self) -> dt.timedelta:
        """The longest pause within any session."""
        return max(self.gap, self.opens) if self.by == "source" else self.gap

    @model_validator(mode="after")
    def _waits_by_source(self) -> "Sessions":
        if self.open_minutes and self.by != "source":
            raise ValueError("open_minutes goes with by: source; by gap, gap_minutes is all")
        return self


class Lateness(Strict):
    """How late a row may come: a late row makes its day, and what follows, due for a rebuild."""

    allowed_days: int | None = Field(
        None,
        ge=0,
        description="rows of a day that lies more than this before the day on which their file "
        "arrived are quarantined as too_late; without it every late row is taken",
    )


class Bound(Strict):
    """How far a figure of a day may lie from the days before it; no number: not judged."""

    warn: float | None = Field(None, gt=0, description="beyond it the day is published, and said")
    stop: float | None = Field(None, gt=0, description="beyond it the day is not published")


class Profile(Strict):
    """What a day of events is held against: the published days before it."""

    days: int = Field(28, ge=7, le=366, description="trailing days that a day is held against")
    min_days: int = Field(7, ge=3, description="with fewer of them published, nothing is judged")
    volume: Bound = Bound(warn=5.0)
    volume_ratio: Bound = Bound(stop=20.0)
    users: Bound = Bound(warn=5.0)
    nulls: Bound = Bound(warn=0.2)
    actions: Bound = Bound(warn=0.2)
    categories: Bound = Bound(warn=0.3)
    values: Bound = Bound(warn=0.3)
    value_factor: Bound = Bound(warn=3.0)


class Drift(Strict):
    """When behavior features of a day are said to have drifted from the days before it."""

    days: int = Field(28, ge=7, le=366, description="trailing days that make the reference")
    min_days: int = Field(7, ge=1, description="with fewer of them published, nothing is judged")
    psi: float = Field(0.25, gt=0, description="population stability index that is a warning")


class Expect(Strict):
    """What a column of the events must be, beyond what holds for every source."""

    column: str = Field(
        pattern=r"^(event_id|user_id|item_id|session_id|value|properties\.[a-z][a-z0-9_]*)$",
        description="a column of the events, or properties.<key>",
    )
    actions: list[Name] = Field([], description="only events of these actions; none: all events")
    required: bool = False
    one_of: list[str] = Field([])
    matches: str | None = Field(None, description="regular expression that the whole text fits")
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Expect":
        is_number = self.column == "value"
        if is_number and (self.one_of or self.matches):
            raise ValueError("value is a number: it takes required, min and max")
        if not is_number and (self.min is not None or self.max is not None):
            raise ValueError(f"{self.column} is a text: it takes required, one_of and matches")
        if not (self.required or self.one_of or self.matches) and self.min is self.max is None:
            raise ValueError(f"nothing is expected of {self.column}")
        if self.matches and (fault := _regex_fault(self.matches)):
            raise ValueError(f"matches of {self.column} is no regular expression: {fault}")
        return self


def _regex_fault(pattern: str) -> str | None:
    """Tells why one of the two engines that apply a pattern does not know it."""
    try:
        re.compile(pattern)
        duckdb.execute("SELECT regexp_full_match('', ?)", [pattern]).fetchall()
    except (re.error, duckdb.Error) as error:
        return str(error).splitlines()[0]
    return None


class Quality(Strict):
    """What the gate lets through, what it puts into quarantine, and what stops a day."""

    max_broken_share: float = Field(
        0.05, ge=0, le=1, description="rows of a day that may be quarantined before the day stops"
    )
    rules: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description="rule -> share of a day's rows that may break it; 0: one stops the day"
    )
    max_refused_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="rows of a landing file that may be unreadable or undated before it is refused",
    )
    allow_empty_days: bool = Field(
        False, description="true where the source really has days without an event"
    )
    min_value: float | None = None
    max_value: float | None = None
    expect: list[Expect] = Field([])
    profile: Profile = Profile()
    drift: Drift = Drift()
