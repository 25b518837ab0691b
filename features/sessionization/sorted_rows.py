"""Blocks of sorted events in memory: whole users at a time, whatever the size of a day.

In:  a published day of events, sorted by user, time and sequence, and rows that an earlier day left
open. Out: `Rows`, blocks of whole users in that same order. Nothing is sorted: two sorted inputs
are woven into one, and what is in memory is one block.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.lake.reading import open_parquet

# Events that are read at a time.
BLOCK_ROWS = 250_000

# Where a row comes from: the day itself; an earlier day, in a session that is still open; an
# earlier day, as the last event of a session that is published already.
NEW, OPEN, DONE = range(3)

# Rows as they wait for the next block or the next day.
WAITING = pa.schema(
    [
        ("user_id", pa.string()),
        ("time", pa.int64()),  # microseconds since 1970
        ("action", pa.string()),
        ("item_id", pa.string()),
        ("value", pa.int64()),  # millionths
        ("session", pa.string()),  # the source's, where sessions go by it
        ("origin", pa.uint8()),
    ]
)

# Values above do not fit: int64 millionths of nine of them still have a sum.
LARGEST_VALUE = 1e12


@dataclass(frozen=True)
class Coded:
    """A column of strings as places in a list of different words; -1 is null."""

    codes: np.ndarray
    words: pa.Array

    @classmethod
    def of(cls, column: pa.Array) -> "Coded":
        """Takes over the codes of a dictionary column, or makes them."""
        column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        return cls(_plain(column.indices.fill_null(-1)).astype(np.int32), column.dictionary)

    def strings(self) -> pa.Array:
        """The column."""
        return self.words.take(pa.array(self.codes, mask=self.codes < 0))

    def with_words_of(self, column: pa.Array) -> "tuple[Coded, np.ndarray]":
        """Returns itself with the words of another column too, and that column's codes."""
        places = pc.index_in(column, self.words)
        unknown = column.filter(pc.and_(column.is_valid(), places.is_null())).unique()
        words = pa.concat_arrays([self.words, unknown]) if len(unknown) else self.words
        later = pc.add(pc.index_in(column, unknown), len(self.words))
        codes = pc.coalesce(places, later, pa.scalar(-1, pa.int32()))
        return Coded(self.codes, words), _plain(codes)


@dataclass(frozen=True)
class Rows:
    """Events of whole users, by user, time and sequence; one entry an event unless said."""

    users: pa.Array  # each user once, ascending
    starts: np.ndarray  # where each user's events begin, and the end: one more than users
    time: np.ndarray  # int64, microseconds since 1970
    action: Coded
    item: Coded
    value: np.ndarray  # int64, millionths; 0 for null and for what is no sum of money
    session: Coded  # the source's; null where it has none, and where sessions do not go by it
    origin: np.ndarray  # NEW, OPEN or DONE

    def select(self, chosen: np.ndarray | slice) -> "Rows":
        """Some events; users and starts are left as they are."""
        return replace(
            self,
            time=self.time[chosen],
            action=replace(self.action, codes=self.action.codes[chosen]),
            item=replace(self.item, codes=self.item.codes[chosen]),
            value=self.value[chosen],
            session=replace(self.session, codes=self.session.codes[chosen]),
            origin=self.origin[chosen],
        )

    def without_last_user(self) -> "Rows":
        """All but the last user's events."""
        rows = self.select(slice(0, self.starts[-2]))
        return replace(rows, users=self.users[:-1], starts=self.starts[:-1])

    def by_session(self) -> "Rows":
        """The same, each session of the source as if it were a user: the user is there again.

        A user's sessions lie in any order, the events of each in that of the user's.
        """
        user = np.repeat(np.arange(len(self.users)), np.diff(self.starts))
        order = np.lexsort((self.session.codes, user))  # which is stable
        rows, user = self.select(order), user[order]
        begins = np.ones(len(user), bool)
        begins[1:] = (np.diff(user) != 0) | (np.diff(rows.session.codes) != 0)
        firsts = np.flatnonzero(begins)
        return replace(
            rows, users=self.users.take(user[firsts]), starts=np.append(firsts, len(user))
        )

    def waiting(self, places: np.ndarray) -> pa.Table:
        """The events at some places, ascending, as a table of WAITING."""
        rows = self.select(places)
        user = self.users.take(np.searchsorted(self.starts, places, side="right") - 1)
        strings = (rows.action.strings(), rows.item.strings())
        columns = [user, pa.array(rows.time), *strings, pa.array(rows.value)]
        columns += [rows.session.strings(), pa.array(rows.origin)]
        return pa.table(columns, schema=WAITING)


