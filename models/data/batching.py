"""Which users make a batch, and the samples of the next batches, made ahead in a thread.

What comes out is what would come out without the thread: a sample depends on its step alone. An
exception of the maker comes out at the step it belongs to, and leaving the block ends the thread.
"""

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from models.data.packed import ragged_arange

T = TypeVar("T")


def epoch_batches(users: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The users of an epoch in random order, cut into batches; every user is in one."""
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(users)
    return [order[n : n + batch_size] for n in range(0, len(order), batch_size)]


def chunks(
    lengths: np.ndarray, users: np.ndarray, max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts whole histories into chunks of nearly equal length, none above max_length.

    Returns:
      For each chunk: position of its user in `users`, start in the user's history, length. Together
      the chunks hold every event once.
    """
    events = lengths[users]
    count = -(-events // max_length)
    owner = np.repeat(np.arange(len(users)), count)
    nth = ragged_arange(torch.from_numpy(count.astype(np.int64))).numpy()
    base, longer = events[owner] // count[owner], events[owner] % count[owner]
    return owner, nth * base + np.minimum(nth, longer), base + (nth < longer)


def blocks(sizes: np.ndarray, budget: int) -> Iterator[slice]:
    """Cuts a run of sizes into slices whose sum is about `budget`; each holds one at least."""
    if len(sizes):
        block = (np.cumsum(sizes) - sizes) // budget
        edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(sizes)]
        for start, stop in itertools.pairwise(edges):
            yield slice(start, stop)


@contextlib.contextmanager
def prefetched(
    make: Callable[[int], T], start: int, stop: int, depth: int
) -> Iterator[Iterator[T]]:
    """Gives make(start) ... make(stop - 1), at most `depth` of them made ahead; 0: no thread."""
    if depth == 0:
        yield map(make, range(start, stop))
        return
    ahead = _Ahead(make, start, stop, depth)
    try:
        yield iter(ahead)
    finally:
        ahead.end()


class _Ahead(Generic[T]):
    def __init__(self, make: Callable[[int], T], start: int, stop: int, depth: int) -> None:
        self._make, self._steps = make, range(start, stop)
        self._made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        for _ in self._steps:
            made, error = self._made.get()
            if error is not None:
                raise error
            yield made  # type: ignore[misc]

    def end(self) -> None:
        """Ends the thread; what it has made ahead is dropped."""
        self._is_over.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._made.get(timeout=0.01)
        self._thread.join()

    def _work(self) -> None:
        # Small operations: a second team of OpenMP threads would only take the cores from training.
        # Torch sets a thread's number when it is first asked for, which must come before.
        torch.get_num_threads()
        with threadpool_limits(1, user_api="openmp"):
            for step in self._steps:
                if self._is_over.is_set():
                    return
                try:
                    self._made.put((self._make(step), None))
                except BaseException as error:
                    self._made.put((None, error))
                    return
