"""Events that are corrected change the embeddings that come after, never those that were known."""

import datetime as dt
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.base.clock import as_of_instant, now
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.schemas import EVENTS
from contracts.lake.versions import allocate, trial_folder
from features.learning.sequences import build_sequences
from features.store import apply_registry, publish_embeddings
from features.store.repository import open_store
from models.embed import embed
from models.runtime.report import Reporter
from models.train import train
from tests.builders.datasets import dataset_like
from tests.builders.events import Event, Midnights, publish_events
from tests.builders.jobs import embed_job, train_job

DAY = dt.date(2026, 3, 10)
DAYS = [DAY - dt.timedelta(days=1), DAY]
SHOP = dataset_like("shop", timezone="UTC")
ENDS, HOUR = as_of_instant(DAY, "UTC"), dt.timedelta(hours=1)
DELAY = dt.timedelta(minutes=SHOP.features.delay_minutes)
MIDNIGHTS = Midnights(DAY, "UTC")
USERS = ["ann", "bob", "cem", "dan"]
MODEL = "none_bag_v1"

EVENT = st.builds(
    lambda user, hour, item: Event(
        user, ENDS - hour * HOUR, f"{user}-{hour}-{item}", "view", f"i{item}"
    ),
    st.sampled_from(USERS),
    st.integers(1, 47),
    st.integers(0, 7),
)
# An example takes seconds: a small one is not looked for.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
LOGS = st.lists(st.sets(EVENT, min_size=1, max_size=12), min_size=2, max_size=4)


def publish_log(lake: Lake, log: set[Event]) -> None:
    """Makes exactly this the published events."""
    for day in DAYS:
        publish_table(lake, EVENTS.empty_table(), lake.day("events", day))
    publish_events(lake, log, MIDNIGHTS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows every item."""
    lake = Lake(tmp_path_factory.mktemp("trained") / "shop")
    every = {Event("ann", ENDS - (n + 1) * HOUR, str(n), "view", f"i{n}") for n in range(8)}
    publish_log(lake, every)
    pointer = build_sequences(SHOP, lake, DAY).pointer
    out = lake.root / "model"
    settings = {"sequences": str(pointer), "out": str(out), "recipe": "none_bag"}
    train(train_job(settings | {"dim": 8, "max_length": 8}), Reporter())
    return out


def begin(home: Path, trained: Path) -> Lake:
    """A lake with a model version and nothing else."""
    lake = Lake(home / "shop")
    assert allocate(lake, "none_bag", "trial", str(DAY)).version == MODEL
    trial_folder(lake, "trial").parent.mkdir(parents=True)
    trial_folder(lake, "trial").symlink_to(trained)
    return lake


def embed_log(lake: Lake, log: set[Event]) -> dict[str, np.ndarray]:
    """Embeds the day with these events; returns the vectors of all who have one."""
    publish_log(lake, log)
    checkpoint = trial_folder(lake, "trial")
    pointer = build_sequences(SHOP, lake, DAY, checkpoint / "vocabulary.json").pointer
    with lake.staging() as folder:
        job = {"sequences": pointer, "checkpoint": checkpoint, "out": folder / "fresh.parquet"}
        clocks = {"event_timestamp": ENDS.isoformat(), "created": (ENDS + DELAY).isoformat()}
        embed(embed_job(job | clocks | {"model_version": MODEL}), Reporter())
        rows = pq.read_table(folder / "fresh.parquet").to_pylist()
        publish_embeddings(lake, MODEL, DAY, folder / "fresh.parquet")
    return {row["user_id"]: np.array(row["embedding"]) for row in rows}


def training_set(lake: Lake, instants: list[dt.datetime]) -> dict[tuple[int, str], np.ndarray]:
    """Instant and user -> the vector that a label of then gets, where it gets one."""
    labels = [(instant, user) for instant in instants for user in USERS]
    entities = pd.DataFrame(labels, columns=["event_timestamp", "user_id"])
    entities["label"] = range(len(labels))
    name = f"embedding_{MODEL}"
    found = open_store(lake).get_historical_features(
        entities, [f"user_embeddings_{MODEL}:{name}"], filter_by_created_timestamp=True
    )
    rows = found.to_df().sort_values("label")
    assert len(rows) == len(labels)
    vectors = zip(rows["label"], rows["user_id"], rows[name], strict=True)
    return {
        (label // len(USERS), user): np.array(vector)
        for label, user, vector in vectors
        if vector is not None
    }


@given(logs=LOGS)
@settings(max_examples=5, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
def test_a_label_gets_the_vector_that_was_known_then_whatever_is_corrected_later(
    trained: Path, logs: list[set[Event]]
):
    with tempfile.TemporaryDirectory() as home:
        lake = begin(Path(home), trained)
        instants = [ENDS, ENDS + DELAY]  # before anything is known, and when the day first is
        known: list[dict[str, np.ndarray]] = [{}]
        before: dict[tuple[int, str], np.ndarray] = {}
        for log in logs:
            known += [known[-1] | embed_log(lake, log)] * (2 if len(known) == 1 else 1)
            instants.append(now())
            if not before:
                apply_registry(SHOP, lake)
            found = training_set(lake, instants)
            for key, vector in before.items():
                np.testing.assert_array_equal(found[key], vector)
            assert_known(found, known)
            before = found


def assert_known(
    found: dict[tuple[int, str], np.ndarray], known: list[dict[str, np.ndarray]]
) -> None:
    """Of each instant, exactly the users that were known then, with their vectors of then."""
    for number, vectors in enumerate(known):
        seen = {user: vector for (n, user), vector in found.items() if n == number}
        assert seen.keys() == vectors.keys()
        for user, vector in seen.items():
            np.testing.assert_allclose(vector, vectors[user], rtol=1e-4, atol=1e-5)
