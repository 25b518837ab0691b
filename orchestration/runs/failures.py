"""Why a run failed, in the one sentence that its reader can act on."""

from collections.abc import Iterable, Sequence

import dagster as dg

from contracts.base.disks import disk_sentence
from contracts.base.errors import FootpathError
from contracts.lake.layout import home, lakes
from contracts.lake.remote import sentence

RUN_FAILURE = dg.DagsterEventType.RUN_FAILURE.value
NOTHING_SAID = "the run failed before any of its steps: see its log in the UI"
UNSAID = "marked as failed from outside"


def failure_sentence(events: Iterable[dg.DagsterEvent]) -> str | None:
    """Sentence of the first step that failed; None if no step did."""
    for event in events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            while error.cause:
                error = error.cause
            said = error.message.split(": ", 1)[-1].strip()
            if told := sentence(error.cls_name or "", said, str(lakes())):
                return told
            is_told = error.cls_name == FootpathError.__name__
            return said if is_told else disk_sentence(said, home()) or said
    return None


def run_failure_sentence(events: Sequence[dg.DagsterEvent]) -> str:
    """Why a run failed, by the events of its log: its first failed step, or what ended it."""
    if said := failure_sentence(events):
        return said
    names = [event.event_type_value for event in events]
    if RUN_FAILURE not in names:
        return NOTHING_SAID
    last = names.index(RUN_FAILURE)
    said = events[last].message or NOTHING_SAID
    if UNSAID in said and last:
        # Whoever found the process dead has said so before.
        said = (events[last - 1].message or said).removeprefix("[DagsterApiServer] ")
    return said
