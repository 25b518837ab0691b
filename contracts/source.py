"""The YAML's sections on the source: which files there are, and what their columns mean."""

import datetime as dt
import re
from typing import Literal

from pydantic import Field, model_validator

from contracts.fields import Name, Sql, Strict, Zone


class Csv(Strict):
    """How delimited text is laid out."""

    delimiter: str = Field(",", description="one character or a string such as '::'")
    header: bool = True
    quote: str = '"'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"


class FileTable(Strict):
    """Files of one layout, and the names and DuckDB types of their columns."""

    url: str = Field(description="path or glob below the source folder, or any absolute URL")
    format: Literal["jsonl", "csv", "parquet"]
    csv: Csv = Csv()
    columns: dict[str, str] = Field(min_length=1, description="column name -> DuckDB type")


class Landing(FileTable):
    """The event files. Date fields {year} {month} {day} {hour} in the URL give the arrival day."""

    arrival_timezone: Zone = Field(
        "UTC", description="the zone that the date fields in the URL are written in"
    )

    @property
    def is_dated(self) -> bool:
        """Tells whether files arrive by day (true) or lie there once and for all."""
        return "{day}" in self.url

    @model_validator(mode="after")
    def _dates_are_whole(self) -> "Landing":
        fields = set(re.findall(r"{(\w+)}", self.url))
        if unknown := fields - {"year", "month", "day", "hour"}:
            raise ValueError(f"url has unknown fields {sorted(unknown)}")
        if fields and not {"year", "month", "day"} <= fields:
            raise ValueError("url needs {year}, {month} and {day} together, or none of them")
        return self


class EventMapping(Strict):
    """SQL expressions that turn a landing row into a canonical event."""

    event_id: Sql | None = Field(None, description="the source's own id; without it, content")
    user_id: Sql
    timestamp: Sql = Field(description="gives a TIMESTAMPTZ, null where it cannot be read")
    action: Sql
    item_id: Sql | None = None
    value: Sql | None = None
    session_id: Sql | None = None
    properties: dict[Name, Sql] = Field({})


class Items(FileTable):
    """The catalogue: SQL over the columns of its files."""

    item_id: Sql
    title: Sql | None = None
    category: Sql | None = None
    attributes: dict[Name, Sql] = Field({})


class Users(FileTable):
    """User attributes: SQL over the columns of their files."""

    user_id: Sql
    attributes: dict[Name, Sql] = Field(min_length=1)


class Partitions(Strict):
    """The days that exist."""

    start: dt.date
    end: dt.date | None = Field(None, description="last day; none for a source that goes on")

    @model_validator(mode="after")
    def _in_order(self) -> "Partitions":
        if self.end and self.end < self.start:
            raise ValueError("end is before start")
        return self
