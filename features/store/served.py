"""Which views the online store must hold: the present ones, and those that old services still need.

A service is served until it is drained, so a view of an earlier list of features is kept up to
date for as long as the day objects have its columns. Once they do not, it is frozen as it is.
"""

from dataclasses import dataclass
from pathlib import Path

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import read_schema
from contracts.lake.schemas import FEATURE_CLOCKS
from features.store.feast_objects import JOIN_KEY
from features.store.services import known_services
from features.store.view_specs import View, current_views, known_views


@dataclass(frozen=True)
class Served:
    """The views to keep up to date, and one sentence for each that no longer can be."""

    views: list[View]
    frozen: list[str]


def served_views(dataset: Dataset, lake: Lake) -> Served:
    """The present views, then those that only older services give features of."""
    views = current_views(dataset, lake)
    older = known_services(lake).views - {view.name for view in views}
    known, frozen = known_views(lake), []
    for name in sorted(older):
        if gap := missing_column(
            sorted(lake.table(known[name].table).glob("*.parquet")), known[name]
        ):
            frozen.append(f"view {name} of an older service is no longer kept up to date: {gap}")
        else:
            views.append(known[name])
    return Served(views, frozen)


def missing_column(objects: list[Path], view: View) -> str | None:
    """Which object lacks which column of a view, or None where none does."""
    wanted = {JOIN_KEY, *(field.name for field in FEATURE_CLOCKS)}
    wanted |= {column.source for column in view.columns}
    for path in objects:
        if missing := sorted(wanted - set(read_schema(path).names)):
            return f"{path} lacks column {missing[0]}"
    return None
