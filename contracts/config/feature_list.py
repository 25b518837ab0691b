"""The YAML's section on features: the windows, and the behavior features of users over them.

Items, and the latest session of each user, have features over the same windows, alike in every data
set (`features/behavior/tables.py`); a word leaves them out. Of users' behavior, `standard` features
come with every data set. `declared` adds entries, each of one kind below; an entry makes one column
per window and statistic. What an entry's columns are called, hold and mean is told by
`features/behavior/feature_fields.py`; the UI and the store show it.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from contracts.base.schema import Name, Strict

Days = Annotated[int, Field(ge=1, le=366)]


class Entry(Strict):
    """One declared feature, of any kind."""

    def named_actions(self) -> Iterator[str]:
        """The actions that the entry asks for."""
        return iter(())

    def named_windows(self) -> list[int]:
        """The windows that the entry asks for."""
        return []

    def needs_categories(self) -> bool:
        """Whether the catalog must give items a category."""
        return False


class Windowed(Entry):
    """An entry with columns for each of some windows."""

    windows: list[Days] | None = Field(
        None, min_length=1, description="of `features.windows`; all of them where left out"
    )

    def named_windows(self) -> list[int]:
        """Those that are named."""
        return self.windows or []


class OfAction(Windowed):
    """An entry that may count the events of one action alone."""

    action: Name | None = None

    def named_actions(self) -> Iterator[str]:
        """The action, if there is one."""
        if self.action:
            yield self.action


class Count(OfAction):
    """Events of one action, of one category, or of both."""

    kind: Literal["count"]
    category: str | None = Field(None, description="one of `features.categories`")

    def needs_categories(self) -> bool:
        """Whether a category is asked for."""
        return self.category is not None


class Distinct(OfAction):
    """How many different ones there are. Sessions and active days are not told by action."""

    kind: Literal["distinct"]
    of: Literal["items", "categories", "sessions", "active_days"]

    def needs_categories(self) -> bool:
        """Whether categories are counted."""
        return self.of == "categories"

    @model_validator(mode="after")
    def _actions_have_items(self) -> "Distinct":
        if self.action and self.of in ("sessions", "active_days"):
            raise ValueError(
                f"{self.of} are not told by action: leave out `action`, or count items"
            )
        return self


class Entropy(Windowed):
    """How evenly events spread: 0 where all are alike, null where there are none."""

    kind: Literal["entropy"]
    of: Literal["categories", "actions", "hours"]

    def needs_categories(self) -> bool:
        """Whether it is that of categories."""
        return self.of == "categories"


class Recency(Entry):
    """Days back to the last event, and to the last of each action: null where there is none."""

    kind: Literal["recency"]
    of: list[Name] | None = Field(
        None, min_length=1, description="`event` and actions; all of them where left out"
    )
    cap_days: Days | None = Field(None, description="no more than this, and than all windows")

    def named_actions(self) -> Iterator[str]:
        """The actions that are named."""
        return (name for name in self.of or [] if name != "event")


class Gaps(Windowed):
    """Pauses between one session and the next, both of which closed in the window."""

    kind: Literal["gaps"]
    stats: list[Literal["mean", "std", "last"]] = Field(["mean", "std", "last"], min_length=1)


class Trend(Entry):
    """Events a day in a short window against a long one."""

    kind: Literal["trend"]
    of: Name = Field("events", description="`events`, or an action")
    short: Days
    long: Days
    form: Literal["ratio", "difference"] = "ratio"

    def named_actions(self) -> Iterator[str]:
        """The action, unless all events are meant."""
        if self.of != "events":
            yield self.of

    def named_windows(self) -> list[int]:
        """Returns both windows."""
        return [self.short, self.long]

    @model_validator(mode="after")
    def _grows(self) -> "Trend":
        if self.short >= self.long:
            raise ValueError(
                f"short is {self.short} and long is {self.long}: short must be the smaller one"
            )
        return self


class Funnel(Windowed):
    """How many events of one action come per event of another: of / (per + smoothing)."""

    kind: Literal["funnel"]
    of: Name = Field(description="such as purchase")
    per: Name = Field(description="such as view")
    smoothing: float = Field(0, ge=0, description="draws what rests on few events towards 0")

    def named_actions(self) -> Iterator[str]:
        """Gives both actions."""
        yield from (self.of, self.per)

    @model_validator(mode="after")
    def _two_actions(self) -> "Funnel":
        if self.of == self.per:
            raise ValueError(f"a funnel leads from one action to another, and both are '{self.of}'")
        return self


class TopCategories(Windowed):
    """The k of `features.categories` that a user has the most events of: name and share."""

    kind: Literal["top_categories"]
    k: int = Field(1, ge=1, le=10)

    def needs_categories(self) -> bool:
        """Tells that it does."""
        return True


class Value(OfAction):
    """Statistics of the values of one action's events; of all events where it is left out."""

    kind: Literal["value"]
    stats: list[Literal["sum", "mean", "max", "std"]] = Field(["sum", "mean"], min_length=1)


