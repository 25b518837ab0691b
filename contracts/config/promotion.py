"""The YAML's section `promotion`: which model version new work is given, and what it must pass."""

from typing import Literal

from pydantic import Field

from contracts.base.schema import Strict


class Promotion(Strict):
    """When a model version takes the place of the one that is served.

    `footpath promote` goes by the same checks; `footpath pin` keeps a version whatever comes.
    """

    mode: Literal["auto", "manual"] = Field(
        "auto", description="manual: a person approves, by `footpath promote` or in the UI"
    )
    min_effective_rank: float = Field(
        2.0, ge=1, description="dimensions that the vectors of all users fill"
    )
    min_distinct: float = Field(
        0.5, ge=0, le=1, description="distinct vectors, as a share of users"
    )
    max_norm_factor: float = Field(
        4.0, gt=1, description="median length of vectors, newest day against the first"
    )
    min_neighbor_lift: float = Field(
        1.5, ge=0, description="neighbors shared with the served version, against chance; 0: any"
    )
    min_coverage: float = Field(
        0.95, ge=0, le=1, description="active users who have a vector, as a share of them"
    )
    active_days: int = Field(28, ge=1, description="who has an event in so many days is active")
    max_label_age_days: int | None = Field(
        None, ge=1, description="days since the labels' as-of day; by default any number"
    )
