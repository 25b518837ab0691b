"""Training sequences: every user's events before an as-of, as flat memory-mapped arrays.

In: published events and the catalog. Out: `sequences/<as_of>.json`, which points at a folder of
`.npy` arrays that is named by their hash and never changes. Ids: 0 is [PAD] and stands for "no
value" too, such as the item of a search; 1 is [MASK]; 2 is [UNK], a rare or later one.

`session` says which of its user's sessions each event is in, counted from 0: cut as the published
sessions are, by `sessions` of the data set (features/sessionization/sessions.py).

Text lies beside them as documents (features/learning/tokens.py): `document` says which is each
event's, and `item_document` which is each vocabulary item's.

The vocabulary is fitted on those events alone and frozen with them. Given a model's vocabulary,
events of any as-of are encoded with that: an embedding of today and its model speak one language.

For an embedding alone, they are staged: written into a local folder that ends with the run, and
where a base is given, of the users who have done something since then.
"""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from contracts.base.clock import as_of_instant, day_window, days_between
from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.base.sql import literals, parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.pointers import file_hashes
from contracts.lake.publishing import json_text, publish_folder, publish_json, write_parquet
from features.learning.encoding import (
    SPECIAL,
    WORDS,
    encode_past,
    load_catalog,
    load_past,
    load_vocabulary,
    read_vocabulary,
    vocabulary_arrays,
)
from features.learning.tokens import fit_tokens, load_documents
from features.sessionization.session_pass import Pauses

FORMAT = 2  # of the pointer and the arrays that it names


@dataclass(frozen=True)
class SequencesReport:
    """The pointer that was published, and what it says."""

    pointer: Path
    folder: Path
    fingerprint: str
    vocabulary_hash: str
    train_cutoff: str  # ISO 8601, UTC: every event is before it
    users: int
    events: int


def build_sequences(
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    vocabulary: Path | None = None,
    holdout: int = 0,
) -> SequencesReport:
    """Publishes the sequences as of the end of a day.

    Args:
      dataset: which data set.
      lake: its lake.
      as_of: the last day that is seen.
      vocabulary: a frozen `vocabulary.json` to encode with; fitted anew where none is given. The
        pointer is then `<as_of>__<hash of the vocabulary>.json`, beside the fitted one.
      holdout: so many of each user's last events are left out, of the vocabulary too; who has no
        more is not there. The pointer is then `<as_of>__holdout<N>.json`.

    Raises:
      FootpathError: there are no events, `learning.query` is no property of them, or the vocabulary
        cannot be used.
    """
    with connect() as connection, lake.staging() as staging:
        load_past(connection, dataset, _events(connection, dataset, lake, as_of), holdout)
        said = _write(connection, dataset, lake, as_of, vocabulary, staging)
        folder = lake.root / "sequences" / f"{as_of}-{said['fingerprint']}"
        publish_folder(staging, folder)
    parts = [str(as_of)]
    parts += [f"holdout{holdout}"] if holdout else []
    parts += [said["vocabulary_hash"]] if vocabulary else []
    pointer = lake.root / "sequences" / f"{'__'.join(parts)}.json"
    how = {"folder": folder.name, "holdout": holdout}
    publish_json(lake, said | how, pointer)
    told = {name: said[name] for name in SequencesReport.__annotations__ if name in said}
    return SequencesReport(pointer=pointer, folder=folder, **told)


@dataclass(frozen=True)
class StagedSequences:
    """Sequences in a local folder, and who else has a vector on their day."""

    pointer: Path | None  # None where nobody has done anything since the base
    fingerprint: str  # of the sequences; empty where there are none
    everyone: Path | None  # with a base: Parquet of the ids of all who have an event by the as-of


def stage_sequences(
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    vocabulary: Path,
    folder: Path,
    base: dt.date | None = None,
) -> StagedSequences:
    """Writes sequences as of the end of a day for one embedding; nothing of them is published.

    Args:
      dataset: which data set.
      lake: its lake.
      as_of: the last day that is seen.
      vocabulary: a frozen `vocabulary.json` to encode with.
      folder: a new local folder, which is made.
      base: a day before. Of users without an event after it there is nothing; all others have their
        whole histories, the very arrays that they have in the sequences of everybody.

    Raises:
      FootpathError: as of `build_sequences`.
    """
    arrays = folder / "arrays"
    arrays.mkdir(parents=True)
    with connect() as connection:
        events, everyone = _events(connection, dataset, lake, as_of), None
        if base is not None:
            everyone = folder / "everyone.parquet"
            ids = connection.sql(f"SELECT DISTINCT user_id FROM {events}").to_arrow_table()
            write_parquet(ids, everyone)
            if not _choose(connection, dataset, lake, events, (base, as_of)):
                return StagedSequences(None, "", everyone)
            events = "chosen"
        load_past(connection, dataset, events)
        said = _write(connection, dataset, lake, as_of, vocabulary, arrays)
    pointer = folder / "sequences.json"
    pointer.write_text(json_text(said | {"folder": arrays.name}), encoding="utf-8")
    return StagedSequences(pointer, said["fingerprint"], everyone)


