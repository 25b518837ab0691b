"""A day's embedding covers the users with new events, and is what embedding everybody gives."""

import datetime as dt
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.base.clock import as_of_instant, days_between
from contracts.base.errors import TransientError
from contracts.base.hashing import hash_json
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import BUILT_FROM, EVENTS
from contracts.lake.versions import allocate, trial_folder, version_named
from contracts.recipes.encoders import ENCODERS
from contracts.recipes.jobs import EmbedJob
from features.learning.sequences import build_sequences, stage_sequences
from features.store.embeddings import ROUNDING
from features.store.freshness import event_histories, stale_embeddings
from models.embed import embed
from models.runtime.report import Reporter
from models.train import train
from orchestration.embedding.days import job_of, plan_days, publish_day
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, place_of, publish_items
from tests.builders.jobs import embed_job, train_job

FIRST = dt.date(2026, 3, 8)
DAYS = days_between(FIRST, FIRST + dt.timedelta(days=3))
SHOP = dataset_like("shop", timezone="UTC")
DELAY = dt.timedelta(minutes=SHOP.features.delay_minutes)
MIDNIGHTS = Midnights(FIRST, "UTC")
USERS = ["ann", "bob", "cem", "dan", "eve"]
ITEMS = [(f"i{n}", f"Thing {n}", f"c{n % 3}", None) for n in range(6)]
RENAMED = [(f"i{n}", f"Something {n}", f"c{n % 2}", None) for n in range(6)]

EVERY = {f"none_{name}": {} for name in ENCODERS}
# What a vector may follow from beside the events: texts of the catalog, and the time of looking.
PLAIN = ["item", "action", "category", "gap", "value"]
SPECIAL = {
    "text": {"recipe": "none_bag", "fields": [*PLAIN, "text"], "text": {"width": 4}},
    "aged": {"recipe": "none_bag", "fields": [*PLAIN, "age"]},
    "summed": {"recipe": "none_gru4rec", "summary": True},
}
AT_NOW = ("aged", "summed")


def event(user: str, day: dt.date, minute: int, item: int = 0) -> Event:
    instant = as_of_instant(day, "UTC") - dt.timedelta(minutes=minute)
    return Event(user, instant, f"{user}{day}{minute}", "view", f"i{item}", float(item))


