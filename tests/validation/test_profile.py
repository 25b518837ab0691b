"""A day unlike the days before it is found; a healthy source raises nothing."""

import datetime as dt
import random
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.base.clock import days_between
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from contracts.lake.reading import read_json
from features.ingestion.dedup import stage_events as stage_landed
from features.ingestion.landing import land
from features.ingestion.lookup_tables import build_items
from features.shop import generate_shop
from tests.builders.datasets import dataset_like
from tests.validation.staged import DAY, SHOP, START, event, gate_events
from validation.descriptions import profile_path
from validation.gate import Verdict, audit_events
from validation.profile import figures_of

LAST = DAY + dt.timedelta(days=9)


def usual(day: dt.date, rows: int = 400) -> list[dict]:
    """Returns a day of a steady source."""
    draw = random.Random(str(day))
    start = START + (day - DAY)
    return [
        event(
            f"{day}-{n}",
            user_id=f"u{draw.randrange(rows // 4)}",
            timestamp=start + dt.timedelta(seconds=draw.randrange(80_000)),
            action=draw.choice(["view", "view", "view", "search", "purchase"]),
            item_id=f"i{draw.randrange(50)}" if draw.random() < 0.9 else None,
            value=round(draw.lognormvariate(3, 0.5), 2),
            source_line=n,
        )
        for n in range(rows)
    ]


def half_empty(rows: list[dict]) -> list[dict]:
    return rows[: len(rows) // 2]


def almost_empty(rows: list[dict]) -> list[dict]:
    return rows[:10]


def without_items(rows: list[dict]) -> list[dict]:
    return [row | {"item_id": None if n % 2 else row["item_id"]} for n, row in enumerate(rows)]


def all_purchases(rows: list[dict]) -> list[dict]:
    return [row | {"action": "purchase"} for row in rows]


def dear(rows: list[dict]) -> list[dict]:
    return [row | {"value": row["value"] * 100} for row in rows]


def by_one_user(rows: list[dict]) -> list[dict]:
    return [row | {"user_id": f"u{n % 5}"} for n, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("spoil", "figures"),
    [
        (half_empty, {"volume"}),
        (without_items, {"nulls.item_id"}),
        (all_purchases, {"actions"}),
        (dear, {"values", "value_factor"}),
        (by_one_user, {"users"}),
    ],
)
def test_a_strange_day_is_published_with_a_warning(lake, spoil, figures):
    days = {day: usual(day) for day in days_between(DAY, LAST)}
    verdict = gate_events(lake, days | {LAST: spoil(days[LAST])})[LAST]
    assert verdict.passed
    assert lake.day("events", LAST).exists()
    told = {w.rsplit("quality.profile.")[1].partition(".")[0] for w in verdict.warnings}
    expected = {figure.partition(".")[0] for figure in figures}
    assert expected <= told <= expected | {"users"}
    index = (lake.root / "data_docs" / "index.html").read_text()
    assert "9 clean, 1 warned, 0 stopped" in index


def test_an_almost_empty_day_stops_unless_the_source_has_empty_days(lake):
    days = {day: usual(day) for day in days_between(DAY, LAST)}
    days[LAST] = almost_empty(days[LAST])
    verdict = gate_events(lake, days)[LAST]
    assert not verdict.passed
    assert "the factor between the number of rows and that of the days" in verdict.failures[0]
    assert "quality.profile.volume_ratio.stop" in verdict.failures[0]
    assert not lake.day("events", LAST).exists()
    assert not profile_path(lake, "events", LAST).exists()
    quiet = dataset_like("shop", quality={"allow_empty_days": True})
    assert gate_events(lake, {LAST: days[LAST]}, quiet)[LAST].passed


def test_days_of_a_range_and_of_single_runs_are_judged_alike(lake, tmp_path, monkeypatch):
    days = {day: usual(day) for day in days_between(DAY, LAST)}
    broken, stopped, empty = list(days)[2:5]
    days[broken][:40] = [row | {"action": "steal", "value": -1.0} for row in days[broken][:40]]
    days[stopped] = [row | {"user_id": None} for row in days[stopped]]
    days[empty] = []
    days[LAST] = half_empty(days[LAST])
    # What a stopped day leaves in quarantine goes when the day is mended.
    together = gate_events(lake, days) | gate_events(lake, {empty: usual(empty)})
    monkeypatch.setenv("FOOTPATH_HOME", str(tmp_path / "other"))
    other = Lake.of("shop")
    alone: dict[dt.date, Verdict] = {}
    for day, rows in days.items():
        alone |= gate_events(other, {day: rows})
    alone |= gate_events(other, {empty: usual(empty)})
    elsewhere = {"docs": None, "clean": None, "refused": None}  # paths
    assert {day: replace(verdict, **elsewhere) for day, verdict in alone.items()} == {
        day: replace(verdict, **elsewhere) for day, verdict in together.items()
    }
    assert alone[LAST].warnings
    assert alone[broken].rows_quarantined == 40
    assert [day for day in days if not alone[day].passed] == [stopped]
    for folder in ("events", "profiles/events", "quarantine/events", "quarantine/stopped"):
        assert _contents(lake.root / folder) == _contents(other.root / folder) != {}
    outcomes = [
        {day: told | {"page": None} for day, told in read_json(path).items()}
        for path in (lake.root / "data_docs/events.json", other.root / "data_docs/events.json")
    ]
    assert outcomes[0] == outcomes[1]


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("may_be_empty", "strange"), [(True, False), (False, True)])
def test_days_on_which_a_shop_is_closed_say_nothing_of_those_on_which_it_is_open(
    may_be_empty, strange
):
    # Two of the four Mondays before were holidays: half way between 0 and 800 lies 27.
    before = {DAY - dt.timedelta(days=n): {"rows": 800, "users": 80} for n in range(1, 29)}
    for weeks in (1, 3):
        before[DAY - dt.timedelta(weeks=weeks)] = {"rows": 0, "users": 0}
    quality = dataset_like("shop", quality={"allow_empty_days": may_be_empty}).quality
    figures = figures_of(quality, DAY, {"rows": 800, "users": 80}, before)
    assert (figures["volume"] > 3) == strange
    assert ("volume_ratio" in figures) == strange
    few = figures_of(quality, DAY, {"rows": 20, "users": 2}, before)
    assert few["volume"] > (0 if strange else 3)


