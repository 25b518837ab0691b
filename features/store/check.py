"""Holds the online store to the offline one, on a sample of users and items, through Feast.

For every view that is kept up to date and a sample of those whom it has rows of, what
`get_online_features` serves must equal what a point-in-time join of today gives, bit for bit.
"""

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.base.clock import now
from contracts.base.sql import parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.store.repository import explained, open_store, store_kinds
from features.store.served import missing_models, served_views
from features.store.view_specs import View

if TYPE_CHECKING:
    from feast import FeatureStore

SHOWN = 20  # mismatches in a report


@dataclass(frozen=True)
class OnlineCheck:
    """How many (view, user or item) pairs were compared, how many agree, and which do not."""

    sampled: int
    equal: int
    mismatches: list[str]  # one sentence a pair, the first 20


def check_online(dataset: Dataset, lake: Lake, sample: int = 100, seed: int = 0) -> OnlineCheck:
    """Compares online with offline values for `sample` users, or items, of every served view."""
    checks = [
        check_view(lake, view, sample, seed)
        for view in served_views(dataset, lake)
        if lake.days(view.table)
    ]
    mismatches = [
        f"the checkpoint of {version}, which a service names, is gone: no new day is embedded by it"
        for version in missing_models(lake)
    ]
    mismatches += [sentence for check in checks for sentence in check.mismatches]
    return OnlineCheck(
        sampled=sum(check.sampled for check in checks),
        equal=sum(check.equal for check in checks),
        mismatches=mismatches[:SHOWN],
    )


def check_view(lake: Lake, view: View, sample: int = 100, seed: int = 0) -> OnlineCheck:
    """Compares online with offline values for `sample` users, or items, of one view."""
    store = open_store(lake)
    ids, instant = _sample(lake, view, sample, seed)
    references = [f"{view.name}:{column.name}" for column in view.columns]
    with explained(lake, store_kinds(store)[0]):
        offline = _offline(store, view, ids, instant, references)
        online = store.get_online_features(
            references, entity_rows=[{view.key: each} for each in ids]
        ).to_dict()
    mismatches = []
    for row, each in enumerate(ids):
        served = {column.name: online[column.name][row] for column in view.columns}
        wrong = [name for name, value in served.items() if value != offline[each][name]]
        if wrong:
            mismatches.append(
                f"{wrong[0]} of {view.entity} '{each}' in view {view.name} is "
                f"{_short(served[wrong[0]])} online and {_short(offline[each][wrong[0]])} offline"
            )
    return OnlineCheck(len(ids), len(ids) - len(mismatches), mismatches)


def _sample(lake: Lake, view: View, sample: int, seed: int) -> tuple[list[str], dt.datetime]:
    """Users, or items, with a row in the view, and an instant by which every row is known."""
    files, key = lake.existing(view.table, lake.days(view.table)), view.key
    with connect() as connection:
        ids = connection.execute(
            f"SELECT {key} FROM (SELECT DISTINCT {key} FROM {parquet('$files')}) "
            f"ORDER BY md5({key} || $seed), {key} LIMIT $sample",
            {"files": files, "seed": str(seed), "sample": sample},
        ).fetchall()
        latest = connection.execute(
            f"SELECT epoch_us(max(greatest(event_timestamp, created))) FROM {parquet('$files')}",
            {"files": files},
        ).fetchall()[0][0]
    known_by = dt.datetime.fromtimestamp(latest / 1_000_000, dt.UTC)
    return [each for (each,) in ids], max(now(), known_by + dt.timedelta(seconds=1))


def _offline(
    store: "FeatureStore", view: View, ids: list[str], instant: dt.datetime, references: list[str]
) -> dict[str, dict]:
    """Returns user, or item -> feature -> value; NaN counts as no value, as it does online."""
    import pandas as pd

    entities = pd.DataFrame({view.key: ids, "event_timestamp": pd.Timestamp(instant)})
    rows = store.get_historical_features(entities, references).to_arrow().to_pylist()
    return {
        row[view.key]: {name: None if value != value else value for name, value in row.items()}
        for row in rows
    }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
