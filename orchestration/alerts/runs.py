"""What is wrong by the runs that have ended: failures, and checks that did not pass.

In:  the runs of a data set that have ended since the last look, and their event logs. Out: every
failure and failed check that no later run has made good. A failed run that is tried
again is not one: the last of its attempts is.
"""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from contracts.base.clock import now
from contracts.base.hashing import hash_json
from orchestration.alerts.alert import CUT, Alert, cause_of, redacted
from orchestration.alerts.receivers import link_to_run
from orchestration.alerts.scopes import RunsOf, Scope
from orchestration.runs.dead_runs import UNFINISHED
from orchestration.runs.failures import run_failure_sentence
from orchestration.runs.retries import LOST
from orchestration.tags import FAILURE_REASON, REQUEST, REQUESTED_AT
from orchestration.write_audit_publish import (
    CHECK,
    EVERY_DAY,
    STOPPED,
)
from validation.counts import EXAMPLE

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
OF_A_FAILURE = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ENGINE_EVENT,
}

PAGE = 200  # runs of one look
OVERLAP = 300.0  # seconds that are looked at twice: a run may be stored after a later one
SETTLING = 5.0  # seconds after a failure in which Dagster notes whether it will try again
RETRIES_WITHIN = 300.0  # seconds until a run whose process died has been asked for again
ASKED_AGAIN_WITHIN = dt.timedelta(minutes=20)  # after a request of automation that failed once
REQUESTS_WITHIN = 90.0  # seconds from such a failure to the next plan
LONGEST_RETRY = 24 * 3600.0  # seconds that an attempt may wait and run before the failure is told
KEPT = 30 * 24 * 3600.0  # seconds after which a failure that nothing made good is forgotten
LONGEST_GAP = 7 * 24 * 3600.0  # seconds of runs that are read after a time without a look
MOST = 300  # alerts of each kind that are kept


@dataclass
class Seen:
    """What is known of the runs of a data set: the cursor of its sensor."""

    since: float = 0.0  # runs that were stored before are known
    ended: dict[str, float] = field(default_factory=dict)  # known runs of late, and their ends
    waiting: dict[str, float] = field(default_factory=dict)  # failed, perhaps tried again; ends
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    stops: list[str] = field(default_factory=list)  # what runs said of stopped days, of late

    @classmethod
    def of(cls, cursor: str | None, at: float) -> "Seen":
        """Reads a cursor. Of what was long before the first look, nothing is told."""
        seen = cls(**json.loads(cursor)) if cursor else cls(since=at)
        seen.since = max(seen.since, at - LONGEST_GAP)
        return seen

    def cursor(self) -> str:
        """The same as text."""
        return json.dumps(asdict(self))

    def alerts(self) -> list[Alert]:
        """Failed runs and failed checks."""
        return [Alert(**entry["alert"]) for entry in [*self.failed.values(), *self.checks.values()]]

    def note(self, into: dict[str, dict[str, Any]], alert: Alert, **more: Any) -> None:
        """Keeps an alert until something makes it good; what is beyond the bound is not kept."""
        if alert.key in into or len(into) < MOST:
            into[alert.key] = {"alert": asdict(alert.shown()), **more}

    def forget(self, at: float) -> None:
        """Removes what is too old."""
        recent = {r: end for r, end in self.ended.items() if end > self.since - 2 * OVERLAP}
        self.ended = dict(list(recent.items())[-2 * PAGE :])
        for known in (self.failed, self.checks):
            for key in [key for key, entry in known.items() if entry["alert"]["expires"] <= at]:
                del known[key]


