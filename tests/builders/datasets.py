"""Data sets for tests: a shipped one with some sections replaced, and a tiny one."""

import datetime as dt

from contracts.base.clock import days_between
from contracts.config.dataset import Dataset, load_dataset

# A day of a handful of rows is as strange as small samples are.
LAX = {"max_broken_share": 1.0, "allow_empty_days": True}
# Of each kind some: quickly built where features are not what is tested.
FEW_FEATURES = {
    "windows": [1, 7],
    "categories": ["audio", "books", "shoes"],
    "declared": [{"kind": "funnel", "of": "purchase", "per": "view", "windows": [7]}],
}
FIRST, LAST = dt.date(2026, 3, 1), dt.date(2026, 3, 10)  # of the tiny data set
DAYS = days_between(FIRST, LAST)


def dataset_like(name: str, **sections: object) -> Dataset:
    """A shipped data set with some sections replaced, and checked again."""
    return Dataset.model_validate(load_dataset(name).model_dump() | sections)


def shop_like(**sections: object) -> Dataset:
    """The shop with the days 2026-01-01 to 2026-01-10, and other sections as given."""
    days = {"partitions": {"start": dt.date(2026, 1, 1), "end": dt.date(2026, 1, 10)}}
    return dataset_like("shop", **(days | sections))


def four_days(**sections: object) -> Dataset:
    """The shop with the days 2026-01-04 to 2026-01-07 and lax rules; other sections as given."""
    days = {"partitions": {"start": dt.date(2026, 1, 4), "end": dt.date(2026, 1, 7)}}
    return dataset_like("shop", **(days | {"quality": LAX | {"min_value": 0.0}} | sections))


def without_ids(dataset: Dataset) -> Dataset:
    """The same data set, its source giving its events no ids."""
    given = dataset.model_dump()
    return Dataset.model_validate(given | {"events": given["events"] | {"event_id": None}})


def shop(windows: list[int] | None = None) -> Dataset:
    """The shop, with other feature windows where they are given."""
    dataset = load_dataset("shop")
    if windows is None:
        return dataset
    features = dataset.features.model_copy(update={"windows": windows})
    return dataset.model_copy(update={"features": features})


def tiny(**sections: object) -> Dataset:
    """A data set with features over 1 and 3 days, so that what is late ends within its days."""
    return Dataset.model_validate(
        {
            "name": "tiny",
            "title": "Tiny",
            "timezone": "UTC",
            "partitions": {"start": FIRST, "end": LAST},
            "landing": {
                "url": "{year}-{month}-{day}/*.csv",
                "format": "csv",
                "columns": {"id": "VARCHAR", "who": "VARCHAR", "ts": "VARCHAR"},
            },
            "events": {
                "event_id": "id",
                "user_id": "who",
                "timestamp": "TRY_CAST(ts AS TIMESTAMPTZ)",
                "action": "'view'",
            },
            "actions": ["view"],
            "features": {"windows": [1, 3]},
        }
        | sections
    )