class SessionStats(Windowed):
    """Statistics of the sessions that closed in the window."""

    kind: Literal["sessions"]
    stats: list[Literal["length_mean", "length_max", "seconds_mean", "seconds_max"]] = Field(
        ["length_mean", "seconds_mean"], min_length=1
    )


Hour = Annotated[int, Field(ge=0, le=24)]


class TimeOfDay(Windowed):
    """Shares of events by local hour: each part is [first hour, hour after the last]."""

    kind: Literal["time_of_day"]
    parts: dict[Name, tuple[Hour, Hour]] = Field(
        {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)},
        min_length=1,
    )

    @model_validator(mode="after")
    def _parts_are_hours(self) -> "TimeOfDay":
        for name, (start, end) in self.parts.items():
            if start >= end:
                raise ValueError(
                    f"part {name} is [{start}, {end}], and must end after it starts: "
                    "give what goes past midnight as two parts"
                )
        return self


class Weekend(Windowed):
    """The share of events on Saturdays and Sundays, local time."""

    kind: Literal["weekend"]


Declared = Annotated[
    Count
    | Distinct
    | Entropy
    | Recency
    | Gaps
    | Trend
    | Funnel
    | TopCategories
    | Value
    | SessionStats
    | TimeOfDay
    | Weekend,
    Field(discriminator="kind"),
]


class Features(Strict):
    """Features of users and items, over windows that end with the day."""

    windows: list[Days] = Field([1, 7, 30], min_length=1)
    delay_minutes: int = Field(60, ge=0, description="from the window's end until it is known")
    # Declared, not discovered: column names must not depend on data (a registered feature view and
    # the asset graph are made before any data is there).
    categories: list[str] = Field([], max_length=50, description="a share of events column each")
    standard: bool = Field(True, description="the features that every data set has")
    declared: list[Declared] = Field([], max_length=200, description="and what comes on top")
    latest_session: bool = Field(True, description="features of each user's latest session too")
    items: bool = Field(True, description="features of items too, where events have an item")

    @model_validator(mode="after")
    def _windows_are_known(self) -> "Features":
        for place, entry in enumerate(self.declared):
            for days in entry.named_windows():
                if days not in self.windows:
                    raise ValueError(
                        f"declared.{place} ({entry.kind}) asks for a window of {days} days, and "
                        f"`windows` has {sorted(set(self.windows))}: add it there"
                    )
        if not self.standard and not self.declared:
            raise ValueError("`standard` is false and `declared` is empty: declare a feature")
        return self


def feature_faults(
    features: Features, actions: list[str], has_categories: bool
) -> Iterator[tuple[int, str]]:
    """Declared features that ask for what the data set does not have: which, and a sentence."""
    for place, entry in enumerate(features.declared):
        for action in entry.named_actions():
            if action not in actions:
                known = ", ".join(actions)
                yield place, f"{entry.kind} asks for action '{action}', and `actions` has {known}"
        if entry.needs_categories() and not has_categories:
            yield place, f"{entry.kind} needs categories: map `items.category` to a column"
        if isinstance(entry, Count) and entry.action is None and entry.category is None:
            yield place, "count counts all events, which `events_<days>d` does: name what"
        wanted = entry.category if isinstance(entry, Count) else None
        if wanted is not None and wanted not in features.categories:
            known = ", ".join(features.categories) or "none"
            text = f"asks for category '{wanted}', and `features.categories` has {known}"
            yield place, f"{entry.kind} {text}: add it there"
        if isinstance(entry, TopCategories) and entry.k > len(features.categories):
            many = len(features.categories)
            text = f"asks for the top {entry.k} of {many} categories"
            yield place, f"{entry.kind} {text}: list more in `features.categories`"
