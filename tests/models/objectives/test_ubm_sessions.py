"""UBM learns from the sessions of the data set, and has no definition of its own."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.clock import days_between
from contracts.config.dataset import load_dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from features.learning.sequences import build_sequences
from features.shop import generate_shop
from models.data.sequences import open_sequences
from models.objectives.ubm.sessions import sessions_of
from tests.builders.daily import build, ingest


def test_sessions_are_those_of_the_data_set(lake_home, tmp_path):
    shop = load_dataset("shop")
    start = shop.partitions.start
    days = days_between(start, start + dt.timedelta(days=6))
    generate_shop(tmp_path / "files", users=300, days=len(days), start=start)
    link_source("shop", str(tmp_path / "files"))
    ingest(shop, days)
    # What is open after the last event closes in these.
    after = [days[-1] + dt.timedelta(days=n) for n in (1, 2)]
    lake = Lake.of("shop")
    build(shop, lake, [*days, *after], ("sessions",))
    sequences = open_sequences(build_sequences(shop, lake, days[-1]).pointer)
    users = np.arange(sequences.users)
    windows = sequences.windows(users, np.zeros_like(users), sequences.lengths)
    found = sessions_of(windows)
    first = windows.starts_B.numpy()[found.window_S] + found.start_S
    names = np.array(sequences.user_ids())[found.window_S]
    cut = zip(names, windows.time_T.numpy()[first], found.length_S, strict=True)
    published = pa.concat_tables(pq.read_table(lake.day("sessions", d)) for d in [*days, *after])
    assert len(published) > 300
    assert sorted(cut) == sorted(
        (row["user_id"], int(row["started_at"].timestamp()), row["length"])
        for row in published.select(["user_id", "started_at", "length"]).to_pylist()
    )