def publish_log(lake: Lake, log: set[Event], days: list[dt.date]) -> None:
    """Makes exactly this the published events, each day with its fingerprint."""
    for day in days:
        of_day = sorted((e for e in log if MIDNIGHTS.day_of(e.timestamp) == day), key=place_of)
        rows = [vars(each) | {"sequence": 0} for each in of_day]
        said = {"fragments": {"file": hash_json([repr(each) for each in of_day])}}
        table = pa.Table.from_pylist(rows, schema=EVENTS)
        table = table.replace_schema_metadata({BUILT_FROM: json.dumps(said).encode()})
        publish_table(lake, table, lake.day("events", day))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a version of every encoder, which know every item and no user."""
    lake = Lake(tmp_path_factory.mktemp("trained") / "shop")
    publish_items(lake, ITEMS)
    publish_log(lake, {event("zoe", FIRST, 10 + n, n) for n in range(6)}, [FIRST])
    pointer = build_sequences(SHOP, lake, FIRST).pointer
    for name, changes in (EVERY | SPECIAL).items():
        recipe = {"recipe": name, "dim": 16, "max_length": 3} | changes
        out = trial_folder(lake, f"trial-{name}")
        train(train_job({"sequences": str(pointer), "out": str(out)} | recipe), Reporter())
    return lake


def begin(home: str, trained: Lake, names: list[str]) -> tuple[Lake, list[str]]:
    """A lake with these model versions and nothing else."""
    lake = Lake(Path(home) / "shop")
    lake.root.mkdir(parents=True)
    (lake.root / "trials").symlink_to(trained.root / "trials")
    publish_items(lake, ITEMS)
    return lake, [allocate(lake, name, f"trial-{name}", str(FIRST)).version for name in names]


@dataclass(frozen=True)
class Made:
    """A day that was embedded: on what base, and whose vectors were made anew."""

    day: dt.date
    version: str
    base: dt.date | None
    fresh: frozenset[str]


def night(lake: Lake, versions: list[str], until: dt.date) -> list[Made]:
    """Embeds all days up to one that are new or stale, as the asset does."""
    histories, cells, made = event_histories(lake), [], []
    for version in sorted(versions):
        embedded, stale = stale_embeddings(lake, version, histories)
        due = [day for day in DAYS if day <= until and (day in stale or day not in embedded)]
        cells += [(day, version) for day in due]
    assert cells
    with lake.staging() as folder:
        planned = plan_days(SHOP, lake, cells, folder, print)
        if job := job_of(planned):
            embed(job, Reporter())
        for each in planned:
            fresh = newest(each.out).keys() if each.embedded else ()
            made.append(Made(each.day, each.version, each.base, frozenset(fresh)))
            publish_day(lake, each)
    return made


def embed_everybody(lake: Lake, made: list[Made], folder: Path) -> dict[Made, Path]:
    """For each day a file of the vectors of all users, each made anew."""
    staged, models = {}, []
    for each in made:
        checkpoint = version_named(lake, each.version).folder(lake)
        if each.day not in staged:  # all versions have one vocabulary
            words, into = checkpoint / "vocabulary.json", folder / str(each.day)
            staged[each.day] = stage_sequences(SHOP, lake, each.day, words, into).pointer
        instant = as_of_instant(each.day, "UTC")
        job = {"sequences": staged[each.day], "checkpoint": checkpoint}
        job |= {"event_timestamp": instant.isoformat(), "created": (instant + DELAY).isoformat()}
        job |= {"model_version": each.version, "out": folder / each.version / f"{each.day}.parquet"}
        models += embed_job(job).models
    if models:
        embed(EmbedJob(models=models), Reporter())
    return {each: model.days[0].out for each, model in zip(made, models, strict=True)}


def newest(path: Path) -> dict[str, np.ndarray]:
    """Each user's newest vector in an object."""
    rows = sorted(pq.read_table(path).to_pylist(), key=lambda row: row["created"])
    return {row["user_id"]: np.array(row["embedding"], np.float32) for row in rows}


def object_of(lake: Lake, version: str, day: dt.date) -> Path:
    return lake.day(f"user_embeddings/{version}", day)


def until_day(log: set[Event], day: dt.date, after: dt.date = dt.date.min) -> set[str]:
    """Who has an event up to a day, and after another."""
    return {e.user_id for e in log if after < MIDNIGHTS.day_of(e.timestamp) <= day}


