"""Events of one instant stand in the order of delivery, whatever was landed first or again."""

import datetime as dt
import itertools
import json
import os
import random
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.schemas import EVENTS
from features.ingestion import dedup
from features.ingestion.editable import read_editable, write_editable
from features.ingestion.landing import land
from features.ingestion.replay import repair
from features.learning.sequences import build_sequences
from features.reconciliation import reconcile
from tests.builders.daily import build, build_unaudited, ingest
from tests.builders.datasets import FIRST, LAX, tiny
from tests.builders.landing import Deliveries, linked
from validation.row_quarantine import read_quarantine

NEXT = FIRST + dt.timedelta(days=1)
INSTANT = "2026-03-01T10:00:00Z"
COLUMNS = {"id": "VARCHAR", "who": "VARCHAR", "ts": "VARCHAR", "act": "VARCHAR", "nr": "BIGINT"}
ACTIONS = ["view", "add", "purchase"]


def ties(**events: str | None) -> Dataset:
    """The tiny data set with an action and a number of the source's own in every row."""
    mapping = {"event_id": "id", "user_id": "who", "action": "act"}
    mapping |= {"timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)"}
    return tiny(
        landing={"url": "{year}-{month}-{day}/*.csv", "format": "csv", "columns": COLUMNS},
        events=mapping | events,
        actions=ACTIONS,
        quality=LAX,
    )


WITH_IDS, WITHOUT_IDS = ties(), ties(event_id=None)


class Row(NamedTuple):
    """A row of a landing file; a value of None is an empty field."""

    id: str | None
    who: str
    act: str
    ts: str = INSTANT
    nr: int | None = None


@pytest.fixture
def source(tmp_path: Path, lake_home: Path) -> Deliveries:
    return Deliveries(tmp_path / "source")


def write(folder: Path, arrival: dt.date, name: str, rows: list[Row]) -> Path:
    path = folder / str(arrival) / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [(r.id, r.who, r.ts, r.act, r.nr) for r in rows]
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in cells]
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


def published(dataset: Dataset, lake: Lake) -> list[dict]:
    build(dataset, lake, [FIRST, NEXT], ("events",))
    rows = []
    for day in lake.days("events"):
        table = pq.read_table(lake.day("events", day))
        assert table.schema == EVENTS
        rows += table.to_pylist()
    return rows


def sessions(dataset: Dataset, lake: Lake) -> dict[str, list[str]]:
    build(dataset, lake, [FIRST, NEXT], ("sessions",))
    found = {}
    for day in lake.days("sessions"):
        for row in pq.read_table(lake.day("sessions", day)).to_pylist():
            found[row["session_id"]] = row["actions"]
    return found


@pytest.mark.parametrize("dataset", [WITH_IDS, WITHOUT_IDS], ids=["ids", "no ids"])
def test_events_of_one_instant_keep_the_order_of_their_file(source, dataset):
    lake = Lake.of("tiny")
    ids = {"u1": ["9", "10", "11"], "u2": ["1", "2", "3"]}
    ids |= {f"v{n}": ["9", "10", "11"] for n in range(6)}
    rows = [
        Row(f"{user}{i}", user, a)
        for user, of in ids.items()
        for i, a in zip(of, ACTIONS, strict=True)
    ]
    write(source.folder, FIRST, "ev", rows)
    land(dataset, lake, None)
    assert [(e["user_id"], e["action"], e["sequence"]) for e in published(dataset, lake)] == [
        (user, action, n) for user in sorted(ids) for n, action in enumerate(ACTIONS)
    ]
    assert list(sessions(dataset, lake).values()) == [ACTIONS] * len(ids)


def test_files_are_in_natural_order_behind_earlier_arrivals(source):
    lake = Lake.of("tiny")
    names = [(NEXT, "part1"), (FIRST, "part10"), (FIRST, "part"), (FIRST, "part2")]
    for n, (arrival, name) in enumerate(names):
        write(source.folder, arrival, name, [Row(str(n), "u", "view")])
    land(WITH_IDS, lake, None)
    assert [e["event_id"] for e in published(WITH_IDS, lake)] == ["2", "3", "1", "0"]


