"""What is due of a data set, and why: a plan, made anew from the lake each time.

In:  landing files, the lake, the YAML and the present. Out: requests, one a stage at most, in the
order of the chain; and notes of what is not requested: days that wait for files or stand still, and
requests that failed and wait for their next try. Nothing is remembered from one plan to the next,
so nothing can be missed: a late file, a missed night, a mended day, a changed YAML and a new model
are all seen as what is there and should not be, or the other way.

A stage is requested once nothing before it is due or under way. What was refused holds up nothing:
the stages after it go on with what there is. What was tried before is `history`'s to know.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.ingestion.completeness import Expected, Source, complete_at, look_at
from features.ingestion.lookup_tables import changed_lookups
from features.ingestion.manifest import mapping_hash
from features.staleness import StaleDays, find_stale
from orchestration.automation.models import due_embeddings, due_serving, due_training
from orchestration.automation.request import History, Kind, Note, Plan, Request
from orchestration.stages import CLEANING


def make_plan(dataset: Dataset, lake: Lake, now: dt.datetime, history: History) -> Plan:
    """Compares what should be there with what is there.

    Args:
      dataset: whose.
      lake: of the data set.
      now: the present.
      history: of earlier requests.
    """
    found = Plan()
    asker = _Asker(found, history, now)
    source = _look(found, dataset, lake, now)
    tables = asker.ask("tables", lambda: _due_tables(dataset, lake))
    landing = asker.ask("landing", lambda: _due_landing(found, dataset, source))
    waits = tables or landing
    if asker.ask("daily", lambda: _due_days(found, dataset, lake, source, now, history), waits):
        return found
    for stage, request in _in_turn(due_training(dataset, lake)):
        if asker.ask(stage, lambda request=request: request):
            break
    if not asker.ask("embedding", lambda: due_embeddings(dataset, lake)):
        asker.ask("serving", lambda: due_serving(dataset, lake))
    if not found.requests:
        asker.ask(CLEANING, lambda: _due_cleaning(dataset, now, history))
    return found


def _in_turn(request: Request | None) -> Iterator[tuple[str, Request | None]]:
    """The stages of training; the one that is due with its request, all others without."""
    for stage in ("inputs", "pretraining", "evaluation"):
        yield stage, request if request and request.stage == stage else None


@dataclass(frozen=True)
class _Asker:
    """Adds requests to a plan."""

    plan: Plan
    history: History
    now: dt.datetime

    def ask(self, stage: str, due: Callable[[], Request | None], waits: bool = False) -> bool:
        """Requests what is due of a stage; tells whether the stages after it have to wait.

        Where the stage itself waits for those before it, only its notes are added.
        """
        if run := self.history.running(stage):
            self.plan.notes.append(Note("works", stage, f"run {run} is at work"))
            return True
        try:
            request = due()
        except FootpathError as error:
            self.plan.notes.append(Note("failed", stage, str(error)))
            return False
        if request is None or waits:
            return waits
        if reason := self.history.held(request, self.now):
            self.plan.notes.append(Note("failed", str(request), reason))
            return False
        self.plan.requests.append(request)
        return True


def _look(plan: Plan, dataset: Dataset, lake: Lake, now: dt.datetime) -> Source | None:
    try:
        return look_at(dataset, lake, now)
    except FootpathError as error:
        plan.notes.append(Note("missing", "landing", str(error)))
        return None


def _due_tables(dataset: Dataset, lake: Lake) -> Request | None:
    changed = changed_lookups(dataset, lake)
    if not changed:
        return None
    return Request("tables", f"new or changed: {', '.join(changed)}", hash_json(changed))


def _due_landing(plan: Plan, dataset: Dataset, source: Source | None) -> Request | None:
    if source is None:
        return None
    found = source.unread
    for arrival, reason in zip(found.in_vain, found.reasons, strict=True):
        place = f"landing {arrival.day}" if arrival.day else "landing"
        plan.notes.append(Note("refused", place, reason))
    if not found.new:
        return None
    lying = [[arrival.file.path, arrival.file.size, arrival.file.stamp] for arrival in found.new]
    key = hash_json([mapping_hash(dataset), lying])
    more = f" and {len(found.new) - 1:,} more" if len(found.new) > 1 else ""
    reason = f"{found.new[0].file.path}{more} are new" if more else f"{lying[0][0]} is new"
    arrived = [arrival.day for arrival in found.new if arrival.day]
    span = (str(min(arrived)), str(max(arrived))) if arrived else (None, None)
    return Request("landing", reason, key, *span)


def _due_days(
    plan: Plan,
    dataset: Dataset,
    lake: Lake,
    source: Source | None,
    now: dt.datetime,
    history: History,
) -> Request | None:
    """What is due of events, sessions and features; then the trailing days of the night."""
    expected = source.expected if source else Expected()
    stale = find_stale(dataset, lake, expected.days)
    _note_days(plan, expected.waiting, "waits")
    _note_days(plan, expected.partial, "partial")
    if expected.missing:
        days = sorted(expected.missing)
        many = f" to {days[-1]} ({len(days):,} days)" if len(days) > 1 else ""
        plan.notes.append(Note("missing", f"{days[0]}{many}", expected.missing[days[0]]))
    for table, stops in stale.standing.items():
        for day, stop in stops.items():
            place = f"{table} {day}"
            reasons = "; ".join(text.removeprefix(f"{place}: ") for text in stop.reasons)
            plan.notes.append(Note("stopped", place, reasons))
    if stale.days:
        first, last = stale.span(dataset.automation.max_days)
        reason = tell_due(stale)
        return Request("daily", reason, stale.key(first, last), str(first), str(last))
    return _trailing(dataset, lake, now, history)


def _due_cleaning(dataset: Dataset, now: dt.datetime, history: History) -> Request | None:
    """A clean a day, once nothing else is to do."""
    today = now.astimezone(ZoneInfo(dataset.timezone)).date()
    key = hash_json([CLEANING, dataset.name, str(today)])
    if history.is_done(key):
        return None
    return Request(CLEANING, f"what nothing needs any more goes once a day ({today})", key)


def _note_days(plan: Plan, days: dict[dt.date, str], kind: Kind) -> None:
    plan.notes.extend(Note(kind, str(day), text) for day, text in days.items())


def _trailing(dataset: Dataset, lake: Lake, now: dt.datetime, history: History) -> Request | None:
    """The last days, built again once a night whatever has changed."""
    count, days = dataset.automation.trailing_days, lake.days("events")
    if not count or not days or now < complete_at(dataset, days[-1]):
        return None
    key = hash_json(["trailing", str(days[-1]), count])
    if history.is_done(key):
        return None
    last = days[-count:]
    reason = f"the last {len(last)} days are built again each night"
    return Request("daily", reason, key, str(last[0]), str(last[-1]), whole=True)


def tell_due(stale: StaleDays) -> str:
    """How many days of each table are due and why the first is, as a sentence without its end."""
    due = {table: of_table for table, of_table in stale.reasons.items() if of_table}
    counts = [
        f"{len(of_table):,} day{'s' if len(of_table) > 1 else ''} of {table}"
        for table, of_table in due.items()
    ]
    # Of the first table: the others follow from it.
    day, reason = next(iter(next(iter(due.values())).items()))
    first, last = stale.days[0], stale.days[-1]
    return f"{', '.join(counts)} are due ({first} to {last}), such as {day}: {reason}"
