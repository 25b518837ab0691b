"""What programs that run right now have been given: nothing of it may go.

In:  the processes of this machine and the locks that a runner holds. Out: all paths in their jobs.
Programs of other machines work on copies of their own (contracts/lake/copies.py).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from contracts.lake.layout import Lake


@dataclass(frozen=True)
class Running:
    """Programs that run: paths that they were given, their job files, and names of jobs."""

    paths: frozenset[str]
    files: frozenset[Path]
    jobs: frozenset[str]

    def names(self, path: Path) -> bool:
        """Whether a job names a path, something in it, or a folder that it is in."""
        wanted = str(path)
        return any(
            wanted == each or each.startswith(f"{wanted}/") or wanted.startswith(f"{each}/")
            for each in self.paths
        )


def running(lake: Lake) -> Running:
    """What the programs of `models/` here, and jobs whose lock is held, have been given."""
    held = {path.parent.name for path in (lake.work / "locks").glob("*/.lock") if _is_held(path)}
    files = {lake.work / "runs" / f"{name}.json" for name in held}
    files |= set(_job_files())
    paths: set[str] = {str(lake.work / "trials" / n.removeprefix("train-")) for n in held}
    for file in files:
        try:
            paths.update(_paths(json.loads(file.read_text())))
        except (OSError, ValueError):
            continue  # not written yet, or none of ours
    return Running(frozenset(paths), frozenset(files), frozenset(held))


def _job_files() -> Iterator[Path]:
    """Yields the job files of all running programs of `models/`, started by hand ones too."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if any(part.startswith("models.") for part in command):
                folder = Path(process.cwd())
                yield from (folder / part for part in command if part.endswith(".json"))
        except psutil.Error:
            continue  # it has just ended, or is another user's


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _paths(each)
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, str) and value.startswith("/"):
        yield value


def _is_held(path: Path) -> bool:
    """Whether another process holds a lock; if none does, nobody waits for it longer than this."""
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False  # it has just gone
    lock.release()
    return False
