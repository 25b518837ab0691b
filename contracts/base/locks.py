"""File locks between processes of one machine, for everything that is read, changed and written.

The operating system holds them: they end with their process, however it ends, and the empty file
that is left behind stops nobody.
"""

import contextlib
import re
import shutil
import socket
import time
import uuid
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


# Seconds for which nobody has written to what a process of another machine has left.
ELSEWHERE = 3600


def _host() -> str:
    return re.sub(r"\W", "_", socket.gethostname())[:40]


class OwnFolder:
    """An empty folder that is this process's own.

    Its lock lies beside it and is held until the folder is removed or the process has ended,
    however it ends; by that others see whether it is left over. Process ids would not tell, since
    containers that share a disk have their own.

    Args:
      parent: where it is made.
      mode: who may look into it.
    """

    def __init__(self, parent: Path, mode: int = 0o777) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.path = parent / f"{_host()}-{uuid.uuid4().hex}"
        self._lock = FileLock(lock_of(self.path))
        self._lock.acquire()
        self.path.mkdir(mode)

    def remove(self) -> None:
        """Removes the folder, what is in it, and its lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock_of(self.path).unlink(missing_ok=True)
        self._lock.release()


def lock_of(folder: Path) -> Path:
    """The lock of an `OwnFolder`."""
    return folder.with_name(f".{folder.name}.lock")


def is_left(folder: Path) -> bool | None:
    """Whether the process whose own a folder is has ended; None if it is nobody's `OwnFolder`."""
    path = lock_of(folder)
    if not path.exists():
        return None
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return False
    lock.release()
    return True


def sweep_left(parent: Path, seconds: float) -> None:
    """Removes the folders that processes have left that have ended.

    One of another machine has to be idle too, since not every disk that is shared shares locks.

    Args:
      parent: where such folders lie.
      seconds: a folder without a lock goes once nobody has written to it for so long.
    """
    for folder in parent.iterdir() if parent.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # its own process may be ending right now
            idle = time.time() - folder.lstat().st_mtime
            if folder.is_symlink() or not folder.is_dir():
                of = folder.with_name(folder.name[1:].removesuffix(".lock"))
                if idle > seconds and not of.exists():
                    folder.unlink()  # a lock whose folder has gone
                continue
            is_here = folder.name.startswith(f"{_host()}-")
            longest = seconds if (left := is_left(folder)) is None else 0 if is_here else ELSEWHERE
            if left is not False and idle >= longest:
                shutil.rmtree(folder, ignore_errors=True)
                lock_of(folder).unlink(missing_ok=True)
