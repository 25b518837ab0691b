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
"""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

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
from contracts.lake.publishing import publish_folder, publish_json, write_parquet
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
    cutoff = as_of_instant(as_of, dataset.timezone)
    connection = connect()
    _load_events(connection, dataset, lake, as_of, holdout)
    load_documents(connection, dataset.learning)
    words = read_vocabulary(vocabulary) if vocabulary else _fit(connection, dataset)
    load_vocabulary(connection, words)
    with lake.staging() as staging:
        clock = _day_ends(dataset, lake, as_of), Pauses.of(dataset.sessions)
        users, events = _write_arrays(connection, staging, words, *clock)
        (staging / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False))
        files = file_hashes(staging)
        words_hash, fingerprint = files["vocabulary.json"], hash_json(files)
        folder = lake.root / "sequences" / f"{as_of}-{fingerprint}"
        publish_folder(staging, folder)
    parts = [str(as_of)]
    parts += [f"holdout{holdout}"] if holdout else []
    parts += [words_hash] if vocabulary else []
    pointer = lake.root / "sequences" / f"{'__'.join(parts)}.json"
    said = {
        "fingerprint": fingerprint,
        "vocabulary_hash": words_hash,
        "train_cutoff": cutoff.isoformat(),
        "users": users,
        "events": events,
    }
    how = {"holdout": holdout, "is_frozen": vocabulary is not None}
    how |= {"sessions": dataset.sessions.model_dump(exclude_none=True), "files": files}
    publish_json(lake, {"format": FORMAT, "folder": folder.name, **said, **how}, pointer)
    return SequencesReport(pointer=pointer, folder=folder, **said)


def _load_events(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    as_of: dt.date,
    holdout: int,
) -> None:
    """Makes `catalog`, and the view `past`: events of these days with category and query."""
    paths = lake.existing("events", [day for day in lake.days("events") if day <= as_of])
    if not paths:
        raise FootpathError(
            f"data set '{dataset.name}' has no events up to {as_of}: materialize events first"
        )
    load_catalog(connection, lake.single("items"))
    load_past(connection, dataset, parquet(f"[{literals(paths)}]"), holdout)


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
