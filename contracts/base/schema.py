"""The bottom of the YAML schema: a strict section, and the kinds of value that its fields take."""

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

# Names that become columns, asset keys and file names.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Sql = Annotated[str, StringConstraints(min_length=1)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"'{name}' is not an IANA time zone such as Europe/Berlin") from None
    return name


# A time zone by its IANA name.
Zone = Annotated[str, AfterValidator(_known_zone)]


class Strict(BaseModel):
    """A section of the YAML: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
