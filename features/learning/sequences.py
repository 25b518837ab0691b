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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from contracts.base.clock import as_of_instant, day_window, days_between
from contracts.base.errors import FieldError, FootpathError
from contracts.base.hashing import hash_json
from contracts.base.sql import literal, literals, parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.pointers import file_hashes
from contracts.lake.publishing import publish_folder, publish_json, write_parquet
from contracts.lake.reading import read_json
from features.learning.holdout import is_held_out
from features.learning.tokens import fit_tokens, load_documents, write_documents
from features.sessionization.session_pass import Pauses, session_numbers

FORMAT = 2  # of the pointer and the arrays that it names
SPECIAL = ["[PAD]", "[MASK]", "[UNK]"]
FIELDS = ["item", "action", "category"]
WORDS = "token"  # the field of the vocabulary that documents are written in
_UNKNOWN = SPECIAL.index("[UNK]")
_BATCH = 1_000_000
_DTYPES = {
    "item": np.int32,
    "action": np.int32,
    "category": np.int32,
    "value": np.float32,
    "time": np.int64,
    "document": np.int32,
    "session": np.int32,
}


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
    words = _read_vocabulary(vocabulary) if vocabulary else _fit(connection, dataset)
    _load_vocabulary(connection, words)
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
    items = lake.single("items")
    connection.execute(
        "CREATE TEMP TABLE catalog (item_id VARCHAR, title VARCHAR, category VARCHAR, "
        "attributes MAP(VARCHAR, VARCHAR))"
    )
    if items.exists():
        columns = "item_id, title, category, attributes"
        rows = f"SELECT {columns} FROM {parquet(literal(str(items)))}"
        connection.execute(f"INSERT INTO catalog {rows}")
    source = "session_id" if dataset.sessions.by == "source" else "NULL::VARCHAR"
    connection.execute(
        "CREATE TEMP VIEW past AS SELECT user_id, timestamp, sequence, action, events.item_id, "
        f"category, value, {query_sql(dataset)} AS query, {source} AS source_session "
        f"FROM {parquet(f'[{literals(paths)}]')} AS events "
        "LEFT JOIN catalog ON events.item_id = catalog.item_id"
        + (f" QUALIFY NOT {is_held_out(holdout)}" if holdout else "")
    )


def query_sql(dataset: Dataset) -> str:
    """The SQL of what was searched for; null where there is an item.

    Raises:
      FieldError: `learning.query` is no property of events.
    """
    key = dataset.learning.query
    if key is None:
        return "NULL::VARCHAR"
    if key not in dataset.events.properties:
        known = ", ".join(dataset.events.properties) or "none"
        text = f"names the property '{key}', and events.properties has {known}"
        raise FieldError(f"data set '{dataset.name}'", [(("learning", "query"), text)])
    return f"CASE WHEN events.item_id IS NULL THEN properties[{literal(key)}] END"


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


def _read_vocabulary(path: Path) -> dict[str, list[str]]:
    words = read_json(path)
    # One that was fitted before there was text has no tokens, and stays as it is.
    fields = [*FIELDS, WORDS] if WORDS in words else FIELDS
    for field in fields:
        if not isinstance(words.get(field), list) or words[field][: len(SPECIAL)] != SPECIAL:
            raise FootpathError(
                f"{path}: field '{field}' must be a list that begins with {', '.join(SPECIAL)}: "
                f"give the vocabulary.json of a checkpoint"
            )
    return {field: words[field] for field in fields}


