"""The base of every validated configuration: strict sections, common types, errors as sentences."""

from collections.abc import Container
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

# Names that become columns, asset keys and file names.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Sql = Annotated[str, StringConstraints(min_length=1)]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]  # a share that leaves something
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"'{name}' is not an IANA time zone such as Europe/Berlin") from None
    return name


# A time zone by its IANA name.
Zone = Annotated[str, AfterValidator(_known_zone)]


class Strict(BaseModel):
    """A section of a configuration: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def faults(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Where and what is wrong, a pair for each error."""
    return [
        (tuple(fault["loc"]), fault["msg"].removeprefix("Value error, "))
        for fault in error.errors(include_url=False)
    ]


def relocated(
    error: ValidationError, *prefix: str | int, drop: Container[str | int] = ()
) -> ValidationError:
    """The same errors at other places.

    Args:
      error: of a part that was validated apart from its section.
      prefix: the place of the part.
      drop: parts of places to leave out.
    """
    lines = [
        InitErrorDetails(
            type=PydanticCustomError("invalid", "{text}", {"text": text}),
            loc=(*prefix, *(part for part in place if part not in drop)),
            input=None,
        )
        for place, text in faults(error)
    ]
    return ValidationError.from_exception_data(error.title, lines)