def check_as_everybody(lake: Lake, made: list[Made], log: set[Event]) -> None:
    """What is published of days is what a full embedding of them finds unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        for each, full in embed_everybody(lake, made, Path(folder)).items():
            path = object_of(lake, each.version, each.day)
            wanted, found = newest(full), newest(path)
            assert wanted.keys() == until_day(log, each.day) <= found.keys()
            for user, vector in wanted.items():
                off = np.linalg.norm(found[user] - vector)
                assert off <= ROUNDING * np.linalg.norm(vector), (each, user)


def check_carried(lake: Lake, made: list[Made], log: set[Event], before: dict) -> int:
    """Who has no event after the base has the very vector of the base; returns how many have."""
    carried = 0
    for each in made:
        after = each.base or dt.date.min
        assert each.fresh == until_day(log, each.day, after)
        if each.base is None:
            continue
        base, day = (newest(object_of(lake, each.version, d)) for d in (each.base, each.day))
        for user in until_day(log, each.day) - each.fresh:
            # Of a day that was published before, a vector that differs by rounding stays.
            if user not in before.get((each.version, each.day), {}):
                np.testing.assert_array_equal(day[user], base[user])
                carried += 1
    return carried


# Who does what on which day, and what is delivered late or taken back in a later night.
EVENT = st.builds(
    event,
    st.sampled_from(USERS),
    st.sampled_from(DAYS),
    st.integers(1, 1439),
    st.integers(0, 6),  # one item is not in the catalog
)
NIGHTS = st.lists(
    st.tuples(st.sets(EVENT, max_size=8), st.booleans(), st.sampled_from([False] * 3 + [True])),
    min_size=len(DAYS),
    max_size=len(DAYS),
)
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # an example takes seconds


@given(nights=NIGHTS)
@settings(max_examples=2, phases=PHASES, deadline=None, suppress_health_check=[*HealthCheck])
def test_each_night_is_what_embedding_everybody_gives(
    trained: Lake, nights: list[tuple[set[Event], bool, bool]]
):
    with tempfile.TemporaryDirectory() as home:
        lake, versions = begin(home, trained, ["none_gru4rec", "text"])
        run_nights(lake, versions, nights)


def test_whatever_the_encoder_a_night_is_what_embedding_everybody_gives(
    trained: Lake, tmp_path: Path
):
    lake, versions = begin(str(tmp_path), trained, [*EVERY, *SPECIAL])
    late = {event("bob", DAYS[0], 100, 5), event("fay", DAYS[1], 30, 2)}
    nights = [(TWO_DAYS, False, False), (TWO_DAYS, False, False), (late, False, False)]
    assert run_nights(lake, versions, nights) > 3 * len(EVERY)


def run_nights(lake: Lake, versions: list[str], nights: list[tuple[set[Event], bool, bool]]) -> int:
    """Publishes and embeds night after night, each checked; returns how many were carried.

    Of each night: what is delivered, of which the future comes when its day has; whether an event
    is taken back; and whether the catalog is another.
    """
    stays, carried = event("ann", FIRST, 5), 0
    log = {stays}
    for until, (delivered, takes_back, renames) in zip(DAYS, nights, strict=False):
        log |= {e for e in delivered if MIDNIGHTS.day_of(e.timestamp) <= until}
        if takes_back and len(log) > 1:
            log.remove(sorted(log - {stays})[len(log) // 2 - 1])
        publish_log(lake, log, [day for day in DAYS if day <= until])
        publish_items(lake, RENAMED if renames else ITEMS)
        before = published(lake, versions)
        made = night(lake, versions, until)
        assert all(each.base is None for each in made if each.version[:-3] in AT_NOW)
        carried += check_carried(lake, made, log, before)
        check_as_everybody(lake, made, log)
    return carried


def published(lake: Lake, versions: list[str]) -> dict[tuple[str, dt.date], dict]:
    return {
        (version, day): newest(object_of(lake, version, day))
        for version in versions
        for day in lake.days(f"user_embeddings/{version}")
    }


@pytest.fixture
def shop(trained: Lake, tmp_path: Path) -> tuple[Lake, str]:
    """A lake in which mean pooling has embedded two days, of which the second is ann's alone."""
    lake, (version,) = begin(str(tmp_path), trained, ["none_bag"])
    publish_log(lake, TWO_DAYS, DAYS[:2])
    night(lake, [version], DAYS[0])
    assert night(lake, [version], DAYS[1]) == [Made(DAYS[1], version, DAYS[0], frozenset({"ann"}))]
    return lake, version


TWO_DAYS = {event(user, DAYS[0], 7, n) for n, user in enumerate(USERS)}
TWO_DAYS |= {event("ann", DAYS[1], 9, 3)}


def test_who_has_no_new_event_is_carried_with_the_clocks_of_the_new_day(shop):
    lake, version = shop
    first, second = (pq.read_table(object_of(lake, version, day)) for day in DAYS[:2])
    assert second.schema.equals(first.schema)
    assert second["user_id"].to_pylist() == USERS
    assert {*second["event_timestamp"].to_pylist()} == {as_of_instant(DAYS[1], "UTC")}
    assert {*second["created"].to_pylist()} == {as_of_instant(DAYS[1], "UTC") + DELAY}
    same = [a == b for a, b in zip(first["embedding"], second["embedding"], strict=True)]
    assert same == [False, True, True, True, True]