def test_a_declared_sequence_comes_before_the_order_of_delivery(source):
    dataset, lake = ties(sequence="nr"), Lake.of("tiny")
    numbers = [10, None, 9, -(2**62), 9, None]
    rows = [Row(f"e{n}", "u", "view", nr=nr) for n, nr in enumerate(numbers)]
    write(source.folder, FIRST, "a", rows)
    land(dataset, lake, None)
    found = published(dataset, lake)
    assert [e["event_id"] for e in found] == ["e3", "e2", "e4", "e0", "e1", "e5"]
    assert [e["sequence"] for e in found] == list(range(6))


def test_without_ids_a_declared_sequence_tells_events_apart(source):
    dataset, lake = ties(sequence="nr", event_id=None), Lake.of("tiny")
    write(source.folder, FIRST, "a", [Row(None, "u", "view", nr=1)])
    write(source.folder, FIRST, "b", [Row(None, "u", "view", nr=2), Row(None, "u", "view", nr=1)])
    land(dataset, lake, None)
    assert len(published(dataset, lake)) == 2
    assert reconcile(dataset, lake, True, None).faults == []


@pytest.mark.parametrize("sql", ["nr / 2", "id", "ts::TIMESTAMP"])
def test_a_declared_sequence_is_a_whole_number(source, sql):
    write(source.folder, FIRST, "a", [Row("e", "u", "view")])
    with pytest.raises(FootpathError, match=r"events\.sequence: .* not a whole number"):
        land(ties(sequence=sql), Lake.of("tiny"), None)


def test_elements_of_a_row_keep_their_order_when_one_is_mended(source, tmp_path):
    mapping = {"explode": "string_split(act, ' ')", "action": "each", "event_id": None}
    dataset, lake = ties(**mapping), Lake.of("tiny")
    write(source.folder, FIRST, "a", [Row(None, "u", "view ad purchase"), Row(None, "u", "view")])
    ingest(dataset, [FIRST])
    mend(dataset, lake, tmp_path, {"action": "add"})
    assert [e["action"] for e in published(dataset, lake)] == [*ACTIONS, "view"]
    assert [e["sequence"] for e in published(dataset, lake)] == [0, 1, 2, 3]


def mend(dataset: Dataset, lake: Lake, folder: Path, change: dict) -> None:
    """Mends all rows that the gate has refused."""
    path = folder / "mend.jsonl"
    write_editable(dataset, read_quarantine(lake), path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines
    mended = [line | {"row": line["row"] | change} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in mended))
    assert repair(dataset, lake, read_editable(path)).replaced == len(lines)


def test_training_sequences_and_last_events_are_in_that_order(source):
    lake = Lake.of("tiny")
    rows = [Row(i, "u", a) for i, a in zip(["9", "10", "11"], ACTIONS, strict=True)]
    write(source.folder, FIRST, "a", rows)
    ingest(WITH_IDS, [FIRST])
    words = ["[PAD]", "[MASK]", "[UNK]", *ACTIONS]

    def actions(holdout: int) -> list[str]:
        folder = build_sequences(WITH_IDS, lake, FIRST, holdout=holdout).folder
        return [words[n] for n in np.load(folder / "action.npy")]

    assert actions(holdout=0) == ACTIONS
    assert actions(holdout=1) == ACTIONS[:2]


# --- The property ----------------------------------------------------------------------------

ROWS = st.lists(
    st.builds(
        Row,
        id=st.sampled_from([f"e{n}" for n in range(12)]),
        who=st.sampled_from(["u", "v"]),
        act=st.sampled_from(ACTIONS),
        ts=st.sampled_from([INSTANT, "2026-03-01T10:00:01Z", "2026-03-02T00:00:00Z"]),
        nr=st.none(),
    ),
    max_size=8,
)
NAMES = ["p-1", "p-2", "p-10", "p-010", "P", "p", "9", "10"]
FILES = st.dictionaries(
    st.tuples(st.sampled_from([FIRST, NEXT]), st.sampled_from(NAMES)), ROWS, min_size=1, max_size=6
)


