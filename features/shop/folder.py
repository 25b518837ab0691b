"""A folder that appears complete or not at all, and is never somebody else's.

The shop is built beside its place, under a hidden name, and renamed when it is whole. A killed
run leaves only the hidden folder, which the next run empties and uses.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

from contracts.base.errors import FootpathError
from features.shop.truth import ShopTruth


def is_finished(folder: Path, truth: ShopTruth) -> bool:
    """Whether every file that the truth speaks of is there."""
    return all((folder / name).exists() for name in ("items.csv", "users.csv", *truth.files))


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """An empty work folder, and puts it in the place of `folder` unless the body raises.

    Raises:
      FootpathError: the folder holds something other than a shop, or another process builds it.
    """
    _refuse_foreign(folder)
    target = folder.absolute()
    work = target.with_name(f".{target.name}.building")
    with _locked(work):
        _clear(work)
        try:
            yield work
            _swap(work, target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "truth.json").exists()):
        raise FootpathError(
            f"{folder} is there and is not a synthetic shop (it has no truth.json): "
            f"choose another folder, or empty this one"
        )


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Makes the work folder and holds a lock on it, which ends with the process however it ends."""
    work.mkdir(parents=True, exist_ok=True)
    handle = os.open(work, os.O_RDONLY)
    try:
        if not _lock(handle, work):
            raise FootpathError(
                f"another process is building {work}: wait for it, or choose another folder"
            )
        yield
    finally:
        os.close(handle)


def _lock(handle: int, work: Path) -> bool:
    try:
        # Since it was opened, its builder may have finished, and renamed it.
        is_ours = lock_descriptor(handle, blocking=False)
        return is_ours and work.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _clear(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _swap(work: Path, target: Path) -> None:
    retired = target.with_name(f".{target.name}.retired")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        try:
            os.replace(target, retired)
        except OSError as error:
            raise FootpathError(
                f"{target} cannot be replaced ({error.strerror}): "
                f"if it is a mount point, choose a folder below it"
            ) from None
    os.replace(work, target)
    shutil.rmtree(retired, ignore_errors=True)
