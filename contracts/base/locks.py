"""File locks between processes of one machine, for everything that is read, changed and written.

The operating system holds them: they end with their process, however it ends, and the empty file
that is left behind stops nobody.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from contracts.base.errors import FootpathError


@contextlib.contextmanager
def locked(path: Path, busy: str = "") -> Iterator[None]:
    """Holds the lock of a file, which is made if it is not there.

    Args:
      path: the lock file; not the file that is changed, for that one is replaced.
      busy: what to tell whoever finds the lock taken; without it they wait.

    Raises:
      FootpathError: `busy`, another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=not busy)
    try:
        lock.acquire()
    except Timeout:
        raise FootpathError(busy) from None
    try:
        yield
    finally:
        lock.release()
