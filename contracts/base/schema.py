"""The base of every validated configuration: strict sections, common types, errors as sentences."""

import datetime as dt
import difflib
from collections.abc import Container, Iterable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

# Names that become columns, asset keys and file names.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Sql = Annotated[str, StringConstraints(min_length=1)]

# Numbers are strict: neither a text nor a truth value is one.
Count = Annotated[int, Field(ge=1, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]  # 0 stands for none, or for all
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
BelowOne = Annotated[float, Field(ge=0, lt=1, strict=True)]  # a share that leaves something
Weight = Annotated[float, Field(ge=0, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]


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

    @model_validator(mode="before")
    @classmethod
    def _knows_its_fields(cls, data: Any) -> Any:
        """Tells an unknown field by its name, and which one may be meant."""
        if not isinstance(data, dict) or data.keys() <= cls.model_fields.keys():
            return data
        unknown = [name for name in data if name not in cls.model_fields]
        lines = [_line((name,), _unknown(name, cls.model_fields)) for name in unknown]
        raise ValidationError.from_exception_data(cls.__name__, lines)


def _unknown(name: Any, fields: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), fields, n=1)
    advice = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(fields)}"
    return f"there is no such field: {advice}"


def _line(place: tuple[str | int, ...], text: str) -> InitErrorDetails:
    kind = PydanticCustomError("invalid", "{text}", {"text": text})
    return InitErrorDetails(type=kind, loc=place, input=None)


def located(title: str, faults: Iterable[tuple[tuple[str | int, ...], str]]) -> ValidationError:
    """Errors that a section finds in its parts: a place and a sentence each."""
    lines = [_line(place, text) for place, text in faults]
    return ValidationError.from_exception_data(title, lines)


def faults(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Where and what is wrong, a pair for each error."""
    return [
        (tuple(fault["loc"]), fault["msg"].removeprefix("Value error, ") + _advice(fault))
        for fault in error.errors(include_url=False)
    ]


def _advice(fault: ErrorDetails) -> str:
    """What YAML has made of a text, such as `no`, 12 or a date."""
    value = fault["input"]
    if fault["type"] != "string_type" or not isinstance(value, bool | int | float | dt.date):
        return ""
    kinds = {bool: "a truth value", int: "a number", float: "a number"}
    return f", and YAML reads {kinds.get(type(value), 'a date')} here: put it in quotes"


def sentences(error: ValidationError, where: str) -> str:
    """A line for each error: where, the place in it, what is wrong."""
    return "\n".join(
        ": ".join(part for part in (where, ".".join(map(str, place)), text) if part)
        for place, text in faults(error)
    )


def relocated(
    error: ValidationError, *prefix: str | int, drop: Container[str | int] = ()
) -> ValidationError:
    """The same errors at other places.

    Args:
      error: of a part that was validated apart from its section.
      prefix: the place of the part.
      drop: parts of places to leave out.
    """
    return located(
        error.title,
        (
            ((*prefix, *(part for part in place if part not in drop)), text)
            for place, text in faults(error)
        ),
    )
