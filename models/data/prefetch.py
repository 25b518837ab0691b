"""The next samples, made in a thread while the model works on this one.

What comes out is what would come out without the thread: a sample depends on its step alone. An
exception of the maker comes out at the step it belongs to, and leaving the block ends the thread.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


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
        for step in self._steps:
            if self._is_over.is_set():
                return
            try:
                self._made.put((self._make(step), None))
            except BaseException as error:
                self._made.put((None, error))
                return