def test_on_a_day_of_nobody_no_program_runs_and_all_are_carried(shop):
    lake, version = shop
    publish_log(lake, TWO_DAYS, DAYS[:3])
    assert night(lake, [version], DAYS[2]) == [Made(DAYS[2], version, DAYS[1], frozenset())]
    second, third = (pq.read_table(object_of(lake, version, day)) for day in DAYS[1:3])
    assert third["embedding"].equals(second["embedding"])


def test_a_late_event_embeds_its_user_on_its_day_and_carries_them_on(shop):
    lake, version = shop
    log = TWO_DAYS | {event("bob", DAYS[0], 100, 5)}
    publish_log(lake, log, DAYS[:2])
    before = published(lake, [version])
    first, second = night(lake, [version], DAYS[1])
    assert first.base is None  # there is nothing before it
    assert second == Made(DAYS[1], version, DAYS[0], frozenset({"ann"}))
    vectors = published(lake, [version])
    bob = [vectors[version, day]["bob"] for day in DAYS[:2]]
    np.testing.assert_array_equal(bob[0], bob[1])
    assert (bob[1] != before[version, DAYS[1]]["bob"]).any()


def test_who_was_taken_back_is_not_carried(shop):
    lake, version = shop
    log = {e for e in TWO_DAYS if e.user_id != "eve"} | {event("bob", DAYS[2], 3)}
    publish_log(lake, log, DAYS[:3])
    night(lake, [version], DAYS[2])
    assert "eve" in newest(object_of(lake, version, DAYS[1]))  # it was known, and stays
    assert newest(object_of(lake, version, DAYS[2])).keys() == {*USERS} - {"eve"}


@pytest.mark.parametrize(
    ("items", "is_base"),
    [
        ([*ITEMS, ("i9", "New", "c0", None)], True),  # nobody has met it
        ([(i, f"{title}!", category, None) for i, title, category, _ in ITEMS], True),
        (RENAMED, False),
    ],
    ids=["a new item", "other titles", "other categories"],
)
def test_another_catalog_embeds_everybody_where_vectors_follow_from_it(shop, items, is_base):
    lake, version = shop
    publish_items(lake, items)
    publish_log(lake, TWO_DAYS, DAYS[:3])
    (made,) = night(lake, [version], DAYS[2])
    assert made == Made(
        DAYS[2], version, *((DAYS[1], frozenset()) if is_base else (None, frozenset(USERS)))
    )


def test_other_code_embeds_everybody(shop, monkeypatch):
    lake, version = shop
    monkeypatch.setattr("orchestration.embedding.days.code_version", lambda: "other")
    publish_log(lake, TWO_DAYS, DAYS[:3])
    (made,) = night(lake, [version], DAYS[2])
    assert (made.base, made.fresh) == (None, {*USERS})


def test_events_that_come_while_others_are_read_stop_the_run_and_not_the_truth(shop):
    lake, version = shop
    publish_log(lake, TWO_DAYS, DAYS[:3])
    with lake.staging() as folder:
        (planned,) = plan_days(SHOP, lake, [(DAYS[2], version)], folder, print)
        assert planned.everyone
        late = pa.table({"user_id": [*USERS, "zoe"]})
        pq.write_table(late, planned.everyone)
        with pytest.raises(TransientError, match="1 users of none_bag_v1 have events, and no"):
            publish_day(lake, planned)
    assert not object_of(lake, version, DAYS[2]).exists()


def test_a_night_that_was_killed_goes_on_with_what_is_finished(shop, monkeypatch):
    lake, version = shop
    publish_log(lake, TWO_DAYS | {event("bob", DAYS[2], 3)}, DAYS[:3])
    with lake.staging() as folder:
        planned = plan_days(SHOP, lake, [(DAYS[2], version)], folder, print)
        job = job_of(planned)
        assert job
        embed(job, Reporter())  # and nothing of it is published
    monkeypatch.setattr("models.embed._encoded", lambda *_: pytest.fail("it is made again"))
    (made,) = night(lake, [version], DAYS[2])
    assert made.fresh == {"bob"}
    assert not [*(lake.work / "running").glob("embed-*")]
    assert newest(object_of(lake, version, DAYS[2])).keys() == {*USERS}