def read_blocks(path: Path, since: dt.datetime, by_source: bool = False) -> Iterator[Rows]:
    """Reads the events of a published day from an instant on, in order.

    A user's events may go on in the next block.

    Args:
      path: of the day.
      since: the instant.
      by_source: read the source's session ids too.

    Raises:
      FootpathError: the events are not sorted by user and time.
    """
    columns = ["user_id", "timestamp", "action", "item_id", "value"]
    instant = round(since.timestamp()) * 1_000_000
    coded = ["user_id", "action", "item_id"]
    if by_source:
        columns, coded = [*columns, "session_id"], [*coded, "session_id"]
    last = ""
    with pq.ParquetFile(open_parquet(path), read_dictionary=coded, pre_buffer=False) as file:
        for batch in file.iter_batches(BLOCK_ROWS, columns=columns):
            if not batch.num_rows:
                continue
            rows = _rows(batch)
            _check_order(rows, last, path)
            last = rows.users[-1].as_py()
            if rows.time.min() < instant:
                rows = _rows(batch.filter(pa.array(rows.time >= instant)))
            yield rows


def _rows(batch: pa.RecordBatch) -> Rows:
    user = Coded.of(batch["user_id"])
    is_first = np.ones(len(user.codes), bool)
    np.not_equal(user.codes[1:], user.codes[:-1], out=is_first[1:])
    firsts = np.flatnonzero(is_first)
    return Rows(
        users=user.words.take(user.codes[firsts]),
        starts=np.append(firsts, batch.num_rows),
        time=_plain(batch["timestamp"].cast("int64")),
        action=Coded.of(batch["action"]),
        item=Coded.of(batch["item_id"]),
        value=_millionths(batch["value"]),
        session=_sessions(batch),
        origin=np.full(batch.num_rows, NEW, np.uint8),
    )


def _sessions(batch: pa.RecordBatch) -> Coded:
    if "session_id" in batch.schema.names:
        return Coded.of(batch["session_id"])
    return Coded(np.full(batch.num_rows, -1, np.int32), pa.array([], pa.string()))


def _millionths(values: pa.Array) -> np.ndarray:
    """Rounds to whole millionths: a sum of floats would depend on its order."""
    plain = _plain(values.fill_null(0))
    plain = np.where(np.abs(plain) < LARGEST_VALUE, plain, 0)  # nor NaN, nor infinity
    exact = pc.round(pa.array(plain * 1e6), round_mode="half_towards_infinity")
    return _plain(exact).astype(np.int64)


def _check_order(rows: Rows, last: str, path: Path) -> None:
    """Refuses what is not sorted: its sessions would be wrong without a sign of it."""
    users_ascend = rows.users[0].as_py() >= last
    if len(rows.users) > 1:
        users_ascend &= pc.all(pc.less(rows.users[:-1], rows.users[1:])).as_py()
    back = np.diff(rows.time) < 0
    back[rows.starts[1:-1] - 1] = False
    if back.any() or not users_ascend:
        raise FootpathError(f"{path} is not sorted by user and time: materialize that day again")


def empty_rows() -> Rows:
    """A block without an event."""
    names = [*WAITING.names[2:4], "user_id"]
    schema = pa.schema([(name, pa.string()) for name in names])
    schema = schema.append(pa.field("timestamp", pa.timestamp("us", "UTC")))
    schema = schema.append(pa.field("value", pa.float64()))
    return _rows(pa.RecordBatch.from_pylist([], schema=schema))


