"""The YAML's section `automation`: what is kept up to date by itself, and when.

It counts once automation is switched on for the data set; until then nothing here does anything.
"""

import datetime as dt
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from contracts.base.schema import Strict


def _time_of_day(value: object) -> object:
    # YAML 1.1 reads 06:30 as a number of minutes.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return f"{value // 60:02}:{value % 60:02}"
    return value


TimeOfDay = Annotated[dt.time, BeforeValidator(_time_of_day)]


class Complete(Strict):
    """When a day has all its files: then it is built for the first time."""

    files: int | None = Field(
        None, ge=1, description="as soon as so many files of the day have arrived"
    )
    at: TimeOfDay = Field(
        dt.time(1),
        description="at the latest at this local time of the next day, with what is there",
    )


class Training(Strict):
    """How often encoders and task models are trained again."""

    every_days: int = Field(7, ge=1, description="days between two as-of days of training")
    from_days: int = Field(14, ge=1, description="days of features before the first training")


class Embeddings(Strict):
    """What a newly promoted model embeds beside each new day."""

    history_days: int = Field(
        30, ge=0, description="so many days back, the history of a newly promoted model version"
    )


AlertKind = Literal[
    "run_failed", "day_stopped", "data_missing", "model_stale", "check_failed", "standing_still"
]


class Alerts(Strict):
    """What somebody is told of. To whom, the environment says: addresses are secrets."""

    kinds: list[AlertKind] = Field(
        list(get_args(AlertKind)), description="what is told; an empty list: nothing"
    )
    warnings: bool = Field(False, description="checks that only warn are told too")
    missing_hours: int = Field(
        0, ge=0, le=744, description="hours after complete.at that a day's first file may be late"
    )
    stale_model_days: int | None = Field(
        None,
        ge=1,
        description="days of new data without a new model version; by default three more than "
        "training.every_days, and none where models are trained by hand",
    )
    webhook: Literal["auto", "slack", "teams"] = Field(
        "auto", description="form of the messages; auto: by the address"
    )


class Retention(Strict):
    """What `footpath clean` keeps of what can be made again; tables and figures always stay."""

    versions: int = Field(
        3, ge=1, description="of each recipe and task, so many of the newest model versions"
    )
    sequences: int = Field(2, ge=1, description="so many of the newest training sequences")
    days: int = Field(
        30,
        ge=1,
        description="versions, trainings on their way, job files and local copies of the last days",
    )
    unnamed_gb: float = Field(
        2.0, ge=0, description="of checkpoints without a name: those used longest ago go first"
    )
    reading_hours: int = Field(
        24, ge=1, description="what nothing names any more stays so long for whoever reads it"
    )
    runs_days: int = Field(
        90, ge=1, description="of Dagster's runs; the last to make a partition stays for ever"
    )

    @property
    def unnamed_bytes(self) -> float:
        """The room of checkpoints without a name."""
        return self.unnamed_gb * 1e9


class Automation(Strict):
    """What is kept up to date by itself once automation is switched on."""

    every_seconds: int = Field(60, ge=5, le=86400, description="seconds between two looks")
    complete: Complete = Complete()
    trailing_days: int = Field(
        0, ge=0, le=60, description="the last days that are built again each night, changed or not"
    )
    max_days: int = Field(60, ge=1, description="days of one requested run: the rest follows")
    training: Training | None = Field(
        Training(), description="labels, training, evaluation and promotion; null: by hand"
    )
    embeddings: Embeddings = Embeddings()
    alerts: Alerts = Alerts()
    keep: Retention = Field(Retention(), description="what `footpath clean` keeps")
    freshness: bool = Field(
        True, description="the UI marks assets that are overdue; false for a source that stands"
    )

    @property
    def stale_model_days(self) -> int | None:
        """Days of new data after which a model is stale; None: never."""
        given = self.alerts.stale_model_days
        return given or (self.training.every_days + 3 if self.training else None)
