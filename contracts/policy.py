"""The YAML's sections on what becomes of events: sessions, and what the gate lets through."""

from pydantic import Field

from contracts.fields import Strict


class Sessions(Strict):
    """When a run of events ends."""

    gap_minutes: int = Field(30, ge=1, le=24 * 60)


class Lateness(Strict):
    """How late a row may come: a late row makes its day, and what follows, due for a rebuild."""

    allowed_days: int | None = Field(
        None,
        ge=0,
        description="rows of a day that lies more than this before the day on which their file "
        "arrived are quarantined as too_late; without it every late row is taken",
    )


class Quality(Strict):
    """What the gate lets through."""

    max_broken_share: float = Field(
        0.05, ge=0, le=1, description="rows of a day that may be quarantined before the day stops"
    )
    allow_empty_days: bool = Field(
        False, description="true where the source really has days without an event"
    )
    min_value: float | None = None
    max_value: float | None = None
