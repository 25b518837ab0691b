"""The sensor that tells what is wrong with a data set.

It is on by default and does nothing without an address in the environment.
"""

import datetime as dt
import time
from collections.abc import Callable

import dagster as dg

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.config.automation import AlertKind
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from orchestration.alerts.alert import Alert, redacted
from orchestration.alerts.delivery import deliver
from orchestration.alerts.lake import missing_data, stale_model, stopped
from orchestration.alerts.receivers import EMAIL_TO, WEBHOOK, receivers_of, ui_url
from orchestration.alerts.runs import RunsOf, Seen, look

NOBODY = f"nobody is told: neither {WEBHOOK} nor {EMAIL_TO} is set"

# What this sensor calls `deliver` with.
RUNS, STOPPED, MISSING, MODELS = "runs", "stopped", "missing", "stale"
# What the sensor that requests what is due calls it with.
DATA, STAGES = "automation/data", "automation/stages"
SOURCES = (RUNS, STOPPED, MISSING, MODELS, DATA, STAGES)


def alerts_sensor(dataset: Dataset) -> dg.SensorDefinition:
    """Sensor that tells of failed runs and checks, stopped and missing days, and stale models."""
    runs = RunsOf.of(dataset)

    @dg.sensor(
        name=f"{dataset.slug}_alerts",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells a webhook and e-mail what is wrong, once, and when it is well again. "
        "Does nothing without an address in the environment.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        try:
            if not receivers_of(dataset):
                return dg.SensorResult(skip_reason=NOBODY, cursor=context.cursor)
            ui_url()
        except FootpathError as error:
            return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
        # Dagster's runs go by the true time, whatever the clock of the days says.
        seen = Seen.of(context.cursor, time.time())
        look(context.instance, runs, seen, time.time())
        found, unknown = wrong_by_the_lake(dataset, now())
        found[RUNS] = seen.alerts()
        said = deliver(context.instance, dataset, found)
        return dg.SensorResult(skip_reason="; ".join([said, *unknown]), cursor=seen.cursor())

    return alerts


def wrong_by_the_lake(
    dataset: Dataset, at: dt.datetime
) -> tuple[dict[str, list[Alert]], list[str]]:
    """What is wrong by source, and a sentence for each source that could not be asked."""
    ask: dict[str, tuple[AlertKind, Callable[[Lake], list[Alert]]]] = {
        STOPPED: ("day_stopped", stopped),
        MISSING: ("data_missing", lambda lake: missing_data(dataset, lake, at)),
        MODELS: ("model_stale", lambda lake: stale_model(dataset, lake)),
    }
    found: dict[str, list[Alert]] = {}
    unknown = []
    for source, (kind, alerts_of) in ask.items():
        try:
            wanted = kind in dataset.automation.alerts.kinds
            found[source] = alerts_of(Lake.of(dataset.name)) if wanted else []
        except FootpathError as error:
            unknown.append(f"not known what is {source}: {redacted(str(error))}")
        except Exception as error:
            # Whatever a store raises: the rest is told all the same.
            unknown.append(f"not known what is {source}: {type(error).__name__}")
    return found, unknown
