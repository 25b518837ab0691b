"""A small log and tasks over its next days, which label users at earlier days as well."""

import datetime as dt

import numpy as np

from contracts.base.clock import as_of_instant, days_between
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from tests.builders.daily import build
from tests.builders.datasets import FEW_FEATURES, LAX, dataset_like
from tests.builders.events import AS_OF, Event, publish_items, publish_sessions

ZONE, HORIZON, ONE = "Europe/Berlin", 4, dt.timedelta(days=1)
FIRST, LAST = AS_OF - 13 * ONE, AS_OF + HORIZON * ONE
# The window of the newest ends with the as-of; the others are half a window apart.
DAYS = [AS_OF - days * ONE for days in (4, 6, 8)]
NEW = "count(*) FILTER (action = 'purchase' AND NOT list_contains(bought, item_id)) > 0"
SQL = {
    "buys": {"sql": "count(*) FILTER (action = 'purchase') > 0"},
    "spends": {"sql": "sum(value)", "above": "median"},
    "spent": {"sql": "coalesce(sum(value), 0)", "kind": "regression", "metric": "mae"},
    "first_item": {
        "sql": "first(item_id ORDER BY timestamp, sequence)",
        "classes": 2,
        "metric": "accuracy",
    },
    "new": {"known": {"bought": "coalesce(list(DISTINCT item_id), [])"}, "sql": NEW},
}


def dataset_of(snapshots: int, *names: str) -> Dataset:
    """The shop over the days of the log, with some of the tasks."""
    tasks = [
        {"name": name, "horizon_days": HORIZON, "metric": "auc", "snapshots": snapshots} | SQL[name]
        for name in names or SQL
    ]
    span = {"partitions": {"start": FIRST, "end": LAST}, "quality": LAX, "features": FEW_FEATURES}
    return dataset_like("shop", tasks=tasks, **span)


def log() -> list[Event]:
    """Three hundred users, each from a day of their own on, at random hours of random days."""
    rng, found = np.random.default_rng(5), []
    for n in range(300):
        begins, rate = rng.integers(0, 12), rng.choice([0.15, 0.4, 0.7])
        for day in days_between(FIRST + int(begins) * ONE, LAST):
            for k in range(rng.poisson(rate)):
                second = int(rng.integers(0, 86_400))
                at = as_of_instant(day - ONE, ZONE) + dt.timedelta(seconds=second)
                action = "purchase" if rng.random() < 0.5 else "view"
                item = f"i{rng.choice(6, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])}"
                value = float(rng.integers(1, 100))  # whole, so that sums are exact
                found.append(Event(f"u{n}", at, f"{n}-{day}-{k}", action, item, value))
    return found


def build_features(dataset: Dataset, lake: Lake) -> None:
    """Publishes behavior features of every day, of events that are there."""
    published = days_between(FIRST, LAST)
    publish_items(lake, [(f"i{n}", f"item {n}", "books", {}) for n in range(6)])
    publish_sessions(dataset, lake, published)
    build(dataset, lake, published, ("user_behavior_features",))
