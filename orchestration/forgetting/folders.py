"""Folders that hold some users: training sequences and indexes of similar users go whole.

In:  `sequences` and `feature_store/similar` of a lake, and their copies on this machine. Out: gone
are the pointers, then the folders. Both are arrays of all users, built anew from the tables.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from contracts.lake.layout import Lake
from contracts.lake.pointers import pointed_folder
from contracts.lake.publishing import remove_files, remove_folder
from orchestration.forgetting.ids import Ids
from orchestration.forgetting.tables import rows_by_object

PLACES = ("sequences", "feature_store/similar")


@dataclass(frozen=True)
class Held:
    """Folders of one place that hold some users, and the pointers that name them."""

    place: str
    pointers: list[Path]
    folders: list[Path]


def folders_with(lake: Lake, ids: Ids) -> list[Held]:
    """The folders that hold the users, in the lake and on this machine."""
    found = []
    for root in dict.fromkeys((lake.root, lake.work)):
        for place in PLACES:
            lists = sorted((root / place).glob("*/users.parquet"))
            folders = [path.parent for path in rows_by_object(lists, ids)]
            # An index maps its users into memory.
            maps = sorted((root / place).glob("*/users.arrow"))
            folders += [path.parent for path in maps if _is_in(path, ids)]
            pointers = [
                pointer
                for pointer in sorted((root / place).glob("*.json"))
                if pointed_folder(pointer) in folders
            ]
            found.append(Held(place, pointers, folders))
    return [held for held in found if held.folders]


def _is_in(path: Path, ids: Ids) -> bool:
    with pa.ipc.open_file(path.read_bytes()) as file:
        return bool(pc.any(ids.among(file.read_all()["user_id"])).as_py())


def remove(held: Held) -> None:
    """Removes pointers, and then what they name."""
    remove_files(held.pointers)
    for folder in held.folders:
        remove_folder(folder)
