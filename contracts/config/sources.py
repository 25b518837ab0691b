"""Where the source files of each data set lie: said once, remembered in the home folder."""

import json
import os
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.base.locks import locked
from contracts.lake.layout import home
from contracts.lake.reading import read_json


def link_source(dataset: str, folder: str) -> None:
    """Remembers, in the home folder, where a data set's source files lie."""
    path = home() / "sources.json"
    with locked(path.with_suffix(".lock")):
        known = read_json(path) if path.exists() else {}
        known[dataset] = folder if "://" in folder else str(Path(folder).absolute())
        staged = path.with_suffix(".staged")
        staged.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        os.replace(staged, path)


def source_folder(dataset: str) -> str:
    """The folder or URL below which a data set's files lie.

    FOOTPATH_SOURCE_<NAME> (upper case, dashes as underscores) wins over what was linked.

    Raises:
      FootpathError: it was never said.
    """
    variable = "FOOTPATH_SOURCE_" + dataset.upper().replace("-", "_")
    if folder := os.environ.get(variable):
        return folder
    path = home() / "sources.json"
    known = read_json(path) if path.exists() else {}
    if dataset not in known:
        raise FootpathError(
            f"nobody has said where the files of data set '{dataset}' lie: "
            f"run `footpath datasets link {dataset} FOLDER` or set {variable}"
        )
    return known[dataset]
