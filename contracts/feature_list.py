"""The YAML's section on behaviour features."""

from typing import Annotated

from pydantic import Field

from contracts.fields import Strict


class Features(Strict):
    """Behaviour features: per user, over windows that end with the day."""

    windows: list[Annotated[int, Field(ge=1, le=366)]] = Field([1, 7, 30], min_length=1)
    delay_minutes: int = Field(60, ge=0, description="from the window's end until it is known")
    # Declared, not discovered: column names must not depend on data (a registered feature view and
    # the asset graph are made before any data is there).
    categories: list[str] = Field([], max_length=50, description="a share of events column each")
