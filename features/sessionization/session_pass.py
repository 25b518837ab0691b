"""Sorted events -> sessions, in one pass without a sort, day after day.

The published events of a day are sorted by user, time and sequence. So sessions are runs of rows,
and their lists are the columns themselves with offsets. What a day leaves open waits on disk, in
the same order, and is woven into the next day's rows. Whatever the size of a day, what is in memory
is one block of rows (sorted_rows.py). The rule is told in sessions.py.
"""

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.batches import chunks
from contracts.config.policy import Sessions
from contracts.lake.layout import Lake
from contracts.lake.schemas import SESSIONS, TIMESTAMP
from features.sessionization.sorted_rows import (
    DONE,
    NEW,
    OPEN,
    WAITING,
    Coded,
    Rows,
    Waiting,
    empty_rows,
    read_blocks,
    weave,
)

T = TypeVar("T")

# Events of the sessions that are written together: the size of a row group.
GROUP_EVENTS = 1_000_000


@dataclass(frozen=True)
class Pauses:
    """The longest pause within a session, in microseconds; None where none goes by the source."""

    gap: int  # of events without a session id
    opens: int | None  # of those with one

    @classmethod
    def of(cls, sessions: Sessions) -> "Pauses":
        """Those of a data set."""
        unit = dt.timedelta(microseconds=1)
        return cls(
            sessions.gap // unit, sessions.opens // unit if sessions.by == "source" else None
        )

    def of_rows(self, session: np.ndarray) -> np.ndarray | np.int64:
        """The pause that each event allows behind it; session: codes, -1 is none."""
        if self.opens is None:
            return np.int64(self.gap)
        return np.where(session < 0, self.gap, self.opens)


@dataclass(frozen=True)
class Window:
    """A local day, the instant at which it ends, and whether its sessions are wanted."""

    day: dt.date
    ends: dt.datetime
    is_wanted: bool


def sessions_in_order(
    lake: Lake, windows: list[Window], since: dt.datetime, pauses: Pauses, folder: Path
) -> Iterator[pa.RecordBatch]:
    """The sessions that close in the wanted days, with their `day`, in the order of a day.

    Args:
      lake: holds `events`; a day that is not published counts as empty.
      windows: consecutive days, the look-back of the first wanted one included.
      since: events before this instant are left out.
      pauses: the longest within sessions.
      folder: where rows wait from day to day.
    """
    published = set(lake.days("events"))
    before = None
    for window in windows:
        path = lake.day("events", window.day)
        by_source = pauses.opens is not None
        blocks = read_blocks(path, since, by_source) if window.day in published else iter(())
        after = folder / f"{window.day.isoformat()}.waiting"
        with (
            pa.OSFile(str(after), "wb") as file,
            pa.ipc.new_stream(
                file, WAITING, options=pa.ipc.IpcWriteOptions(compression="lz4")
            ) as w,
        ):
            sessions = _of_day(ahead(blocks), Waiting(before), window, pauses, w)
            sized = ((table, pc.sum(table["length"]).as_py()) for table in sessions if len(table))
            for tables in chunks(sized, GROUP_EVENTS):
                group = pa.concat_tables(tables).combine_chunks()
                day = pa.array([window.day], pa.date32()).take(np.zeros(len(group), np.int8))
                yield group.append_column("day", day).to_batches()[0]
        if before:
            before.unlink()
        before = after
    if before:
        before.unlink()


def _of_day(
    blocks: Iterable[Rows],
    waiting: Waiting,
    window: Window,
    pauses: Pauses,
    writer: pa.ipc.RecordBatchStreamWriter,
) -> Iterator[pa.Table]:
    """Cuts a day's rows into sessions, block by block; what stays open goes to the writer."""
    rest = WAITING.empty_table()
    for block in itertools.chain(blocks, [None]):
        last = block.users[-1].as_py() if block and len(block.users) else None
        if block is not None and last is None:
            continue
        taken = pa.concat_tables([rest, waiting.until(last)])
        rows = weave(taken, block or empty_rows())
        if block is not None:  # the last user's rows may go on in the next block
            rest = rows.waiting(np.arange(rows.starts[-2], rows.starts[-1]))
            rows = rows.without_last_user()
        if not len(rows.users):
            continue
        if pauses.opens is not None:
            rows = rows.by_session()
        day_ends = _instant(window.ends)
        runs = _runs(rows, day_ends, pauses)
        writer.write_table(_left_open(rows, runs, day_ends))
        if window.is_wanted:
            yield _sessions(rows, runs)


