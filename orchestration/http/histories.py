"""Events of a request -> the table that the gate would publish of them, or a refusal.

The rules are the gate's own (validation/table_rules.py), but those that only a whole day answers.
"""

import datetime as dt
import itertools
import threading
from collections.abc import Sequence

import pyarrow as pa

from contracts.base.clock import now
from contracts.base.sql import literal
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.schemas import EVENTS
from orchestration.http.answers import Refusal
from orchestration.http.questions import RawEvent
from validation.table_rules import events_audit

USER = "user"  # the one user of a request; nothing depends on the name
SKEW = dt.timedelta(minutes=1)  # between a caller's clock and ours
EARLIEST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
OF_A_DAY = {"day_start", "day_end"}  # which a few events do not have


class EventGate:
    """The gate of a data set for the events of one request."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self._lock = dataset, threading.Lock()
        audit = events_audit(dataset)
        columns = [
            f"{sql} AS {column}" for column, sql in audit.columns.items() if column not in OF_A_DAY
        ]
        rules = [
            f"CASE WHEN {rule.broken} THEN {literal(rule.sentence)} END"
            for rule in audit.rules
            if not any(word in rule.broken for word in OF_A_DAY)
        ]
        self._query = (
            f"SELECT place, list_filter([{', '.join(rules)}], lambda said: said IS NOT NULL) "
            f"AS broken FROM (SELECT place, {', '.join(columns)} FROM staged) "
            "WHERE len(broken) > 0 ORDER BY place LIMIT 1"
        )
        self._connection = connect()
        self._connection.execute("SET threads = 1")

    def table(self, events: Sequence[RawEvent]) -> pa.Table:
        """The events as rows of EVENTS, sorted, of one user.

        Raises:
          Refusal: one of them would not be published.
        """
        rows = [self._row(place, event) for place, event in enumerate(events)]
        staged = pa.Table.from_pylist(rows, pa.schema([*EVENTS, pa.field("place", pa.int64())]))
        with self._lock:
            self._connection.register("staged", staged)
            broken = self._connection.execute(self._query).fetchall()
        if broken:
            place, sentences = broken[0]
            raise Refusal(422, f"events.{place}: {'; '.join(sentences)}")
        rows.sort(key=lambda row: row["timestamp"])  # stable: of one instant as they were given
        for before, row in itertools.pairwise(rows):
            if row["timestamp"] == before["timestamp"]:
                row["sequence"] = before["sequence"] + 1
        return pa.Table.from_pylist(rows, EVENTS)

    def _row(self, place: int, event: RawEvent) -> dict:
        unknown = sorted(event.properties.keys() - set(self._dataset.events.properties))
        if unknown:
            known = ", ".join(self._dataset.events.properties) or "none"
            said = f"there is no such property: events.properties has {known}"
            raise Refusal(422, f"events.{place}.properties.{unknown[0]}: {said}")
        instant = instant_of(f"events.{place}.timestamp", event.timestamp)
        given = event.model_dump() | {"timestamp": instant, "event_id": str(place)}
        return given | {"user_id": USER, "sequence": 0, "place": place}


def instant_of(field: str, text: str) -> dt.datetime:
    """An instant that was written with its offset.

    Raises:
      Refusal: it is none.
    """
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        said = "an instant with its offset was expected, such as 2026-03-01T12:00:00Z"
        raise Refusal(422, f"{field}: {said}")
    try:
        instant = instant.astimezone(dt.UTC)
    except OverflowError:
        instant = EARLIEST
    if not EARLIEST < instant < dt.datetime(9999, 1, 1, tzinfo=dt.UTC):
        raise Refusal(422, f"{field}: an instant between 1970 and 9999 was expected")
    return instant


def looked_at(table: pa.Table, as_of: str | None) -> dt.datetime:
    """The instant at which a user is looked at: all their events are before it.

    Raises:
      Refusal: they are not.
    """
    newest: dt.datetime = table["timestamp"][-1].as_py()
    if as_of is not None:
        instant = instant_of("as_of", as_of)
    else:
        instant, after = now(), newest.replace(microsecond=0) + dt.timedelta(seconds=1)
        instant = max(instant, after) if newest < instant + SKEW else instant
    if newest >= instant:
        raise Refusal(422, f"an event is of {newest.isoformat()}, which is not before as_of")
    return instant
