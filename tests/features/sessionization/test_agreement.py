"""How far a gap and the source's own ids let sessions begin alike is counted over every event."""

import datetime as dt

import pytest

from contracts.lake.layout import Lake
from features.sessionization import agreement as module
from features.sessionization.agreement import agreement_of_days
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events

DAY = dt.date(2026, 3, 10)
NIGHT = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
SHOP = dataset_like("shop", timezone="UTC")


def log(user: str, *events: tuple[int, str | None]) -> list[Event]:
    """Events so many minutes after midnight, each with the source's session."""
    return [
        Event(user, NIGHT + dt.timedelta(minutes=m), f"{m:+05}", session_id=source)
        for m, source in events
    ]


def test_events_are_counted_on_which_both_say_that_a_session_begins_or_goes_on(lake_home):
    lake = Lake.of("shop")
    ann = log("ann", (-10, "a"), (5, "a"), (50, "a"), (60, "b"), (70, None), (71, "b"), (200, "c"))
    publish_events(lake, [*ann, *log("bob", (300, "z"))], Midnights(DAY, "UTC"))
    found = agreement_of_days(SHOP, lake, [DAY - dt.timedelta(days=1), DAY])
    # Alike: 5 (goes on, across midnight), 71 (goes on), 200 and 300 (begin); not: 50 and 60.
    assert found == {DAY - dt.timedelta(days=1): (1, 1), DAY: (6, 4)}
    assert agreement_of_days(SHOP, lake, [DAY + dt.timedelta(days=9)]) == {
        DAY + dt.timedelta(days=9): (0, 0)
    }


def test_of_a_large_day_whole_users_are_counted(lake_home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ENOUGH_EVENTS", 50)
    lake = Lake.of("shop")
    events = [e for n in range(200) for e in log(f"u{n}", (600, "a"), (610, "a"))]
    publish_events(lake, events, Midnights(DAY, "UTC"))
    events, agree = agreement_of_days(SHOP, lake, [DAY])[DAY]
    assert 0 < events < 200
    assert events % 2 == 0
    assert agree == events