@dataclass(frozen=True)
class Runs:
    """The sessions of a block of rows, closed or not; one entry a session."""

    until: np.ndarray  # of each row: the instant up to which the next one joins it
    first: np.ndarray  # place of its first row
    end: np.ndarray  # and after its last
    closes: np.ndarray  # microseconds since 1970
    is_cut: np.ndarray  # by the bot rule
    is_done: np.ndarray  # it belongs to the day, or to an earlier one
    was_done: np.ndarray  # it belongs to an earlier day: one row, told of for its time alone


def _runs(rows: Rows, day_ends: int, pauses: Pauses) -> Runs:
    """Finds where sessions begin and end, and which of them close in the day."""
    until = rows.time + pauses.of_rows(rows.session.codes)
    begins = np.ones(len(until), bool)
    begins[1:] = rows.time[1:] > until[:-1]
    begins[rows.starts[:-1]] = True  # so far, by gaps alone
    first, end = _bounds(begins)
    reaches = until[end - 1] >= day_ends
    is_filled = reaches & (rows.origin[first] != NEW) & (rows.origin[end - 1] == NEW)
    filled_end = end[is_filled]
    begins[1:] |= rows.origin[:-1] == DONE
    first, end = _bounds(begins)
    closes = until[end - 1]
    is_cut = np.isin(end, filled_end, assume_unique=True)
    was_done = rows.origin[first] == DONE
    is_done = is_cut | was_done | (closes < day_ends)
    closes[is_cut] = day_ends
    return Runs(until, first, end, closes, is_cut, is_done, was_done)