def weave(waiting: pa.Table, block: Rows) -> Rows:
    """Puts rows that have waited before the block's rows of the same user, in order of user.

    Args:
      waiting: table of WAITING, sorted by user and time; a user's rows are all older than their
        rows in the block.
      block: rows of whole users.
    """
    if not waiting.num_rows:
        return block
    columns = {name: _array(waiting[name]) for name in WAITING.names}
    runs = pc.run_end_encode(columns["user_id"])
    users, lengths = runs.values, np.diff(_plain(runs.run_ends), prepend=0)
    place = _plain(pc.search_sorted(block.users, users)).astype(np.int64)
    is_new = np.ones(len(users), bool)
    inside = place < len(block.users)
    is_new[inside] = _plain(pc.not_equal(block.users.take(place[inside]), users.filter(inside)))
    # Where each row of `waiting` comes to stand, and the rest for the block's rows.
    at = np.repeat(block.starts[place], lengths) + np.arange(waiting.num_rows)
    is_block = np.ones(len(block.time) + waiting.num_rows, bool)
    is_block[at] = False

    def woven(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        both = np.empty(len(is_block), new.dtype)
        both[at], both[is_block] = old, new
        return both

    merged, starts = _weave_users(block, users, lengths, place, is_new)
    action, action_codes = block.action.with_words_of(columns["action"])
    item, item_codes = block.item.with_words_of(columns["item_id"])
    session, session_codes = block.session.with_words_of(columns["session"])
    return Rows(
        users=merged,
        starts=starts,
        time=woven(_plain(columns["time"]), block.time),
        action=replace(action, codes=woven(action_codes, action.codes)),
        item=replace(item, codes=woven(item_codes, item.codes)),
        value=woven(_plain(columns["value"]), block.value),
        session=replace(session, codes=woven(session_codes, session.codes)),
        origin=woven(_plain(columns["origin"]), block.origin),
    )


def _weave_users(
    block: Rows, users: pa.Array, lengths: np.ndarray, place: np.ndarray, is_new: np.ndarray
) -> tuple[pa.Array, np.ndarray]:
    """The users of both, each once, and where each user's rows begin."""
    at = place[is_new] + np.arange(is_new.sum())
    is_block = np.ones(len(block.users) + len(at), bool)
    is_block[at] = False
    order = np.empty(len(is_block), np.int64)
    order[is_block] = np.arange(len(block.users))
    order[at] = len(block.users) + np.arange(len(at))
    counts = np.zeros(len(is_block), np.int64)
    counts[is_block] = np.diff(block.starts)
    counts[place + np.cumsum(is_new) - is_new] += lengths
    merged = pa.concat_arrays([block.users, users.filter(is_new)]).take(order)
    return merged, np.concatenate([[0], np.cumsum(counts)])


class Waiting:
    """Rows on disk that wait for the next day, in order of user, handed out up to a user."""

    def __init__(self, path: Path | None) -> None:
        self._batches = _stored(path) if path else iter(())
        self._rows = WAITING.empty_table()

    def until(self, user: str | None) -> pa.Table:
        """Takes the rows of the users up to this one, which is among them; of all if None."""
        taken = []
        while user is None or not self._rows.num_rows or self._last() <= user:
            taken.append(self._rows)
            batch = next(self._batches, None)
            if batch is None:
                self._rows = WAITING.empty_table()
                return pa.concat_tables(taken)
            self._rows = pa.Table.from_batches([batch])
        users = _array(self._rows["user_id"])
        here = pc.search_sorted(users, pa.scalar(user), side="right").as_py()
        taken.append(self._rows.slice(0, here))
        self._rows = self._rows.slice(here)
        return pa.concat_tables(taken)

    def _last(self) -> str:
        return self._rows["user_id"][-1].as_py()


def _stored(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def _array(column: pa.ChunkedArray) -> pa.Array:
    column = column.combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _plain(column: pa.Array) -> np.ndarray:
    return column.to_numpy(zero_copy_only=False)
