"""What ended processes have left behind may hold anybody: staging, spill files, running jobs."""

import shutil

from contracts.base.locks import is_left, sweep_left
from contracts.lake.layout import Lake, home


def sweep(lake: Lake) -> None:
    """Removes what processes have left that have ended; no run of the data set is under way."""
    for place in (lake.work / "_staging", home() / "spill"):
        sweep_left(place, 0)
    for place in (lake.work / "running", home() / "work"):
        for folder in sorted(place.glob("spark-*" if place.name == "work" else "*")):
            if folder.is_dir() and is_left(folder) is not False:
                shutil.rmtree(folder, ignore_errors=True)
