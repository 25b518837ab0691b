"""What may be asked: bodies of requests, each checked before anything is read."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator

from contracts.base.schema import Strict

MAX_USERS = 1_000
MAX_EVENTS = 5_000
MAX_NEIGHBORS = 1_000
MAX_DIM = 4_096

Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=512)]
Number = Annotated[float, Field(strict=True)]
Users = Annotated[list[Text], Field(min_length=1, max_length=MAX_USERS)]


class _OneOf(Strict):
    """A question of which one of two fields is given."""

    either: ClassVar[tuple[str, str]]

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        one, other = self.either
        if (getattr(self, one) is None) == (getattr(self, other) is None):
            raise ValueError(f"give either {one} or {other}")
        return self


class FeaturesOf(_OneOf):
    """Which features, of which users or items: as the service is of."""

    either = ("users", "items")
    dataset: Text
    service: Text = Field(description="its versioned name, such as user_representation__v2")
    users: Users | None = None
    items: Users | None = None


class Like(_OneOf):
    """Whose neighbors: a user's, or a vector's."""

    either = ("user", "vector")
    dataset: Text
    user: Text | None = None
    vector: Annotated[list[Number], Field(max_length=MAX_DIM)] | None = Field(
        None, description="of the same model version, such as /v1/encode gives"
    )
    k: int = Field(10, ge=1, le=MAX_NEIGHBORS, strict=True)
    model_version: Text | None = Field(
        None, description="by default the one that the alias user_representation leads to"
    )
    filters: dict[Text, Text | Annotated[list[Text], Field(min_length=1)]] = Field(
        {}, description="attribute of the users table: a value, or a list of values", max_length=10
    )


class RawEvent(Strict):
    """An event, as landing would read it of a source."""

    timestamp: Text = Field(description="ISO 8601 with its offset, such as 2026-03-01T12:00:00Z")
    action: Text
    item_id: Text | None = None
    value: Number | None = None
    session_id: Text | None = Field(None, description="the source's own, where sessions go by it")
    properties: dict[Text, Annotated[str, StringConstraints(strict=True)] | None] = Field({})


Events = Annotated[list[RawEvent], Field(min_length=1, max_length=MAX_EVENTS)]


class HistoryOf(Strict):
    """The events of a user, in any order; of one instant in the order in which they happened."""

    dataset: Text
    events: Events
    model_version: Text | None = None
    alias: Text = Field("user_representation", description="where no model_version is given")
    as_of: Text | None = Field(
        None, description="instant at which the user is looked at; all events are before. Now"
    )


class ScoresOf(_OneOf):
    """Of which users a task's promoted model predicts: known ones, or one by their events."""

    either = ("users", "events")
    dataset: Text
    task: Text
    users: Users | None = None
    events: Events | None = None
    as_of: Text | None = None