def natural(name: str) -> list:
    """Parts of a name by character, a number as one that is larger, the larger it is."""
    return [
        (ord("0"), int(part)) if part.isdigit() else (ord(part), 0)
        for part in re.findall(r"\d+|\D", f"{name}.csv")
    ]


def expected(files: dict, has_ids: bool) -> list[tuple]:
    """(user, time, sequence, action) of the events, once more and in plain Python."""
    order = sorted(files, key=lambda key: (key[0], natural(key[1]), key[1]))
    firsts, seen = [], set()
    for key in order:
        copies: Counter = Counter()
        for row in files[key]:
            content = (row.id, row.ts[:10]) if has_ids else row[1:4]
            copies[content] += 1
            identity = content if has_ids else (content, copies[content])
            if identity not in seen:
                seen.add(identity)
                firsts.append(row)
    tied = defaultdict(list)
    for row in firsts:
        tied[row.who, row.ts].append(row.act)
    return [(*key, n, act) for key in sorted(tied) for n, act in enumerate(tied[key])]


def check(files: dict, dataset: Dataset, rng: random.Random, folder: Path) -> None:
    sources, lake = linked(folder / "source", "tiny"), Lake.of("tiny")
    parts = list(files.items())
    rng.shuffle(parts)
    for number, ((arrival, name), rows) in enumerate(parts):
        # The first row of one of the files is broken at first.
        is_broken = number == 0 and bool(rows)
        broken = [rows[0]._replace(ts="?"), *rows[1:]] if is_broken else rows
        path = write(sources, arrival, name, broken)
        if rng.random() < 0.5:
            land(dataset, lake, None)
        if is_broken and rng.random() < 0.5:
            land(dataset, lake, None)
            mend(dataset, lake, folder, {"ts": rows[0].ts})
        if rng.random() < 0.3:  # the same again
            os.utime(path, ns=(number, number))
    land(dataset, lake, None)
    if len(read_quarantine(lake)):
        mend(dataset, lake, folder, {"ts": parts[0][1][0].ts})
    once = expected(files, bool(dataset.events.event_id))
    in_sessions = [
        [key[3] for key in keys]
        for _, keys in itertools.groupby(once, key=lambda key: (key[0], key[1][:10]))
    ]
    assert built(dataset, lake) == (once, in_sessions)
    assert reconcile(dataset, lake, True, None).faults == []
    # A lake of its own, landed at once.
    shutil.rmtree(lake.root)
    for (arrival, name), rows in files.items():
        write(sources, arrival, name, rows)
    land(dataset, lake, None)
    assert built(dataset, lake) == (once, in_sessions)


def built(dataset: Dataset, lake: Lake) -> tuple[list[tuple], list[list[str]]]:
    """(user, time, sequence, action) of the events, and the actions of the sessions, by user."""
    build_unaudited(dataset, [FIRST, NEXT], ("events", "sessions"))
    keys, actions = [], {}
    for day in (FIRST, NEXT):
        events = pq.read_table(lake.day("events", day)).to_pylist()
        of_day = [
            (e["user_id"], f"{e['timestamp']:%Y-%m-%dT%H:%M:%SZ}", e["sequence"], e["action"])
            for e in events
        ]
        assert of_day == sorted(of_day, key=lambda key: key[:3])  # as they lie in the file
        keys += of_day
        for session in pq.read_table(lake.day("sessions", day)).to_pylist():
            actions[session["user_id"], session["started_at"]] = session["actions"]
    return sorted(keys), [actions[key] for key in sorted(actions)]


@settings(max_examples=10, deadline=None)
@given(
    files=FILES,
    has_ids=st.booleans(),
    seed=st.integers(0, 2**32),
    batch=st.sampled_from([1, 3, 100_000]),
)
def test_the_order_follows_from_what_was_delivered_alone(files, has_ids, seed, batch):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", f"{name}/home")
        patch.setattr(dedup, "BATCH_ROWS", batch)
        check(files, WITH_IDS if has_ids else WITHOUT_IDS, random.Random(seed), Path(name))
