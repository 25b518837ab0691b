"""The YAML's sections on the source: which files there are, and what their columns mean."""

import codecs
import datetime as dt
import re
from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field, field_validator, model_validator

from contracts.base.schema import Count, Name, Sql, Strict, Zone

# Columns that reading a file adds to those of the file.
RESERVED = re.compile(
    "__(file|line|raw|problem|width|place|length|shape|text|bytes|fields|event|timestamp|nested|"
    r"broken|detail|x|len|n\d*|v\d+)",
    re.IGNORECASE,
)


class Csv(Strict):
    """How delimited text is laid out."""

    delimiter: str = Field(",", description="one character or a string such as '::'")
    header: bool = True
    quote: str = '"'
    encoding: str = Field(
        "utf-8", description="one that Python knows: utf-16, cp1252 (Windows), latin-1, shift_jis"
    )

    escape: str = Field(
        "",
        max_length=1,
        description="a character such as \\ that makes the quote, delimiter or line end behind it "
        "text; where quote is empty, \\t and \\n are control characters and \\N is null",
    )
    comment: str = Field("", description="lines that begin with it are no rows")
    skip: int = Field(0, ge=0, description="how many lines stand before the header or first row")
    decimal: Literal[".", ","] = Field(
        ".", description="what stands before the decimals of a declared number"
    )

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
            known = codecs.lookup(encoding).name
        except (LookupError, ValueError):
            raise ValueError(
                f"'{encoding}' is no encoding of text: use one such as cp1252"
            ) from None
        return "utf-8" if known in ("utf-8", "utf-8-sig", "ascii") else encoding


class FileTable(Strict):
    """Files of one layout, and the names and DuckDB types of their columns."""

    url: str = Field(description="path or glob below the source folder, or any absolute URL")
    format: Literal["jsonl", "csv", "parquet"]
    csv: Csv = Csv()
    columns: dict[str, str] = Field(min_length=1, description="column name -> DuckDB type")
    optional: list[str] = Field([], description="columns that a file may lack: then null")
    nulls: list[str] = Field([], description="words that mean null, such as NULL or \\N, exactly")
    max_bytes: Count = Field(
        16 << 30, description="a file with more bytes, decompressed, is refused whole"
    )

    @model_validator(mode="after")
    def _names_can_be(self) -> "FileTable":
        if "" in self.columns:
            raise ValueError("columns has a name that is empty: give a CSV column one by its place")
        if taken := [column for column in self.columns if RESERVED.fullmatch(column)]:
            raise ValueError(
                f"columns has '{taken[0]}', a name that reading itself uses: leave it out, or "
                "rename the column in the files"
            )
        return self

    @model_validator(mode="after")
    def _optional_columns_are_declared(self) -> "FileTable":
        if unknown := [column for column in self.optional if column not in self.columns]:
            raise ValueError(f"optional has {unknown}, which columns does not declare")
        if self.optional and self.format == "csv" and not self.csv.header:
            raise ValueError("optional needs a header: without one, columns go by their place")
        return self


class Landing(FileTable):
    """The event files. Date fields in the URL give the arrival day.

    They are {year} {month} {day} {hour}; or one that counts: {hours}, whole hours since `origin`,
    {epoch_ms} or {epoch_s}, milliseconds or seconds since 1970.
    """

    # Fields of the URL that are the whole date.
    COUNTS: ClassVar[tuple[str, ...]] = ("hours", "epoch_ms", "epoch_s")

    arrival_timezone: Zone = Field(
        "UTC", description="the zone that the date fields in the URL are written in"
    )
    origin: AwareDatetime | None = Field(
        None, description="the instant that {hours} counts from, such as 2017-10-01T00:00:00Z"
    )
    ahead_days: int = Field(
        1,
        ge=0,
        description="how many days after its arrival a dated file's events may lie: one for clocks "
        "that are fast; more where a file's name is its first hour, not its last",
    )

    @property
    def is_dated(self) -> bool:
        """Whether files arrive by day (true) or lie there once and for all."""
        return any(f"{{{field}}}" in self.url for field in ("day", *self.COUNTS))

    @model_validator(mode="after")
    def _dates_are_whole(self) -> "Landing":
        fields = set(re.findall(r"{(\w+)}", self.url))
        if unknown := fields - {"year", "month", "day", "hour", *self.COUNTS}:
            raise ValueError(f"url has unknown fields {sorted(unknown)}")
        if ("hours" in fields) != (self.origin is not None):
            raise ValueError("{hours} in the url and origin need each other")
        if counts := sorted(fields & {*self.COUNTS}):
            if len(fields) > 1:
                raise ValueError(f"{{{counts[0]}}} in the url is the whole date: no other field")
        elif fields and not {"year", "month", "day"} <= fields:
            raise ValueError("url needs {year}, {month} and {day} together, or none of them")
        return self


class EventMapping(Strict):
    """SQL expressions that turn a landing row into a canonical event.

    With `explode`, a row becomes an event for each element of a list: the other expressions see the
    element as `each` and its place, from 1, as `place`; both are null where the list has none.
    """

    explode: Sql | None = Field(None, description="gives a list; without it, a row is one event")
    event_id: Sql | None = Field(
        None,
        description="the source's own id; without it, content. It has to tell the elements of "
        "`explode` apart, as `id || '-' || place` does",
    )
    user_id: Sql
    timestamp: Sql = Field(description="gives a TIMESTAMPTZ, null where it cannot be read")
    sequence: Sql | None = Field(
        None,
        description="a whole number that orders a user's events of one instant; without it, and "
        "where it is null or the same, they are in the order of delivery",
    )
    action: Sql
    item_id: Sql | None = None
    value: Sql | None = None
    session_id: Sql | None = None
    properties: dict[Name, Sql] = Field({})


class Lookup(FileTable):
    """Files that are read whole, each time: what holds of an item or a user."""

    explode: Sql | None = Field(
        None, description="gives a list: a row for each element, in the columns each and place"
    )
    where: Sql | None = Field(None, description="rows for which it is not true do not count")


class Items(Lookup):
    """The catalog: SQL over the columns of its files."""

    item_id: Sql
    title: Sql | None = None
    category: Sql | None = None
    attributes: dict[Name, Sql] = Field({})


class Users(Lookup):
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
