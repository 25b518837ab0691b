"""Freshness and coverage of every view that the online store holds.

In:  what was written of each view, the newest published days and the events of the last ones. Out:
of how many users or items there are rows, of which day the newest is, who of the active ones has
none, and which features are empty.
"""

import datetime as dt
from dataclasses import dataclass

import duckdb

from contracts.base.sql import literal, name, parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import read_schema
from features.store.changes import state_path
from features.store.served import served_views
from features.store.services import known_services
from features.store.view_specs import View, table_views


@dataclass(frozen=True)
class ViewFigures:
    """Figures of one view."""

    view: str
    entity: str
    is_served: bool  # a service gives it, or it is the present one of its table
    rows: int  # online
    newest: dt.date | None  # newest published day
    days_behind: int  # from it to the newest day of events
    active: int  # users, or items, with an event in the last `promotion.active_days` days
    coverage: float | None  # which share of the active ones has a row; None without any
    empty: tuple[str, ...]  # features without any value on the newest day

    def faults(self, dataset: Dataset) -> list[str]:
        """Sentences on what is not as it should be of a view that is served."""
        if not self.is_served:
            return []
        limit, found = dataset.promotion.min_coverage, []
        if self.days_behind:
            found.append(
                f"{self.view} is {self.days_behind} days behind the events: "
                f"its newest day is {self.newest or 'none'}"
            )
        if self.coverage is not None and self.coverage < limit:
            days = dataset.promotion.active_days
            active = f"{self.active:,} {self.entity}s of the last {days} days"
            found.append(
                f"{self.view} has rows of {self.coverage:.1%} of the {active}, "
                f"below promotion.min_coverage {limit:.0%}"
            )
        return found


def view_figures(dataset: Dataset, lake: Lake) -> list[ViewFigures]:
    """Figures of every view that the online store is kept up to date with."""
    events, views = lake.days("events"), served_views(dataset, lake)
    named = known_services(lake).views | {v.name for v in table_views(dataset, lake).values()}
    with connect() as connection:
        for key in sorted({view.key for view in views}):
            _find_active(connection, dataset, lake, key, events)
        return [_figures(connection, lake, view, view.name in named, events) for view in views]


def _figures(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    view: View,
    is_served: bool,
    events: list[dt.date],
) -> ViewFigures:
    days, path, key = lake.days(view.table), state_path(lake, view), view.key
    held = parquet(literal(str(path))) if path.exists() else f"(SELECT NULL AS {key} LIMIT 0)"
    [(rows, active, covered)] = connection.execute(
        f"SELECT (SELECT count(*) FROM {held}), count(*), count(held.{key}) "
        f"FROM active_{key} AS active LEFT JOIN {held} AS held ON active.{key} = held.{key}"
    ).fetchall()
    return ViewFigures(
        view=view.name,
        entity=view.entity,
        is_served=is_served,
        rows=rows,
        newest=days[-1] if days else None,
        days_behind=_behind(days, events),
        active=active,
        coverage=covered / active if active else None,
        empty=_empty(connection, lake, view, days[-1]) if days else (),
    )


def _behind(days: list[dt.date], events: list[dt.date]) -> int:
    if not events:
        return 0
    first = days[-1] if days else events[0] - dt.timedelta(days=1)
    return max((events[-1] - first).days, 0)


def _find_active(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    lake: Lake,
    key: str,
    events: list[dt.date],
) -> None:
    """Makes the table `active_<key>` of users, or items, with an event in the last days."""
    back = dataset.promotion.active_days
    files = lake.existing("events", [day for day in events if (events[-1] - day).days < back])
    connection.execute(f"CREATE TEMP TABLE active_{key} ({key} VARCHAR)")
    if files:
        connection.execute(
            f"INSERT INTO active_{key} SELECT DISTINCT {key} FROM {parquet('$files')} "
            f"WHERE {key} IS NOT NULL",
            {"files": files},
        )


def _empty(
    connection: duckdb.DuckDBPyConnection, lake: Lake, view: View, day: dt.date
) -> tuple[str, ...]:
    """Features that are null in every row of a day; none of a day without rows."""
    file, schema = lake.day(view.table, day), {*read_schema(lake.day(view.table, day)).names}
    there = [column for column in view.columns if column.source in schema]
    counts = ", ".join(f"count({name(column.source)})" for column in there)
    [(rows, *found)] = connection.execute(
        f"SELECT count(*), {counts} FROM {parquet('$file')}", {"file": str(file)}
    ).fetchall()
    values = dict(zip(there, found, strict=True))
    return tuple(c.name for c in view.columns if rows and not values.get(c))
