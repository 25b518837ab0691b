"""Small, contract-true tables of features and embeddings, for the tests of the feature store."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa

from contracts.base.clock import as_of_instant
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_table
from contracts.lake.schemas import FEATURE_CLOCKS, embeddings_schema
from contracts.lake.versions import CONFIG, all_versions, allocate, trial_folder
from features.behavior.tables import BEHAVIOR, FeatureTable
from features.store.promotions import record_promotion
from features.store.services import known_services, point, promise
from features.store.view_specs import View
from tests.builders.datasets import shop

DAY = dt.date(2026, 1, 10)
HOUR = dt.timedelta(hours=1)


def midnight(dataset: Dataset, day: dt.date) -> dt.datetime:
    """The event_timestamp of a day's rows."""
    return as_of_instant(day, dataset.timezone)


def clocks(event_timestamp: list, created: list, written_at: list) -> list[pa.Array]:
    """The three clock columns."""
    columns = (event_timestamp, created, written_at)
    return [pa.array(c, field.type) for c, field in zip(columns, FEATURE_CLOCKS, strict=True)]


def behavior_rows(
    dataset: Dataset,
    day: dt.date,
    users: list[str],
    number: float,
    late: dt.timedelta = HOUR,
    written: dt.timedelta | None = None,
    table: FeatureTable = BEHAVIOR,
) -> pa.Table:
    """One row a user, or item of another table; every feature of the k-th is `number + k`.

    The rows were known `late` after the day's end, and written then, or `written` after it.
    """
    instant, count = midnight(dataset, day), len(users)
    written_at = instant + (written or late)
    columns = clocks([instant] * count, [instant + late] * count, [written_at] * count)
    values = number + np.arange(count)
    features = {
        field.name: pa.array(values).cast(pa.type_for_alias(field.kind))
        for field in table.fields(dataset)
    }
    names = ["event_timestamp", "created", "written_at"]
    return pa.table(
        {table.key: users} | dict(zip(names, columns, strict=True)) | features,
    )


def publish_behavior(
    lake: Lake, day: dt.date, *tables: pa.Table, name: str = BEHAVIOR.name
) -> None:
    """Publishes the day's object with the rows of all tables."""
    publish_table(lake, pa.concat_tables(tables), lake.day(name, day))


def publish_model(lake: Lake, version: str, dim: int = 4, **config: str) -> None:
    """Names a trial, and writes what its checkpoint says of itself."""
    recipe, _, number = version.rpartition("_v")
    trial = f"trial-{version}"
    if version not in {known.version for known in all_versions(lake)}:
        for older in range(1, int(number)):
            allocate(lake, recipe, f"trial-{recipe}_v{older}", "2026-01-05")
        assert allocate(lake, recipe, trial, "2026-01-05").version == version
    document = {"dim": dim, "train_cutoff": "2026-01-05T23:00:00+00:00"} | config
    publish_json(lake, document, trial_folder(lake, trial) / CONFIG)


def publish_embeddings(
    lake: Lake,
    dataset: Dataset,
    version: str,
    day: dt.date,
    users: list[str],
    vectors: np.ndarray,
    late: dt.timedelta = HOUR,
) -> Path:
    """Publishes one day of a model version's embeddings; vectors is float32[users, dim]."""
    instant, count, dim = midnight(dataset, day), len(users), vectors.shape[1]
    flat = pa.array(vectors.astype(np.float32).ravel())
    columns = [
        pa.array(users),
        *clocks([instant] * count, [instant + late] * count, [instant + late] * count),
        pa.FixedSizeListArray.from_arrays(flat, dim),
        pa.array([version] * count),
    ]
    target = lake.day(f"user_embeddings/{version}", day)
    publish_table(lake, pa.Table.from_arrays(columns, schema=embeddings_schema(dim)), target)
    return target


def point_alias(lake: Lake, alias: str, views: list[View]) -> None:
    """Makes an alias lead to the service that gives some views, whatever is online of them."""
    name = promise(lake, alias, views)
    version = known_services(lake).services[name].tags.get("model_version", "")
    record_promotion(lake, alias, version, name, "test", "")
    point(lake, {alias: name})


def small_lake(home: Path, versions: tuple[str, ...] = ("ptum_bert4rec_v1",)) -> Lake:
    """A lake of the shop with three days, five users, and a vector of each version."""
    dataset, lake = shop(), Lake(home / "lake" / "shop")
    users = [f"u{k}" for k in range(5)]
    for back in (2, 1, 0):
        day = DAY - dt.timedelta(days=back)
        publish_behavior(lake, day, behavior_rows(dataset, day, users, 10 * (3 - back)))
        for number, version in enumerate(versions):
            publish_model(lake, version)
            vectors = np.eye(5, 4, dtype=np.float32) + 10 * number + back
            publish_embeddings(lake, dataset, version, day, users, vectors)
    return lake