def look(instance: dg.DagsterInstance, runs: RunsOf, seen: Seen, at: float) -> None:
    """Looks at the runs that have ended, and brings up to date what is wrong by them.

    Args:
      instance: whose runs.
      runs: which of them.
      seen: what is known; it is brought up to date.
      at: the present, in seconds, by the clock of the runs.
    """
    for record in _new(instance, seen, at):
        run = record.dagster_run
        if not runs.has(run):
            continue
        seen.ended[run.run_id] = record.end_time or at
        _note_checks(instance, runs, seen, record)
        if run.status == dg.DagsterRunStatus.FAILURE:
            seen.waiting[run.run_id] = record.end_time or at
        else:
            _make_good(seen, runs.scope(run), record.end_time or at)
    for run_id, end in list(seen.waiting.items()):
        if at - end < SETTLING:
            continue
        record = instance.get_run_record_by_id(run_id)
        if record and _is_tried_again(instance, runs, record, at - end):
            continue
        del seen.waiting[run_id]
        if record and not _made_good(instance, runs, record):
            _note_failure(instance, runs, seen, record)
    seen.forget(at)


def _new(instance: dg.DagsterInstance, seen: Seen, at: float) -> list[dg.RunRecord]:
    """Runs that have ended and are not known, by the time at which they ended."""
    found = instance.get_run_records(
        dg.RunsFilter(
            statuses=ENDED, updated_after=dt.datetime.fromtimestamp(seen.since - OVERLAP, dt.UTC)
        ),
        limit=PAGE,
        order_by="update_timestamp",
        ascending=True,
    )
    # A run is stored again when it gets a tag, long after its end.
    oldest = seen.since - 2 * OVERLAP
    new = [
        record
        for record in found
        if record.dagster_run.run_id not in seen.ended and (record.end_time or at) > oldest
    ]
    if len(found) == PAGE:
        seen.since = found[-1].update_timestamp.timestamp() + OVERLAP - 0.001
    else:
        seen.since = max(seen.since, at)
    return sorted(new, key=lambda record: record.end_time or at)


def _later(
    instance: dg.DagsterInstance, runs: RunsOf, record: dg.RunRecord
) -> Iterator[dg.RunRecord]:
    """Runs that were asked for after this one and build all of it."""
    scope = runs.scope(record.dagster_run)
    after = dg.RunsFilter(created_after=record.create_timestamp)
    for later in instance.get_run_records(after, limit=PAGE):
        run = later.dagster_run
        is_other = run.run_id != record.dagster_run.run_id and runs.has(run)
        if is_other and runs.scope(run).covers(scope):
            yield later


def _is_tried_again(
    instance: dg.DagsterInstance, runs: RunsOf, record: dg.RunRecord, age: float
) -> bool:
    """Whether a failed run is being tried again, or is likely to be in a moment."""
    run = record.dagster_run
    later = [each.dagster_run.status for each in _later(instance, runs, record)]
    if any(status in UNFINISHED for status in later):
        return age < LONGEST_RETRY
    if later:
        return False
    was_killed = run.tags.get(FAILURE_REASON) in (None, "UNEXPECTED_TERMINATION")
    if REQUEST in run.tags and (was_killed or _failed_in_passing(instance, run)):
        # Automation asks again, the first time soon, by the clock that it goes by.
        asked = now() - dt.datetime.fromisoformat(run.tags[REQUESTED_AT])
        return asked < ASKED_AGAIN_WITHIN or age < REQUESTS_WITHIN
    # A run without an origin was started by hand: Dagster cannot start it again.
    will_be = run.is_complete_and_waiting_to_retry and run.remote_job_origin is not None
    return (was_killed or will_be) and age < RETRIES_WITHIN


