"""A path of the lake: a `pathlib.Path`, or on S3 a universal path with the same methods.

In:  such a path. Out: what is needed where the methods are not enough, which is in this room alone:
the file system of a store, and the path's key there.
"""

from pathlib import Path
from typing import Any, cast


def is_remote(path: Path) -> bool:
    """Whether a path of the lake is not on a local disk."""
    return not isinstance(path, Path)


def system_of(path: Path) -> Any:
    """The file system of a path that is not on a local disk."""
    return cast("Any", path).fs


def key_of(path: Path) -> str:
    """The name of a path in its file system."""
    return cast("Any", path).path


def ibis_path(path: Path | str) -> str:
    """A path of the lake as Ibis, and Feast through it, must be given it.

    For s3:// Ibis loads an extension of DuckDB, which would be downloaded and has settings of its
    own; s3a:// names the same object and is read through the file system that was registered.
    """
    return str(path).replace("s3://", "s3a://", 1)