def _events(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, lake: Lake, as_of: dt.date
) -> str:
    """Makes `catalog`, and returns SQL of the events of all days up to the as-of."""
    paths = lake.existing("events", [day for day in lake.days("events") if day <= as_of])
    if not paths:
        raise FootpathError(
            f"data set '{dataset.name}' has no events up to {as_of}: materialize events first"
        )
    load_catalog(connection, lake.single("items"))
    return parquet(f"[{literals(paths)}]")


def _choose(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    events: str,
    days: tuple[dt.date, dt.date],
) -> bool:
    """Makes `chosen`, all events of the users with one after a base; False if there are none.

    Args:
      connection: has no table of that name.
      dataset: of the events.
      lake: of the data set.
      events: what they are selected from, in SQL.
      days: the base, and the as-of.
    """
    new_days = [day for day in lake.days("events") if days[0] < day <= days[1]]
    if not new_days:
        return False
    new = parquet(f"[{literals(lake.existing('events', new_days))}]")
    connection.execute(f"CREATE TEMP TABLE changed AS SELECT DISTINCT user_id FROM {new}")
    # Columns that nothing reads here would be half of what is read of all days.
    unread = "event_id" if dataset.learning.query else "event_id, properties"
    connection.execute(
        f"CREATE TEMP TABLE chosen AS SELECT * EXCLUDE ({unread}) FROM {events} "
        "SEMI JOIN changed USING (user_id)"
    )
    return connection.sql("SELECT count(*) FROM chosen").fetchall()[0][0] > 0


def _write(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    vocabulary: Path | None,
    folder: Path,
) -> dict[str, Any]:
    """Writes the arrays of `past`; returns what the pointer says of them beside their folder."""
    load_documents(connection, dataset.learning)
    words = read_vocabulary(vocabulary) if vocabulary else _fit(connection, dataset)
    load_vocabulary(connection, words)
    clock = _day_ends(dataset, lake, as_of), Pauses.of(dataset.sessions)
    users, events = _write_arrays(connection, folder, words, *clock)
    (folder / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False))
    files = file_hashes(folder)
    return {
        "format": FORMAT,
        "fingerprint": hash_json(files),
        "vocabulary_hash": files["vocabulary.json"],
        "train_cutoff": as_of_instant(as_of, dataset.timezone).isoformat(),
        "users": users,
        "events": events,
        "is_frozen": vocabulary is not None,
        "sessions": dataset.sessions.model_dump(exclude_none=True),
        "files": files,
    }


def _fit(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> dict[str, list[str]]:
    """The vocabulary of each field, most frequent first; actions as they are declared."""

    def frequent(column: str, at_least: int) -> list[str]:
        counted = connection.sql(
            f"SELECT {column} FROM past WHERE {column} IS NOT NULL GROUP BY {column} "
            f"HAVING count(*) >= {at_least} ORDER BY count(*) DESC, {column}"
        )
        return SPECIAL + counted.to_arrow_table().column(0).to_pylist()

    return {
        "item": frequent("item_id", dataset.learning.min_item_count),
        "action": SPECIAL + list(dataset.actions),
        "category": frequent("category", 1),
        WORDS: SPECIAL + fit_tokens(connection, dataset.learning),
    }


def _day_ends(dataset: Dataset, lake: Lake, as_of: dt.date) -> np.ndarray:
    """When the days of the events end, in microseconds since 1970."""
    ends = [
        day_window(day, dataset.timezone)[1] for day in days_between(lake.days("events")[0], as_of)
    ]
    return np.array([round(end.timestamp()) * 1_000_000 for end in ends])


def _write_arrays(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    words: dict[str, list[str]],
    day_ends: np.ndarray,
    pauses: Pauses,
) -> tuple[int, int]:
    """Writes arrays and users to the folder, batch by batch; returns users and events."""

    def mapped(name: str, dtype: type, length: int) -> np.ndarray:
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (length,))

    users, arrays = encode_past(connection, day_ends, pauses, mapped)
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
    write_parquet(users, folder / "users.parquet")
    rest = {"offsets": arrays["offsets"]} | vocabulary_arrays(connection, words)
    for name, array in rest.items():
        np.save(folder / f"{name}.npy", array)
    return users.num_rows, len(arrays["time"])
