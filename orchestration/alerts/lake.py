"""What is wrong by the lake: days without a file, days that the gate has stopped, stale models."""

import datetime as dt
from zoneinfo import ZoneInfo

from contracts.base.clock import days_between
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import all_versions
from features.stops import all_stops
from orchestration.alerts.alert import Alert
from validation.counts import EXAMPLE

DAYS_BACK = 31  # of days without a file: older ones will not come any more


def missing_data(dataset: Dataset, lake: Lake, at: dt.datetime) -> list[Alert]:
    """Days whose deadline has passed without a landing file.

    Nothing is missing of a source that has ended, that has no dates, that may have days without a
    file (`quality.allow_empty_days`), or that has never been built.

    Raises:
      FootpathError: the files cannot be listed.
    """
    from features.ingestion.completeness import complete_at, look_at

    published = lake.days("events")
    if not published or not dataset.landing.is_dated:
        return []
    late = dt.timedelta(hours=dataset.automation.alerts.missing_hours)
    yesterday = (at - late).astimezone(ZoneInfo(dataset.timezone)).date() - dt.timedelta(days=1)
    first = max(dataset.partitions.start, yesterday - dt.timedelta(days=DAYS_BACK - 1))
    last = min(yesterday, dataset.partitions.end or yesterday)
    known = {*published, *(day for table, day in all_stops(lake) if table == "events")}
    unknown = {day for day in days_between(first, last) if day not in known}
    if not any(complete_at(dataset, day) <= at - late for day in unknown):
        return []  # the files need not be listed
    expected = look_at(dataset, lake, at - late).expected
    found = []
    for day in sorted(unknown & expected.missing.keys()):
        due = complete_at(dataset, day) + late
        local = due.astimezone(ZoneInfo(dataset.timezone))
        text = f"no landing file has arrived by {local:%Y-%m-%d %H:%M} ({dataset.timezone})"
        gone = (due + dt.timedelta(days=DAYS_BACK)).timestamp()
        found.append(Alert("data_missing", str(day), text, f"missing/{day}", expires=gone))
    return found


def stopped(lake: Lake) -> list[Alert]:
    """Days that the gate has stopped, and that have not passed since."""
    found = []
    for (table, day), stop in all_stops(lake).items():
        place = f"{table} {day}"
        # Without the values of rows that they show: these may be of persons, and would leave here.
        said = [text.removeprefix(f"{place}: ").partition(EXAMPLE)[0] for text in stop.reasons]
        key = f"stopped/{table}/{day}"
        found.append(Alert("day_stopped", f"{table} of {day}", "; ".join(said), key))
    return found


def stale_model(dataset: Dataset, lake: Lake) -> list[Alert]:
    """Whether the newest pre-trained model is too far behind the data that it could know.

    Nothing is stale where no model was ever trained, or where no new data comes.
    """
    from features.learning.labels import default_as_of

    most = dataset.automation.stale_model_days
    finished = [v for v in all_versions(lake) if not v.task and v.is_finished(lake)]
    if most is None or not finished:
        return []
    try:
        possible = default_as_of(dataset, lake)
    except FootpathError:
        return []  # too few days yet
    newest = max(finished, key=lambda version: version.as_of)
    age = (possible - dt.date.fromisoformat(newest.as_of)).days
    if age <= most:
        return []
    text = (
        f"{newest.version} was trained on data up to {newest.as_of}, and could be on {age} days "
        f"more; at most {most} are allowed: see the runs of {dataset.slug}_pretraining"
    )
    return [Alert("model_stale", "the newest model version", text, "model")]
