"""What the home folder remembers of data sets: which are enabled, and where their files lie.

It is one file, `sources.json`; only what is enabled is loaded into Dagster.
"""

import datetime as dt
import json
import os
from pathlib import Path

from pydantic import ValidationError

from contracts.base.errors import FootpathError
from contracts.base.locks import locked
from contracts.base.schema import Strict
from contracts.base.text import without_userinfo
from contracts.lake.layout import home
from contracts.lake.reading import read_json


class Source(Strict):
    """One data set of this home folder."""

    enabled: bool = True
    folder: str | None = None
    last_day: dt.date | None = None  # of a source that has ended, where its YAML has no end


def link_source(dataset: str, folder: str, last_day: dt.date | None = None) -> None:
    """Remembers where a data set's source files lie, and enables it.

    Args:
      dataset: its name.
      folder: a folder or URL.
      last_day: on which the files end; None for a source that goes on.
    """
    where = (
        without_userinfo(folder, "the source") if "://" in folder else str(Path(folder).absolute())
    )
    _remember(dataset, enabled=True, folder=where, last_day=last_day)


def enable(dataset: str, enabled: bool = True) -> None:
    """Loads a data set into Dagster from now on, or no longer."""
    _remember(dataset, enabled=enabled)


def is_enabled(dataset: str) -> bool:
    """Whether a data set is loaded into Dagster.

    One whose FOOTPATH_SOURCE_<NAME> is set is, unless it was disabled.
    """
    known = _known().get(dataset)
    return known.enabled if known else bool(os.environ.get(_variable(dataset)))


def source_end(dataset: str) -> dt.date | None:
    """Last day of a source that has ended, as far as the home folder knows."""
    return _known().get(dataset, Source()).last_day


def source_folder(dataset: str) -> str:
    """The folder or URL below which a data set's files lie.

    FOOTPATH_SOURCE_<NAME> (upper case, dashes as underscores) wins over what was linked.

    Raises:
      FootpathError: it was never said.
    """
    variable = _variable(dataset)
    if folder := os.environ.get(variable) or _known().get(dataset, Source()).folder:
        return without_userinfo(folder, f"the source of data set '{dataset}'")
    raise FootpathError(
        f"nobody has said where the files of data set '{dataset}' lie: "
        f"run `footpath datasets link {dataset} FOLDER` or set {variable}"
    )


def _variable(dataset: str) -> str:
    return "FOOTPATH_SOURCE_" + dataset.upper().replace("-", "_")


def _path() -> Path:
    return home() / "sources.json"


def _known() -> dict[str, Source]:
    path = _path()
    if not path.exists():
        return {}
    try:
        return {name: Source.model_validate(said) for name, said in read_json(path).items()}
    except ValidationError:
        raise FootpathError(
            f"{path} is not of this version: remove it, and link your data sets again with "
            f"`footpath datasets link NAME FOLDER`"
        ) from None


def _remember(dataset: str, **said: object) -> None:
    path = _path()
    with locked(path.with_suffix(".lock")):
        known = _known()
        known[dataset] = known.get(dataset, Source()).model_copy(update=said)
        written = {name: each.model_dump(mode="json") for name, each in known.items()}
        staged = path.with_suffix(".staged")
        staged.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
        os.replace(staged, path)
