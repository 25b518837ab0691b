"""The tables of features: of users, of their latest session, and of items.

Each is one row a user, or item, and day, computed, audited, published, registered and served by the
same code: a table says whom or what its rows are of, which features they have, and what a day of
its state is made of. Nothing of it depends on data.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from contracts.config.dataset import Dataset
from features.behavior.feature_fields import feature_fields
from features.behavior.intervals import with_pauses
from features.behavior.items import item_fields, session_columns_of_items, sessions_of_items
from features.behavior.latest_session import (
    latest_session_columns,
    latest_sessions,
    session_fields,
)
from features.behavior.measures import StateColumn, event_columns, session_columns
from features.behavior.terms import FeatureField

if TYPE_CHECKING:
    import ibis.expr.types as ir


@dataclass(frozen=True)
class FeatureTable:
    """One table of features."""

    name: str
    entity: Literal["user", "item"]
    about: str  # what a row is
    state: str  # the table of its daily state (daily_state.py)
    sources: tuple[str, ...]  # tables of which a day is computed
    fields: Callable[[Dataset], list[FeatureField]]
    event_columns: Callable[[Dataset], dict[str, StateColumn]]
    session_columns: Callable[[Dataset], dict[str, StateColumn]]
    # Published sessions, and the columns that are wanted -> rows with an `entity_id`.
    sessions: "Callable[[ir.Table, Collection[str]], ir.Table]"

    @property
    def key(self) -> str:
        """The column that names a row's user or item."""
        return f"{self.entity}_id"

    @property
    def other(self) -> str:
        """The column of events with what a user has to do with, or who with an item."""
        return {"user": "item_id", "item": "user_id"}[self.entity]

    @property
    def service(self) -> str:
        """The alias of the service that gives its features."""
        return self.name.removesuffix("_features")

    def state_columns(self, dataset: Dataset) -> dict[str, StateColumn]:
        """Every column that its daily state can have, in a fixed order."""
        return self.event_columns(dataset) | self.session_columns(dataset)


def _none(_: Dataset) -> dict[str, StateColumn]:
    return {}


BEHAVIOR = FeatureTable(
    name="user_behavior_features",
    entity="user",
    about="behavior of a user up to the end of a day, over windows that end with it",
    state="user_daily_activity",
    sources=("events", "sessions"),
    fields=feature_fields,
    event_columns=event_columns,
    session_columns=session_columns,
    sessions=with_pauses,
)

LATEST_SESSION = FeatureTable(
    name="user_session_features",
    entity="user",
    about="the latest session of a user that has closed by the end of a day",
    state="user_daily_sessions",
    sources=("sessions",),
    fields=session_fields,
    event_columns=_none,
    session_columns=latest_session_columns,
    sessions=latest_sessions,
)

ITEMS = FeatureTable(
    name="item_behavior_features",
    entity="item",
    about="what users did with an item up to the end of a day, over windows that end with it",
    state="item_daily_activity",
    sources=("events", "sessions"),
    fields=item_fields,
    event_columns=event_columns,
    session_columns=session_columns_of_items,
    sessions=sessions_of_items,
)

FEATURE_TABLES = {table.name: table for table in (BEHAVIOR, LATEST_SESSION, ITEMS)}


def feature_tables(dataset: Dataset) -> list[FeatureTable]:
    """The tables of features that a data set has."""
    has_items = dataset.features.items and dataset.events.item_id is not None
    return [
        BEHAVIOR,
        *[LATEST_SESSION] * dataset.features.latest_session,
        *[ITEMS] * has_items,
    ]
