"""Files of the indexes of similar users: published behind a pointer, and mapped into memory.

In:  arrays of an index in a staging folder. Out: its folder, and the pointer of its version, which
is published last; the index before stays for those who read it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.base.disks import writing
from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from contracts.lake.pointers import check_files, file_hashes, folder_beside, pointed_folder
from contracts.lake.publishing import publish_folder, publish_json, remove_folder
from contracts.lake.reading import read_json
from features.store.view_specs import repository

VECTORS, USERS = "vectors.npy", "users.arrow"
BOUNDS, AXES = "bounds.npy", "axes.npy"


def pointer_path(lake: Lake, version: str) -> Path:
    """The pointer of a version's index."""
    return repository(lake) / "similar" / f"{version}.json"


def indexed_objects(lake: Lake, version: str) -> dict[str, str]:
    """The day objects that the index of a version was built from; none where there is none."""
    pointer = pointer_path(lake, version)
    return read_json(pointer)["objects"] if pointer.exists() else {}


def write_files(folder: Path, users: pa.Array, vectors: np.ndarray, *search: Any) -> None:
    """Writes the files of an index into a new local folder; `search`: bounds and axes, or None."""
    folder.mkdir()
    for name, array in zip((VECTORS, BOUNDS, AXES), (vectors, *search), strict=True):
        if array is not None:
            with writing(folder / name):
                np.save(folder / name, array, allow_pickle=False)
    table = pa.table({"user_id": users})
    with writing(folder / USERS), pa.ipc.new_file(folder / USERS, table.schema) as file:
        file.write_table(table, max_chunksize=max(1, len(users)))


def publish_index(lake: Lake, version: str, staged: Path, document: dict[str, Any]) -> Path:
    """Publishes a folder of files, then the pointer; keeps the index before this one.

    Args:
      lake: of the data set.
      version: of which model.
      staged: a local folder, which is gone afterwards.
      document: what the pointer says beside the folder and its hashes.

    Returns:
      The published folder: the same files have the same name.
    """
    pointer = pointer_path(lake, version)
    before = pointed_folder(pointer).name if pointer.exists() else None
    files = file_hashes(staged)
    target = pointer.parent / f"{version}-{hash_json(files)}"
    publish_folder(staged, target)
    publish_json(lake, document | {"folder": target.name, "files": files}, pointer)
    for old in pointer.parent.glob(f"{version}-*"):
        if old.name not in (target.name, before):
            remove_folder(old)
    return target


def checked_folder(lake: Lake, version: str) -> tuple[Path, tuple[str, ...]]:
    """A local folder with the files of a version's index, and their names.

    They are fetched where they are not here, and are those that the pointer was written for.

    Raises:
      FootpathError: there is no index, or one of its files is missing or changed.
    """
    pointer, advice = pointer_path(lake, version), f"materialize similar_users_index of {version}"
    if not pointer.exists():
        raise FootpathError(
            f"there is no index of similar users for {version} ({pointer} is missing): "
            f"materialize similar_users_index; indexed: {_indexed(lake)}"
        )
    said = read_json(pointer)
    folder = folder_beside(pointer, said)
    names = tuple(sorted({VECTORS, USERS, *said["files"]}))
    here = lake.work / folder.relative_to(lake.root).as_posix() if is_remote(folder) else folder
    if not all((here / name).exists() for name in names):
        here = local_copy(lake, folder)
    check_files(here.with_name(pointer.name), said, names, advice)
    return here, names


def map_files(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The files of an index by name, mapped: arrays, and the ids as an Arrow array."""
    arrays = {
        name: np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
        for name in names
        if name.endswith(".npy")
    }
    users = pa.ipc.open_file(pa.memory_map(str(folder / USERS))).read_all().column("user_id")
    return arrays | {USERS: users.chunk(0) if users.num_chunks else users.combine_chunks()}


def _indexed(lake: Lake) -> str:
    names = sorted(path.stem for path in (repository(lake) / "similar").glob("*.json"))
    return ", ".join(names) or "none"
