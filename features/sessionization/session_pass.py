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
class Window:
    """A local day, the instant at which it ends, and whether its sessions are wanted."""

    day: dt.date
    ends: dt.datetime
    is_wanted: bool


def sessions_in_order(
    lake: Lake, windows: list[Window], since: dt.datetime, gap: dt.timedelta, folder: Path
) -> Iterator[pa.RecordBatch]:
    """The sessions that close in the wanted days, with their `day`, in the order of a day.

    Args:
      lake: holds `events`; a day that is not published counts as empty.
      windows: consecutive days, the look-back of the first wanted one included.
      since: events before this instant are left out.
      gap: the longest pause within a session.
      folder: where rows wait from day to day.
    """
    published = set(lake.days("events"))
    pause = gap // dt.timedelta(microseconds=1)
    before = None
    for window in windows:
        path = lake.day("events", window.day)
        blocks = read_blocks(path, since) if window.day in published else iter(())
        after = folder / f"{window.day.isoformat()}.waiting"
        with (
            pa.OSFile(str(after), "wb") as file,
            pa.ipc.new_stream(
                file, WAITING, options=pa.ipc.IpcWriteOptions(compression="lz4")
            ) as w,
        ):
            sessions = _of_day(ahead(blocks), Waiting(before), window, pause, w)
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
    pause: int,
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
        day_ends = _instant(window.ends)
        runs = _runs(rows, day_ends, pause)
        writer.write_table(_left_open(rows, runs, day_ends, pause))
        if window.is_wanted:
            yield _sessions(rows, runs)


@dataclass(frozen=True)
class Runs:
    """The sessions of a block of rows, closed or not; one entry a session."""

    first: np.ndarray  # place of its first row
    end: np.ndarray  # and after its last
    closes: np.ndarray  # microseconds since 1970
    is_cut: np.ndarray  # by the bot rule
    is_done: np.ndarray  # it belongs to the day, or to an earlier one
    was_done: np.ndarray  # it belongs to an earlier day: one row, told of for its time alone


def _runs(rows: Rows, day_ends: int, pause: int) -> Runs:
    """Finds where sessions begin and end, and which of them close in the day."""
    before = np.diff(rows.time, prepend=0)
    begins = before > pause
    begins[rows.starts[:-1]] = True  # so far, by gaps alone
    first, end = _bounds(begins)
    reaches = rows.time[end - 1] + pause >= day_ends
    is_filled = reaches & (rows.origin[first] != NEW) & (rows.origin[end - 1] == NEW)
    filled_end = end[is_filled]
    begins[1:] |= rows.origin[:-1] == DONE
    first, end = _bounds(begins)
    closes = rows.time[end - 1] + pause
    is_cut = np.isin(end, filled_end, assume_unique=True)
    was_done = rows.origin[first] == DONE
    is_done = is_cut | was_done | (closes < day_ends)
    closes[is_cut] = day_ends
    return Runs(first, end, closes, is_cut, is_done, was_done)


def _bounds(begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.flatnonzero(begins)
    return first, np.append(first[1:], len(begins))


def _left_open(rows: Rows, runs: Runs, day_ends: int, pause: int) -> pa.Table:
    """The rows that the next day needs: of open sessions, and the last of a cut one."""
    is_open = np.repeat(~runs.is_done, runs.end - runs.first)
    origin = np.where(is_open, OPEN, DONE).astype(np.uint8)
    told = np.concatenate([runs.end[runs.is_cut] - 1, runs.first[runs.was_done]])
    stays = is_open
    stays[told] = rows.time[told] + pause >= day_ends
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
    columns = {
        "session_id": session_ids(user, pa.array(started)),
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
    return pa.table(columns, schema=SESSIONS)


def session_numbers(
    time: np.ndarray, firsts: np.ndarray, day_ends: np.ndarray, pause: int
) -> np.ndarray:
    """Which of its user's sessions each event is in, counted from 0.

    Args:
      time: whole users' events, in microseconds since 1970, by user and time.
      firsts: places of the users' first events.
      day_ends: when local days end, ascending, from the day of the first event on.
      pause: the longest within a session.
    """
    is_joined = np.diff(time, prepend=0) <= pause
    is_joined[firsts] = False
    day = np.searchsorted(day_ends, time, side="right")
    is_other = np.diff(day, prepend=-1) != 0
    is_other[firsts] = True
    first, end = _bounds(is_other)  # of a user's day
    reaches = time[end - 1] + pause >= day_ends[day[end - 1]]
    is_filled = reaches & np.logical_and.reduceat(is_joined, first)
    begins = ~is_joined
    begins[first[1:]] |= is_filled[:-1]
    number = np.cumsum(begins)
    return number - np.repeat(number[firsts], np.diff(firsts, append=len(time)))


def session_ids(users: pa.Array, started: pa.Array) -> pa.Array:
    """Returns `<user>-<start in microseconds>`: the same in every build, and nobody else's."""
    return pc.binary_join_element_wise(users, started.cast(pa.string()), "-")


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
