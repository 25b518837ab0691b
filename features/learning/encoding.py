"""Events -> arrays of ids: what training sequences of a lake and of one live user have in common.

In: a connection with the tables `past` (events with their category and query), `catalog`, and the
words of each field of a vocabulary. Out: the arrays of training sequences, by user, time and
sequence (sequences.py says what they hold).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from contracts.base.errors import FieldError, FootpathError
from contracts.base.sql import literal, parquet
from contracts.config.dataset import Dataset
from contracts.lake.reading import read_json
from features.learning.holdout import is_held_out
from features.learning.tokens import document_arrays
from features.sessionization.session_pass import Pauses, session_numbers

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

# Makes an empty array of a name, type and length: in memory, or a map of a file.
Maker = Callable[[str, type, int], np.ndarray]


def load_catalog(connection: duckdb.DuckDBPyConnection, items: Path) -> None:
    """Makes `catalog` of the table of items, empty where there is none."""
    connection.execute(
        "CREATE TEMP TABLE catalog (item_id VARCHAR, title VARCHAR, category VARCHAR, "
        "attributes MAP(VARCHAR, VARCHAR))"
    )
    if items.exists():
        columns = "item_id, title, category, attributes"
        rows = f"SELECT {columns} FROM {parquet(literal(str(items)))}"
        connection.execute(f"INSERT INTO catalog {rows}")


def load_past(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, events: str, holdout: int = 0
) -> None:
    """Makes the view `past` of published events, with category and query.

    Args:
      connection: has `catalog`.
      dataset: of the events.
      events: what they are selected from, in SQL.
      holdout: so many of each user's last events are left out.
    """
    source = "session_id" if dataset.sessions.by == "source" else "NULL::VARCHAR"
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW past AS "
        "SELECT user_id, timestamp, sequence, action, events.item_id, "
        f"category, value, {query_sql(dataset)} AS query, {source} AS source_session "
        f"FROM {events} AS events "
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


def read_vocabulary(path: Path) -> dict[str, list[str]]:
    """Reads a frozen vocabulary.

    Raises:
      FootpathError: it is none.
    """
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


def load_vocabulary(connection: duckdb.DuckDBPyConnection, words: dict[str, list[str]]) -> None:
    """Makes a table `<field>_words` (word, id) of every field."""
    for field, known in ({WORDS: SPECIAL} | words).items():
        ids = pa.array(range(len(known)), pa.int32())
        connection.register("incoming", pa.table({"word": pa.array(known, pa.string()), "id": ids}))
        # The special words are ours: an item that happens to be called [MASK] is not one.
        connection.execute(
            f"CREATE TEMP TABLE {field}_words AS SELECT * FROM incoming WHERE id >= {len(SPECIAL)}"
        )
        connection.unregister("incoming")


def encode_past(
    connection: duckdb.DuckDBPyConnection, day_ends: np.ndarray, pauses: Pauses, make: Maker
) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Encodes the events of `past`, batch by batch.

    Args:
      connection: has `past`, the words of each field, and the documents.
      day_ends: when local days end, in microseconds since 1970, ascending; those of all events.
      pauses: the longest within sessions.
      make: makes the arrays that are filled.

    Returns:
      The users in order, and the arrays by name: `offsets` of each user, and those of each event.
    """
    counts = connection.sql(
        "SELECT user_id, count(*) AS events FROM past GROUP BY user_id ORDER BY user_id"
    ).to_arrow_table()
    offsets = np.concatenate([[0], np.cumsum(counts["events"].to_numpy())]).astype(np.int64)
    arrays = {field: make(field, dtype, int(offsets[-1])) for field, dtype in _DTYPES.items()}
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
    return counts.select(["user_id"]), {"offsets": offsets} | arrays


def vocabulary_arrays(
    connection: duckdb.DuckDBPyConnection, words: dict[str, list[str]]
) -> dict[str, np.ndarray]:
    """What is known of the items of a vocabulary: their categories, and all documents."""
    items = len(words["item"])
    return {"item_category": _item_category(connection, items)} | document_arrays(connection, items)


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