def _bounds(begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.flatnonzero(begins)
    return first, np.append(first[1:], len(begins))


def _left_open(rows: Rows, runs: Runs, day_ends: int) -> pa.Table:
    """The rows that the next day needs: of open sessions, and the last of a cut one."""
    is_open = np.repeat(~runs.is_done, runs.end - runs.first)
    origin = np.where(is_open, OPEN, DONE).astype(np.uint8)
    told = np.concatenate([runs.end[runs.is_cut] - 1, runs.first[runs.was_done]])
    stays = is_open
    stays[told] = runs.until[told] >= day_ends
    return replace(rows, origin=origin).waiting(np.flatnonzero(stays))


def _sessions(rows: Rows, runs: Runs) -> pa.Table:
    """The sessions that belong to the day, as SESSIONS."""
    mine = runs.is_done & ~runs.was_done
    lengths = runs.end - runs.first
    inside = rows if mine.all() else rows.select(np.repeat(mine, lengths))
    lengths, first = lengths[mine], runs.first[mine]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    started, ended = rows.time[first], rows.time[runs.end[mine] - 1]
    user = rows.users.take(np.searchsorted(rows.starts, first, side="right") - 1)
    lists = pa.array(offsets, pa.int32())
    source = rows.session.strings().take(pa.array(first))
    columns = {
        "session_id": session_ids(user, pa.array(started), suffixes(source)),
        "user_id": user,
        "started_at": pa.array(started).cast(TIMESTAMP),
        "ended_at": pa.array(ended).cast(TIMESTAMP),
        "closes_at": pa.array(runs.closes[mine]).cast(TIMESTAMP),
        "length": pa.array(lengths, pa.int32()),
        "duration_seconds": pa.array((ended - started) / 1e6),
        "actions": pa.ListArray.from_arrays(lists, inside.action.strings()),
        "item_ids": pa.ListArray.from_arrays(lists, inside.item.strings()),
        "distinct_items": pa.array(_distinct(inside.item, lengths), pa.int32()),
        "value": pa.array(_sums(inside.value, offsets[:-1])),
        "is_cut": pa.array(runs.is_cut[mine]),
    }
    table = pa.table(columns, schema=SESSIONS)
    if not len(rows.session.words):  # by user and start already
        return table
    order = [(name, "ascending") for name in ("user_id", "started_at", "session_id")]
    return table.sort_by(order)


def suffix_sql(source: str) -> str:
    """The SQL of the same, of a column of source's session ids."""
    return f"coalesce('-' || replace(replace({source}, '%', '%25'), '-', '%2D'), '')"


def session_numbers(
    time: np.ndarray,
    firsts: np.ndarray,
    day_ends: np.ndarray,
    pauses: Pauses,
    session: pa.Array | None = None,
) -> np.ndarray:
    """Which of its user's sessions each event is in, counted from 0.

    Where sessions of the source overlap, each stretch of a user's events counts by itself.

    Args:
      time: whole users' events, in microseconds since 1970, by user and time.
      firsts: places of the users' first events.
      day_ends: when local days end, ascending, from the day of the first event on.
      pauses: the longest within sessions.
      session: the source's session of each event, where sessions go by it.
    """
    user_firsts = firsts
    user = np.repeat(np.arange(len(firsts)), np.diff(firsts, append=len(time)))
    if session is None:
        order, pause = np.arange(len(time)), np.int64(pauses.gap)
    else:
        codes = Coded.of(session).codes
        order = np.lexsort((codes, user))
        user_of, codes = user[order], codes[order]
        begins_key = np.ones(len(time), bool)
        begins_key[1:] = (np.diff(user_of) != 0) | (np.diff(codes) != 0)
        time, firsts, pause = time[order], np.flatnonzero(begins_key), pauses.of_rows(codes)
    number = np.empty(len(time), np.int64)
    number[order] = np.cumsum(_begins(time, firsts, day_ends, time + pause))
    is_other = np.ones(len(number), bool)
    is_other[1:] = np.diff(number) != 0
    is_other[user_firsts] = True
    found = np.cumsum(is_other)
    return found - found[user_firsts][user]


def _begins(
    time: np.ndarray, firsts: np.ndarray, day_ends: np.ndarray, until: np.ndarray
) -> np.ndarray:
    """Where sessions begin among events of users, or of their sessions of the source.

    Args:
      time: of events, by user and time.
      firsts: places of the users' first events.
      day_ends: when local days end, ascending, from the day of the first event on.
      until: the instant up to which the next event joins each.
    """
    is_joined = np.zeros(len(time), bool)
    is_joined[1:] = time[1:] <= until[:-1]
    is_joined[firsts] = False
    day = np.searchsorted(day_ends, time, side="right")
    is_other = np.diff(day, prepend=-1) != 0
    is_other[firsts] = True
    first, end = _bounds(is_other)  # of a user's day
    reaches = until[end - 1] >= day_ends[day[end - 1]]
    is_filled = reaches & np.logical_and.reduceat(is_joined, first)
    begins = ~is_joined
    begins[first[1:]] |= is_filled[:-1]
    return begins


def session_ids(users: pa.Array, started: pa.Array, suffix: pa.Array) -> pa.Array:
    """Returns `<user>-<start in microseconds><suffix>`: alike in every build, and nobody else's."""
    plain = pc.binary_join_element_wise(users, started.cast(pa.string()), "-")
    return pc.binary_join_element_wise(plain, suffix, "")


def suffixes(source: pa.Array) -> pa.Array:
    """`-<the source's session id>`, in which `-` is %2D and `%` is %25; empty where it is null.

    A user's sessions of the source may begin at one instant, and users have ids of any form.
    """
    escaped = pc.replace_substring(pc.replace_substring(source, "%", "%25"), "-", "%2D")
    return pc.fill_null(pc.binary_join_element_wise("-", escaped, ""), "")


def _distinct(items: Coded, lengths: np.ndarray) -> np.ndarray:
    """How many different items each session has."""
    words = max(1, len(items.words))
    keys = np.repeat(np.arange(len(lengths)) * words, lengths) + items.codes
    keys = np.sort(keys[items.codes >= 0])
    is_other = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_other[1:])
    return np.bincount(keys[is_other] // words, minlength=len(lengths))


def _sums(millionths: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Each session's sum, from whole millionths, so that it depends on no order."""
    if not len(first):
        return np.zeros(0)
    fits = len(millionths) * int(np.abs(millionths).max()) < 2**63
    exact = millionths if fits else millionths.astype(object)
    return np.add.reduceat(exact, first).astype(np.float64) / 1e6


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Makes the next item, which is never None, in a thread of its own while this one is used."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, iterator, None)
            yield item


def _instant(moment: dt.datetime) -> int:
    return round(moment.timestamp()) * 1_000_000