def _load_vocabulary(connection: duckdb.DuckDBPyConnection, words: dict[str, list[str]]) -> None:
    """Makes a table `<field>_words` (word, id) of every field."""
    for field, known in ({WORDS: SPECIAL} | words).items():
        ids = pa.array(range(len(known)), pa.int32())
        connection.register("incoming", pa.table({"word": pa.array(known, pa.string()), "id": ids}))
        # The special words are ours: an item that happens to be called [MASK] is not one.
        connection.execute(
            f"CREATE TEMP TABLE {field}_words AS SELECT * FROM incoming WHERE id >= {len(SPECIAL)}"
        )
        connection.unregister("incoming")


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
    counts = connection.sql(
        "SELECT user_id, count(*) AS events FROM past GROUP BY user_id ORDER BY user_id"
    ).to_arrow_table()
    offsets = np.concatenate([[0], np.cumsum(counts["events"].to_numpy())]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets)
    write_parquet(counts.select(["user_id"]), folder / "users.parquet")
    arrays = {
        field: np.lib.format.open_memmap(folder / f"{field}.npy", "w+", dtype, (int(offsets[-1]),))
        for field, dtype in _DTYPES.items()
    }
    start = 0
    for block in _whole_users(_encoded(connection).to_arrow_reader(_BATCH), offsets):
        stop = start + len(block)
        firsts = offsets[slice(*np.searchsorted(offsets, (start, stop)))] - start
        time = block["microseconds"].to_numpy()
        session = block["source_session"].combine_chunks() if pauses.opens is not None else None
        arrays["session"][start:stop] = session_numbers(time, firsts, day_ends, pauses, session)
        for field in arrays.keys() & set(block.column_names):
            arrays[field][start:stop] = block[field].to_numpy()
        start = stop
    for array in arrays.values():
        array.flush()
    np.save(folder / "item_category.npy", _item_category(connection, len(words["item"])))
    write_documents(connection, folder, len(words["item"]))
    return counts.num_rows, int(offsets[-1])


def _encoded(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """Selects the fields of every event, in order of user, time and sequence."""
    columns = {"item": "item_id", "action": "action", "category": "category"}
    ids = ", ".join(
        f"CASE WHEN past.{column} IS NULL THEN 0 ELSE coalesce({field}_words.id, {_UNKNOWN}) END"
        f"::INTEGER AS {field}"
        for field, column in columns.items()
    )
    joins = " ".join(
        f"LEFT JOIN {field}_words ON past.{column} = {field}_words.word"
        for field, column in columns.items()
    )
    joins += (
        " LEFT JOIN item_document ON past.item_id = item_document.item_id"
        " LEFT JOIN query_document ON past.query = query_document.query"
    )
    # A value beyond float32, or NaN, would stop the query or poison the training.
    number = "TRY_CAST(value AS FLOAT)"
    return connection.sql(
        f"SELECT {ids}, CASE WHEN isfinite({number}) THEN {number} ELSE 0 END::FLOAT AS value, "
        f"epoch_us(timestamp) AS microseconds, microseconds // 1000000 AS time, "
        "coalesce(item_document.document, query_document.document, 0)::INTEGER AS document, "
        "source_session "
        f"FROM past {joins} ORDER BY user_id, timestamp, sequence"
    )


def _whole_users(batches: Iterable[pa.RecordBatch], offsets: np.ndarray) -> Iterator[pa.Table]:
    """Joins and cuts batches so that each user's events are in one block."""
    kept: list[pa.RecordBatch] = []
    stop = 0
    for batch in batches:
        kept.append(batch)
        stop += len(batch)
        rest = stop - int(offsets[np.searchsorted(offsets, stop, side="right") - 1])
        block = pa.Table.from_batches(kept)
        if rest < len(block):
            yield block.slice(0, len(block) - rest)
            kept = block.slice(len(block) - rest).to_batches()


def _item_category(connection: duckdb.DuckDBPyConnection, items: int) -> np.ndarray:
    """The category id of every item id, int32[items]; 0 where it has none."""
    found = connection.sql(
        "SELECT item_words.id AS item, category_words.id AS category FROM item_words "
        "JOIN catalog ON item_words.word = catalog.item_id "
        "JOIN category_words ON catalog.category = category_words.word"
    ).to_arrow_table()
    categories = np.zeros(items, np.int32)
    categories[found["item"].to_numpy()] = found["category"].to_numpy()
    return categories
