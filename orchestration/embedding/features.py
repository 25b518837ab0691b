"""Behavior features of the users of a day, for profiles that read some.

In:  a day, a view of the feature store, and the staged sequences whose users are asked for. Out: a
Parquet file on a local disk, which `models.embed` is given.
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.pointers import pointed_folder
from contracts.lake.reading import read_table

Say = Callable[[str], None]


class DayFeatures:
    """Writes features once for all versions that read the same.

    Args:
      dataset: whose.
      lake: of the data set.
      folder: a local one, where the files go.
      warn: is told what cannot be predicted.
    """

    def __init__(self, dataset: Dataset, lake: Lake, folder: Path, warn: Say) -> None:
        self._dataset, self._lake, self._folder, self._warn = dataset, lake, folder, warn
        self._written: dict[tuple[dt.date, str], Path | None] = {}

    def of(self, day: dt.date, view: str, pointer: Path) -> Path | None:
        """Features of the users of a day, in any vocabulary; none where they are not built."""
        place = (day, view)
        if place not in self._written:
            self._written[place] = self._write(day, view, pointer)
        return self._written[place]

    def _write(self, day: dt.date, view: str, pointer: Path) -> Path | None:
        from features.learning.head_features import not_built, write_day_features

        if missing := not_built(self._lake, view, day):
            self._warn(
                f"profiles on {view} predict nothing of {day}, which was built without "
                f"{', '.join(missing[:5])}: train them anew, on the present features"
            )
            return None
        users = read_table(pointed_folder(pointer) / "users.parquet")["user_id"].to_pylist()
        target = self._folder / f"features-{view}-{day}.parquet"
        write_day_features(self._dataset, self._lake, view, day, users, target)
        return target