def test_a_short_history_judges_nothing(lake):
    days = {day: usual(day) for day in days_between(DAY, DAY + dt.timedelta(days=6))}
    last = max(days)
    days[last] = almost_empty(days[last])
    assert gate_events(lake, days)[last].figures == {}


def test_a_day_that_stopped_is_no_measure_for_the_next(lake):
    days = {day: usual(day) for day in days_between(DAY, LAST)}
    days[LAST] = almost_empty(days[LAST])
    gate_events(lake, days)
    after = LAST + dt.timedelta(days=1)
    assert gate_events(lake, {after: usual(after)})[after].warnings == []


def test_the_description_of_a_day_is_of_its_clean_rows(lake):
    rows = [event("a"), event("b", user_id="v", value=None), event("c", value=-1.0)]
    rows += [event(f"d{n}") for n in range(3)]
    gate_events(lake, {DAY: rows})
    found = read_json(profile_path(lake, "events", DAY))
    assert (found["rows"], found["users"], found["present.value"]) == (5, 2, 4)
    assert found["mix.action"] == {"view": 5}
    assert sum(found["bins.value"].values()) == 4


def test_a_healthy_shop_of_sixty_days_raises_nothing(lake, tmp_path):
    generate_shop(tmp_path / "shop", 300, 60, 3)
    link_source("shop", str(tmp_path / "shop"))
    land(SHOP, lake, None)
    build_items(SHOP, lake)
    first = SHOP.partitions.start
    days = days_between(first, first + dt.timedelta(days=59))
    with lake.staging() as folder:
        staged = stage_landed(SHOP, lake, days, folder)
        verdicts = audit_events(SHOP, lake, staged, folder)
    assert [v.warnings + v.failures for v in verdicts.values() if v.warnings + v.failures] == []
    judged = [v for v in verdicts.values() if v.figures]
    assert len(judged) == 60 - 7
    assert {"volume", "users", "nulls.item_id", "actions", "categories", "values"} <= set(
        judged[-1].figures
    )
