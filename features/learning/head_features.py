"""The behavior features of users as of a day: what a task's head may add to their vectors.

To fit heads, of every labeled user. In: the feature store and `labels/<as_of>.parquet`. Out:
`head_features/<as_of>.parquet`, `user_id` and numeric columns, null where the store knows nothing
of a user or the user has none of the kind: a head gets a flag for it (models/probing/heads.py). Its
footer names the view that the columns are of. Where labels have earlier days too (`snapshots`), a
column `as_of` tells the rows of a user apart, and each has what was known at its own day.

The values come the way a downstream team gets them (docs/retrieval.md): Feast's point-in-time join
under its `created` rule, so that a correction which came later is not seen. They are asked for at
the moment at which the row of the as-of day is known, the as-of plus `features.delay_minutes`: its
windows end where the training sequences end, and no later row is known by then.

To predict by a head that is stored, of every user of a day. A day is predicted again when its rows
are corrected, as it is embedded again when its events are: the newest row of each user counts.
"""

import contextlib
import datetime as dt
import functools
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.clock import as_of_instant
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_table
from contracts.lake.schemas import FEATURES, TIMESTAMP, VIEW
from features.behavior.tables import BEHAVIOR
from features.provenance import read_inputs
from features.store.registry import apply_registry
from features.store.repository import open_store
from features.store.view_specs import View, behavior_view, known_views

TABLE = "head_features"
AS_OF = "as_of"  # the column, where a user has several rows
BATCH = 100_000  # users whose features are in memory together


@dataclass(frozen=True)
class HeadFeaturesReport:
    """What was published."""

    path: Path
    users: int
    known: int  # users of whom the store knows a row
    columns: int


def write_head_features(dataset: Dataset, lake: Lake, as_of: dt.date) -> HeadFeaturesReport:
    """Publishes the numeric behavior features of the users who have a label as of a day.

    Raises:
      FootpathError: no labels or no behavior features of that day are published.
    """
    users, days = _labeled(dataset, lake, as_of)
    for day in days:
        if not (rows := lake.day(BEHAVIOR.name, day)).exists():
            raise FootpathError(
                f"{rows} is not there: materialize {BEHAVIOR.name} for {day} first"
                + (", or lower snapshots of the tasks and build labels anew" if day < as_of else "")
            )
    apply_registry(dataset, lake)
    view = behavior_view(dataset, lake)
    table = retrieved(lake, view, users, known_at(dataset, as_of))
    columns = table.columns[1:]
    is_known = functools.reduce(pc.or_, (column.is_valid() for column in columns))
    if len(days) > 1:
        earlier = [
            _dated(retrieved(lake, view, users, known_at(dataset, day)), dataset, day)
            for day in days[:-1]
        ]
        table = pa.concat_tables([*earlier, _dated(table, dataset, as_of)])
    target = lake.day(TABLE, as_of)
    publish_table(lake, table.replace_schema_metadata({VIEW: view.name.encode()}), target)
    return HeadFeaturesReport(target, len(users), pc.sum(is_known).as_py() or 0, len(columns))


def _dated(table: pa.Table, dataset: Dataset, day: dt.date) -> pa.Table:
    """The rows with the instant that they are as of."""
    instant = pa.scalar(as_of_instant(day, dataset.timezone), TIMESTAMP)
    return table.add_column(1, AS_OF, pa.repeat(instant, len(table)))


def known_at(dataset: Dataset, as_of: dt.date) -> dt.datetime:
    """When the row of the as-of day is known: the later midnight has no row by then.

    With a delay of a day or more a later row could not be told apart, so the as-of itself is
    taken: the head then sees the newest row that was known at that instant.
    """
    end, delay = as_of_instant(as_of, dataset.timezone), dataset.features.delay_minutes
    later = end + dt.timedelta(minutes=delay)
    following = as_of_instant(as_of + dt.timedelta(days=1), dataset.timezone)
    return later if later < following else end


def write_day_features(
    dataset: Dataset, lake: Lake, name: str, day: dt.date, users: list[str], target: Path
) -> None:
    """Writes the numeric features of users as of the end of a day, by a view that was registered.

    Args:
      dataset: whose.
      lake: of the data set.
      name: of the view of behavior features.
      day: the local day.
      users: who has events by then.
      target: a local Parquet file, with the columns of `head_features`.
    """
    view, instant = known_views(lake)[name], as_of_instant(day, dataset.timezone)
    with contextlib.ExitStack() as stack:
        writer = None
        for start in range(0, len(users), BATCH):
            part = users[start : start + BATCH]
            rows = retrieved(lake, view, part, instant, although_corrected=True)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(target, rows.schema))
            writer.write_table(rows)


def not_built(lake: Lake, name: str, day: dt.date) -> list[str]:
    """Features of a view that a published day was not built with, or with another meaning.

    Its rows are null in them, or hold what was known before: nothing follows from that.
    """
    views, path = known_views(lake), lake.day(BEHAVIOR.name, day)
    if name not in views or not path.exists():
        return [name]
    built = read_inputs(path).get(FEATURES)
    columns = views[name].columns if built is not None else ()
    return [c.name for c in columns if (built or {}).get(c.name) != c.meaning]


def retrieved(
    lake: Lake,
    view: View,
    users: list[str],
    instant: dt.datetime,
    although_corrected: bool = False,
) -> pa.Table:
    """The numeric features of users as of an instant, ordered by user id.

    Args:
      lake: with an applied registry.
      view: of features.
      users: whose.
      instant: the newest row of each that is as of then or before.
      although_corrected: rows count that were created since; without it, what was known then.
    """
    import pandas as pd

    wanted = [column for column in view.columns if column.kind in ("int64", "float64")]
    entities = pd.DataFrame({view.key: users, "event_timestamp": pd.Timestamp(instant)})
    found = (
        open_store(lake)
        .get_historical_features(
            entities,
            [f"{view.name}:{column.name}" for column in wanted],
            filter_by_created_timestamp=not although_corrected,
        )
        .to_arrow()
    )
    found = found.select([view.key, *(column.name for column in wanted)]).sort_by(view.key)
    schema = pa.schema(
        [(view.key, pa.string()), *((column.name, pa.float64()) for column in wanted)]
    )
    return found.cast(schema).replace_schema_metadata(None)


def _labeled(dataset: Dataset, lake: Lake, as_of: dt.date) -> tuple[list[str], list[dt.date]]:
    """Who has a label as of a day, and the days that labels are as of, up to that one."""
    path = lake.day("labels", as_of)
    if not path.exists():
        raise FootpathError(f"{path} is not there: materialize labels for {as_of} first")
    labels = read_table(path, columns=["user_id", "as_of"])
    instant = pa.scalar(as_of_instant(as_of, dataset.timezone), labels.schema.field("as_of").type)
    own = labels.filter(pc.equal(labels["as_of"], instant))  # sessions have an as-of of their own
    earlier = pc.unique(labels.filter(pc.less(labels["as_of"], instant))["as_of"]).to_pylist()
    zone, moment = ZoneInfo(dataset.timezone), dt.timedelta(microseconds=1)
    days = [(end - moment).astimezone(zone).date() for end in sorted(earlier)]
    return sorted(pc.unique(own["user_id"]).to_pylist()), [*days, as_of]
