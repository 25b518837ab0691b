"""The YAML's `tasks`: what is to be predicted, and of which examples.

An example is a user's history up to an instant. Three sources give them: the end of the as-of day
(one a user, and of training users some at days before, where a task has `snapshots`; the label is
an attribute or lies in the days after), the last events of each user (`holdout`), and what begins
after the as-of (`session`, `candidates`).
"""

import datetime as dt
from typing import Literal

from pydantic import Field, model_validator

from contracts.base.schema import Name, Sql, Strict
from contracts.config.metrics import Kind, metrics_of
from contracts.recipes.jobs import TaskSpec

Source = Literal["day", "holdout", "later"]


class SessionExamples(Strict):
    """Examples are sessions that begin after the as-of, cut at a random second of theirs.

    The model sees what came before the cut; the label is SQL over the rest of the session.
    """

    before: Sql | None = Field(
        None, description="the cut lies at or before the first event that this is true of"
    )
    alone: bool = Field(False, description="the model sees the session, not the history before it")


class Candidates(Strict):
    """Examples are lists that were shown after the as-of; the model says which row was chosen.

    The rows of one user and second are one list. The model sees what came before that second.
    """

    where: Sql = Field(description="true of the events that are rows of lists")
    relevant: Sql = Field(description="true of the rows that were chosen")
    numbers: dict[Name, Sql] = Field({}, description="what is known of a row, as its place, price")


class Task(Strict):
    """One thing to predict of an example.

    `column` names an attribute of the users table. `sql` is an aggregate over the events that
    answer: those of the user in [as-of, as-of + horizon_days), their last `holdout` events, or the
    rest of the session; such as `count(*) FILTER (action = 'purchase') > 0`. Where none of the
    user's events are there, it is the aggregate of no rows. A ranking task needs no SQL: it asks
    for the next item, the first of those events.
    """

    name: Name
    kind: Literal["classification", "regression", "ranking"] = "classification"
    column: Name | None = None
    sql: Sql | None = None
    known: dict[Name, Sql] = Field(
        {}, description="aggregates over the user's events before the as-of, for `sql` to use"
    )
    horizon_days: int | None = Field(None, ge=1)
    snapshots: int = Field(
        0, ge=0, le=100, description="earlier days that training users are labeled at as well"
    )
    holdout: int | None = Field(None, ge=1, description="the user's last events, which answer")
    session: SessionExamples | None = None
    candidates: Candidates | None = None
    above: Literal["median"] | None = Field(
        None, description="classes: is the number above its median over the training users?"
    )
    classes: int | None = Field(
        None, ge=2, description="the commonest among training users keep their name; others: other"
    )
    of: Sql | None = Field(None, description="ranking: true of events that can be the next item")
    exclude_history: bool = Field(False, description="ranking: items of the history do not compete")
    metric: str = Field(description="the one that the leaderboard sorts by")

    @property
    def source(self) -> Source:
        """Where the examples come from."""
        if self.session or self.candidates:
            return "later"
        return "holdout" if self.holdout else "day"

    @property
    def table(self) -> str:
        """The labels' file holds the tasks of one source, for they share their inputs."""
        return f"holdout{self.holdout}" if self.source == "holdout" else self.source

    @property
    def follows_split(self) -> bool:
        """Whether labels differ by who the training users are: each split has its own."""
        return bool(self.above or self.classes or self.snapshots)

    def snapshot_days(self, as_of: dt.date) -> list[dt.date]:
        """The earlier days that training users are labeled at, the newest first.

        The window of the newest ends with the as-of, so that no label looks past it; the others are
        half a window apart.
        """
        horizon = self.horizon_days or 0
        back = [horizon + nth * max(1, horizon // 2) for nth in range(self.snapshots)]
        return [as_of - dt.timedelta(days=days) for days in back]

    @property
    def spec(self) -> TaskSpec:
        """The task as the programs that measure it are given it."""
        return TaskSpec(
            name=self.name,
            kind=self.kind,
            metric=self.metric,
            exclude_history=self.exclude_history,
            candidates=self.candidates is not None,
            numbers=tuple(self.candidates.numbers) if self.candidates else (),
        )

    @model_validator(mode="after")
    def _one_source(self) -> "Task":
        given = [self.column, self.horizon_days, self.holdout, self.session, self.candidates]
        if sum(part is not None for part in given) != 1:
            raise ValueError(
                "give one of column (a user attribute), sql with horizon_days (a future window), "
                "holdout (the last events), session, candidates"
            )
        needs_sql = self.kind != "ranking" and self.column is None
        if needs_sql != (self.sql is not None):
            raise ValueError(
                "sql is missing: it says the label" if needs_sql else
                "sql does not go with column or ranking"
            )  # fmt: skip
        if self.known and self.source != "day":
            raise ValueError("known goes with sql over a future window (horizon_days)")
        if self.snapshots and not self.horizon_days:
            raise ValueError(
                "snapshots goes with sql over a future window (horizon_days): of nothing else is "
                "it known what it was on an earlier day"
            )
        return self

    @model_validator(mode="after")
    def _kind_fits(self) -> "Task":
        ranks = self.kind == "ranking"
        if ranks and self.source == "day":
            raise ValueError("a ranking needs holdout, session or candidates")
        if self.candidates and not ranks:
            raise ValueError("candidates are for a ranking")
        if (self.of or self.exclude_history) and (not ranks or self.candidates):
            raise ValueError("of and exclude_history are for a ranking of all items")
        if self.above and (self.kind != "classification" or not self.sql):
            raise ValueError("above makes classes of the number that sql gives")
        if self.classes and (self.kind != "classification" or self.above):
            raise ValueError("classes says how many classes a classification has")
        kind: Kind = "candidates" if self.candidates else self.kind
        allowed = [metric.name for metric in metrics_of(kind)]
        if self.metric not in allowed:
            raise ValueError(
                f"metric {self.metric} does not go with {kind}: take {', '.join(allowed)}"
            )
        return self