def _failed_in_passing(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a step failed for want of a connection or a process."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        error = event.step_failure_data.error if event else None
        while error:
            if (error.cls_name or "").endswith((*LOST, "TransientError")):
                return True
            error = error.cause
    return False


def _made_good(instance: dg.DagsterInstance, runs: RunsOf, record: dg.RunRecord) -> bool:
    """Whether a later run has ended that builds the same: that one counts."""
    return any(each.dagster_run.status in ENDED for each in _later(instance, runs, record))


def _note_failure(
    instance: dg.DagsterInstance, runs: RunsOf, seen: Seen, record: dg.RunRecord
) -> None:
    """Notes a failure that is not tried again, but for what the gate has stopped: that is a day."""
    run, scope, end = record.dagster_run, runs.scope(record.dagster_run), record.end_time or 0.0
    events = [
        entry.dagster_event
        for entry in instance.all_logs(run.run_id, of_type=OF_A_FAILURE)
        if entry.dagster_event
    ]
    failures = [event for event in events if event.is_step_failure]
    # Whoever is not told of stopped days wants to know of the run.
    tells_days = "day_stopped" in runs.dataset.automation.alerts.kinds
    is_stop = bool(failures) and all(map(_is_of_the_gate, failures))
    said = run_failure_sentence(events)
    if is_stop or not scope.assets:
        # Values of rows may be of persons, and would leave the house here.
        said = "; ".join(line.partition(EXAMPLE)[0] for line in said.splitlines())
    text = " ".join(redacted(said).split())
    if tells_days and is_stop:
        seen.stops = [*seen.stops, text][-20:]
        _make_good(seen, scope, end)
        return
    known = [*seen.stops, *(entry["alert"]["text"] for entry in seen.failed.values())]
    if not scope.assets and any(said.removesuffix(CUT) in text for said in known):
        return  # a job of jobs, one of which has told it
    subject = f"{run.job_name} of {scope.partitions}" if scope.first else run.job_name
    key = f"run/{hash_json([scope.job, sorted(scope.assets), scope.first, scope.last])}"
    link = link_to_run(run.run_id)
    alert = Alert("run_failed", subject, text, key, link, end + KEPT, cause_of(text))
    place = {**asdict(scope), "assets": sorted(scope.assets)}
    seen.note(seen.failed, alert, scope=place, end=end, done=[])


def _make_good(seen: Seen, done: Scope, end: float) -> None:
    """Removes the failures that a run has made good which came through, alone or with others."""
    for key, entry in list(seen.failed.items()):
        failed = Scope(**{**entry["scope"], "assets": frozenset(entry["scope"]["assets"])})
        if entry["end"] > end or not done.builds(failed):
            continue
        entry["done"] = [*entry["done"], [done.first, done.last]][-MOST:]
        if done.covers(failed) or failed.is_within(entry["done"]):
            del seen.failed[key]


def _note_checks(
    instance: dg.DagsterInstance, runs: RunsOf, seen: Seen, record: dg.RunRecord
) -> None:
    """Notes the checks of a run that failed, and removes those that passed."""
    run, end = record.dagster_run, record.end_time or 0.0
    link = link_to_run(run.run_id)
    evaluated = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    for entry in instance.all_logs(run.run_id, of_type=evaluated):
        assert entry.dagster_event
        check = entry.dagster_event.asset_check_evaluation_data
        if check.asset_key.path[0] != runs.dataset.slug:
            continue
        if check.check_name in (CHECK, EVERY_DAY):
            continue  # of stopped days
        subject = f"{check.check_name} of {check.asset_key.to_user_string()}"
        subject += f", {check.partition}" if check.partition else ""
        is_told = check.severity == dg.AssetCheckSeverity.ERROR
        if check.passed or not (is_told or runs.dataset.automation.alerts.warnings):
            seen.checks.pop(f"check/{subject}", None)
            continue
        text = check.description or "it did not pass"
        alert = Alert("check_failed", subject, text, f"check/{subject}", link, end + KEPT)
        seen.note(seen.checks, alert)


def _is_of_the_gate(event: dg.DagsterEvent) -> bool:
    """Whether a step failed because the gate has stopped days."""
    data = event.step_failure_data
    by_user = data.user_failure_data
    is_stop = bool(by_user and STOPPED in by_user.metadata)
    return is_stop or str(event.step_key).endswith(f"_{EVERY_DAY}")
