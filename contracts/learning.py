"""The YAML's sections on what is learnt: tasks, and what is trained and compared by default."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, model_validator

from contracts.fields import Name, Sql, Strict


class Task(Strict):
    """One thing to predict for a user as of a day: a user attribute, or SQL over a future window.

    `column` names an attribute of the users table. `sql` is an aggregate over the user's events
    in [as-of, as-of + horizon), such as `count(*) FILTER (action = 'purchase') > 0`; a user
    without events there gets the aggregate of no rows.
    """

    name: Name
    kind: Literal["classification", "regression"] = "classification"
    column: Name | None = None
    sql: Sql | None = None
    horizon_days: int | None = Field(None, ge=1)
    metric: Literal["auc", "accuracy", "macro_f1", "mae"] = Field(
        description="the one that the leaderboard sorts by"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Task":
        if (self.column is None) == (self.sql is None):
            raise ValueError("give either column (a user attribute) or sql (a future window)")
        if (self.sql is None) != (self.horizon_days is None):
            raise ValueError("horizon_days goes with sql")
        if (self.kind == "regression") != (self.metric == "mae"):
            raise ValueError("metric mae is for regression, and regression takes only mae")
        return self


class Learning(Strict):
    """What is trained and compared by default."""

    as_of: dt.date | None = Field(
        None, description="inputs end with this day; default: the last that leaves every horizon"
    )
    max_length: int = Field(100, ge=2, description="events of a user that an encoder sees")
    min_item_count: int = Field(2, ge=1, description="rarer items become [UNK]")
    query: Name | None = Field(
        None, description="key of events.properties with the text of events without an item"
    )
    min_token_count: int = Field(2, ge=1, description="words of fewer events become [UNK]")
    max_tokens: int = Field(32, ge=2, description="of a document, field markers counted")
    dim: int = Field(64, ge=8)
    epochs: int = Field(10, ge=1, description="passes of pre-training over the users")
    finetune_epochs: int = Field(8, ge=1, description="at most; fine-tuning stops early")
    recipes: list[Name] = Field(["ptum_bert4rec", "ptum_gru4rec", "none_bert4rec", "none_gru4rec"])
    label_shares: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.2, 1.0])
    seeds: int = Field(1, ge=1)
