"""One user by their events alone is encoded as the daily sequences encode them."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.config.dataset import load_dataset
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS
from features.learning.live import LiveEncoder
from features.learning.sequences import build_sequences
from tests.builders.datasets import dataset_like
from tests.builders.events import AS_OF, BERLIN, CUTOFF, Event, publish_events, publish_items

ITEMS = [
    ("a", "Red hat", "hats", [("brand", "acme")]),
    ("b", None, "shoes", None),
    ("c", "Lamp", None, None),
]


def random_events() -> list[Event]:
    """Users whose events tie, rest, fill days, search, and name items that nobody knows."""
    random, found = np.random.default_rng(1), []
    for number in range(30):
        instant = CUTOFF - dt.timedelta(days=4, minutes=int(random.integers(0, 2_000)))
        for n in range(int(random.integers(1, 40))):
            instant += dt.timedelta(minutes=int(random.choice([0, 0, 7, 29, 30, 31, 200])))
            if instant >= CUTOFF:
                break
            action = str(random.choice(["search", "view", "purchase"]))
            item = None if action == "search" else str(random.choice(list("abcxyz")))
            query = (
                {"query": str(random.choice(["red hat", "Lampe"]))} if action == "search" else {}
            )
            value = float(random.choice([0, 1.5, -2, np.nan, 1e300]))
            session = str(random.choice(["s1", "s2", ""])) or None
            key = f"u{number:02}"
            found.append(Event(key, instant, f"{n:03}", action, item, value, query, session))
    return found


@pytest.mark.parametrize("sessions", [{"gap_minutes": 30}, {"by": "source", "open_minutes": 60}])
def test_a_live_user_has_the_arrays_of_the_daily_sequences(lake: Lake, sessions: dict):
    events = load_dataset("shop").events.model_dump() | {"session_id": "device"}
    shop = dataset_like("shop", sessions=sessions, events=events)
    publish_items(lake, ITEMS)
    publish_events(lake, random_events(), BERLIN)
    report = build_sequences(shop, lake, AS_OF)
    daily = {path.stem: np.load(path) for path in report.folder.glob("*.npy")}
    users = pq.read_table(report.folder / "users.parquet")["user_id"].to_pylist()
    published = [path for day in lake.days("events") for path in [lake.day("events", day)]]
    rows = pa.concat_tables([pq.read_table(path) for path in published]).to_pylist()
    encoder = LiveEncoder(shop, lake, report.folder / "vocabulary.json")
    assert len(users) == 30
    for number, user in enumerate(users):
        own = [event | {"user_id": "me"} for event in rows if event["user_id"] == user]
        live = encoder.encode(pa.Table.from_pylist(own, EVENTS))
        place = slice(*daily["offsets"][number : number + 2])
        for field in ("item", "action", "category", "value", "time", "session"):
            np.testing.assert_array_equal(live[field], daily[field][place], field)
        np.testing.assert_array_equal(live["item_category"], daily["item_category"])
        assert texts_of(live, slice(None)) == texts_of(daily, place)


def texts_of(arrays: dict[str, np.ndarray], place: slice) -> list[list[int]]:
    """The tokens of each event's document."""
    offsets, tokens = arrays["document_offsets"], arrays["document_tokens"]
    return [tokens[offsets[d] : offsets[d + 1]].tolist() for d in arrays["document"][place]]
