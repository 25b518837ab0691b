"""Brings the online store up to date: only what changed.

In come the published daily objects of every current view; out go the rows of the online store,
readable by stock Feast. What is new of a user goes in for all views in one step, so that no read
of a service meets a new row beside an old one. A crash leaves the old state, and the next run
writes again.

What is there is looked at as well (verify.py), and written again where it is not as it was written:
a bucket of each view's rows at each run, and every row where the store is not the one that the last
run left, as a file that was restored. Each run that writes gives the store the next generation.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json
from features.store.aligned import aligned
from features.store.changes import Changes, State, publish_state, read_state
from features.store.online_writer import OnlineWriter
from features.store.repository import locked
from features.store.served import served_views
from features.store.verify import Verified, verify, without
from features.store.view_specs import View, repository

BATCH = 10_000  # users or items
CELLS = 1_000_000  # of all views, that are written in one step


@dataclass(frozen=True)
class MaterializeReport:
    """How many rows were written, and how many looked at."""

    online_store: str  # its type, as in feature_store.yaml
    rows: int  # of all views
    views: dict[str, int]  # view -> its rows
    looked: int  # rows that were compared with what had been written
    of: int  # rows that there are
    repaired: dict[str, list[str]]  # view -> whose rows were not as written, and are again

    def __str__(self) -> str:
        found = f"looked at {self.looked:,} of {self.of:,} rows"
        wrong = sum(map(len, self.repaired.values()))
        if not wrong:
            return f"{found}: all as written"
        view, ids = next(iter(self.repaired.items()))
        return (
            f"{found}: {wrong:,} were not as written, and are again, "
            f"such as of '{ids[0]}' in {view}"
        )


def materialize(
    dataset: Dataset,
    lake: Lake,
    progress: Callable[[int, int], None] | None = None,
    verify_all: bool = False,
) -> MaterializeReport:
    """Writes every row that the online store lacks, has an older version of, or has otherwise.

    Args:
      dataset: whose features.
      lake: its lake, with an applied registry.
      progress: gets (rows written, rows to write) after every batch.
      verify_all: every row is looked at, not a bucket of each view.

    Raises:
      FootpathError: no registry was applied, or the store refused a read or write.
    """
    with locked(lake):
        return write_views(lake, served_views(dataset, lake), progress, verify_all)


def write_views(
    lake: Lake,
    views: list[View],
    progress: Callable[[int, int], None] | None = None,
    verify_all: bool = False,
) -> MaterializeReport:
    """Writes what the online store lacks of some views; the caller holds the lock."""
    writer = OnlineWriter(lake, views)
    token, generation = writer.mark()
    ledger = _Ledger.read(lake)
    suspect = set(ledger.suspect)
    if ledger.generation != generation:
        suspect |= {path.stem for path in (repository(lake) / "online").glob("*.parquet")}
    looked: dict[str, Verified] = {}
    states: dict[str, State] = {}
    for view in views:
        state = read_state(lake, view, token)
        look = None if verify_all or view.name in suspect else ledger.looks
        found = looked[view.name] = verify(lake, view, state, look)
        states[view.name] = without(view, state, found.ids) if found.ids else state
    rows = _write(lake, views, states, writer, progress)
    repaired = {name: found.ids for name, found in looked.items() if found.ids}
    if any(rows.values()) or ledger.generation != generation:
        generation = max(generation, ledger.generation) + 1
        writer.set_mark(token, generation)
    left = tuple(sorted(suspect - looked.keys()))
    _Ledger(generation, ledger.looks + 1, left).publish(lake)
    return MaterializeReport(
        writer.kind,
        sum(rows.values()),
        rows,
        looked=sum(found.looked for found in looked.values()),
        of=sum(found.rows for found in looked.values()),
        repaired=repaired,
    )


@dataclass(frozen=True)
class _Ledger:
    """What the last run left: the generation of the store, and how often it was looked at."""

    generation: int = 0
    looks: int = 0
    suspect: tuple[str, ...] = ()  # views of a restored store that were not looked at since

    @classmethod
    def read(cls, lake: Lake) -> "_Ledger":
        path = repository(lake) / "online" / "generation.json"
        found = read_json(path) if path.exists() else {}
        return cls(**found | {"suspect": tuple(found.get("suspect", ()))})

    def publish(self, lake: Lake) -> None:
        path = repository(lake) / "online" / "generation.json"
        publish_json(lake, dataclasses.asdict(self), path)


def _write(
    lake: Lake,
    views: list[View],
    states: dict[str, State],
    writer: OnlineWriter,
    progress: Callable[[int, int], None] | None,
) -> dict[str, int]:
    """Writes what is newer than the states, and returns the rows of each view."""
    with connect() as connection:
        found = [Changes(connection.cursor(), lake, v, states.pop(v.name)) for v in views]
        rows, written = sum(changes.rows for changes in found), 0
        size = max(1, min(BATCH, CELLS // sum(len(view.columns) for view in views)))
        for key in sorted({view.key for view in views}):
            of_key = [c for c in found if c.view.key == key]
            for parts in aligned([changes.batches(size) for changes in of_key]):
                writer.write([(of_key[number].view, part) for number, part in parts.items()])
                written += sum(part.num_rows for part in parts.values())
                if progress:
                    progress(written, rows)
        for changes in found:
            publish_state(lake, changes.view, changes.state())
        return {changes.view.name: changes.rows for changes in found}
