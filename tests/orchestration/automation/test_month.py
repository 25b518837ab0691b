"""A month by itself, or a working week: files late, doubled, missing, broken; killed processes."""

import datetime as dt
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contracts.base.clock import days_between
from contracts.lake.layout import Lake
from contracts.lake.versions import all_versions
from features.ingestion.completeness import complete_at
from features.learning.sequences import build_sequences
from features.store.services import known_services
from models.experiments.cells import local_model
from tests.builders.outcome import assert_online_is_newest, assert_same_rows, built_at_once
from tests.builders.receivers import WebhookServer, serving
from tests.orchestration.automation.simulation import (
    MORE_FEATURES,
    START,
    WRITTEN,
    Delivery,
    Simulation,
    copy,
    shop,
    spans,
    spoil,
)

HOUR = dt.timedelta(hours=1)


def instant(day: int, hour: float) -> dt.datetime:
    """An instant of a day of the simulation, counted from 0, in UTC."""
    midnight = dt.datetime.combine(START + dt.timedelta(days=day), dt.time(), dt.UTC)
    return midnight + dt.timedelta(hours=hour)


def file_of(day: int, hour: int) -> str:
    return f"events/{START + dt.timedelta(days=day)}/{hour:02}.jsonl.gz"


def troubles(*, late: list[tuple[int, int, int]], twice: int, missing: int, broken: int) -> dict:
    """Deliveries that are not as usual.

    Args:
      late: files by day and hour that come so many days later.
      twice: the day whose file of 10:00 comes again a day later.
      missing: the day whose file of 20:00 comes at noon of the next day.
      broken: the day whose file of 15:00 is cut off, and mended four days later.
    """
    changes = {
        (name := file_of(day, hour)): [Delivery(instant(day + days, hour + 2), name, copy(name))]
        for day, hour, days in late
    }
    again = file_of(twice, 10)
    usual = Delivery(instant(twice, 10) + WRITTEN, again, copy(again))
    changes[again] = [usual, Delivery(instant(twice + 1, 10.5), again, copy(again), news=False)]
    noon = file_of(missing, 20)
    changes[noon] = [Delivery(instant(missing + 1, 12), noon, copy(noon))]
    cut = file_of(broken, 15)
    changes[cut] = [
        Delivery(instant(broken, 15) + WRITTEN, cut, spoil(cut), good=False),
        Delivery(instant(broken + 4, 9), cut, copy(cut)),
    ]
    return changes


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory):
    """Five days, a training, and two killed processes; the list of features changes on day 4."""
    yield from lived(
        tmp_path_factory.mktemp("week"),
        days=5,
        changes=troubles(late=[(1, 8, 2)], twice=2, missing=3, broken=1),
        changed=4,
        deaths=2,
        risk=0.4,
        tick=dt.timedelta(minutes=30),
        hours=6,
    )


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory):
    """Thirty days, four trainings, and ten killed processes; a changed list of features."""
    yield from lived(
        tmp_path_factory.mktemp("month"),
        days=30,
        changes=troubles(
            late=[(2, 8, 3), (9, 13, 1), (15, 19, 5), (22, 7, 2)], twice=6, missing=11, broken=17
        ),
        changed=12,
        deaths=10,
    )


def lived(folder: Path, days: int, changes: dict, changed: int, deaths: int, **more: Any):
    before, after = shop(), shop(MORE_FEATURES)
    hook = WebhookServer()
    with pytest.MonkeyPatch.context() as patch, serving(hook):
        for name in ("FOOTPATH_HOME", "FOOTPATH_NOW"):
            patch.setenv(name, os.environ.get(name, ""))
        patch.setenv("FOOTPATH_ALERT_WEBHOOK", hook.url)
        simulation = Simulation(
            folder,
            days,
            changes,
            lambda now: after if now >= instant(changed, 12) else before,
            deaths,
            **more,
        )
        simulation.live(instant(days, 12))
        simulation.told = "\n".join(hook.texts)
        yield simulation


@pytest.fixture(
    params=[
        pytest.param("week", marks=[pytest.mark.timeout(900)]),
        pytest.param("month", marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ]
)
def simulation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Simulation:
    lived_through = request.getfixturevalue(request.param)
    monkeypatch.setenv("FOOTPATH_HOME", str(lived_through.home))
    return lived_through


def test_it_ends_as_one_build_of_all_files_would(simulation, tmp_path):
    lived_through, dataset = Lake.of("shop"), shop(MORE_FEATURES)
    days = days_between(START, START + dt.timedelta(days=simulation.days - 1))
    lake = built_at_once(dataset, simulation.source, days, tmp_path)
    assert_same_rows(dataset, lived_through, lake)
    # Embeddings of the same model versions, made anew of the one build's events.
    for version in all_versions(lived_through):
        table = f"user_embeddings/{version.version}"
        for day in lived_through.days(table)[-2:]:
            words = local_model(lived_through, version.trial) / "vocabulary.json"
            again = build_sequences(dataset, lake, day, words)
            once = build_sequences(dataset, lived_through, day, words)
            assert again.fingerprint == once.fingerprint, (version.version, day)


def test_every_online_row_is_the_newest_of_the_lake(simulation):
    lake = Lake.of("shop")
    services = known_services(lake)
    assert {"user_behavior", "user_representation", "gender"} <= services.aliases.keys()
    assert_online_is_newest(shop(MORE_FEATURES), lake)


def test_each_day_was_requested_within_an_hour_of_its_last_file(simulation):
    asked = list(spans(simulation, "daily"))
    for number in range(simulation.days):
        day = START + dt.timedelta(days=number)
        # The day ends at 23:00 UTC, and the file of its last hour comes after that.
        last = max(d.at for d in simulation.events() if d.news and _local_day(d.name) == day)
        after = [now for now, first, to in asked if first <= day <= to and now >= last - HOUR]
        waits = [now - last for now in after if now >= last]
        assert min(waits) <= HOUR, (day, last, asked)


def test_what_is_told_is_what_was_late_or_broken_and_its_recovery(simulation):
    told = re.findall(r"(Recovered|Data missing|Standing still)[^:]*: ([^\n]*)", simulation.told)
    heads = Counter((what, re.findall(r"2026-\d\d-\d\d", said)[0]) for what, said in told)
    late = {
        day
        for number in range(simulation.days)
        if (day := START + dt.timedelta(days=number))
        and max(
            d.at for d in simulation.events() if d.good and d.news and _local_day(d.name) == day
        )
        > complete_at(shop(), day)
    }
    broken = {_local_day(d.name) for d in simulation.events() if not d.good}
    expected = Counter({("Data missing", str(day)): 1 for day in late})
    expected += Counter({("Standing still", str(day)): 1 for day in broken})
    expected += Counter(("Recovered", str(day)) for day in [*late, *broken])
    assert heads == expected, simulation.told


def _local_day(name: str) -> dt.date:
    day, hour = name.split("/")[1], int(name.split("/")[2][:2])
    moment = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC) + dt.timedelta(hours=hour)
    from zoneinfo import ZoneInfo

    return moment.astimezone(ZoneInfo("Europe/Berlin")).date()


def test_processes_were_killed_and_models_trained_each_week(simulation):
    assert simulation.killed >= (1 if simulation.days < 30 else 8)
    trained = sorted({v.as_of for v in all_versions(Lake.of("shop")) if not v.task})
    assert len(trained) == max(1, (simulation.days - 5) // 7 + 1)


def test_nothing_is_left_to_do(simulation):
    assert simulation.said == "everything is as it should be"
