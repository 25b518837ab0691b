"""What a plan cannot do by itself, as alerts: files that are refused, days without all their files.

Stopped and missing days and failed runs have alerts of their own, whether automation is on or not.
"""

from collections.abc import Iterable

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.automation import AlertKind
from contracts.config.dataset import Dataset
from orchestration.alerts.alert import Alert
from orchestration.alerts.delivery import deliver
from orchestration.alerts.sensor import DATA, STAGES
from orchestration.automation.request import Kind, Note, Plan
from orchestration.stages import stage_assets

# Stages whose run changes what is known of files and days.
DATA_STAGES = {"tables", "landing", "daily"}

KINDS: dict[Kind, AlertKind] = {
    "refused": "standing_still",
    "partial": "data_missing",
    "failed": "standing_still",
}


def alerts_of(dataset: Dataset, plan: Plan) -> dict[str, list[Alert]]:
    """By source, those of a plan's notes that somebody should know.

    A plan looks no further than a stage that is due or at work: what lies behind it is not known,
    and a source of which something is not known is left out.
    """
    busy = {request.stage for request in plan.requests}
    busy |= {note.subject for note in plan.notes if note.kind == "works"}
    found = {}
    is_listed = all(note.subject != "landing" for note in plan.notes if note.kind == "missing")
    if is_listed and not busy & DATA_STAGES:
        found[DATA] = _alerts(note for note in plan.notes if note.kind in ("refused", "partial"))
    if not busy:
        # Of a request that failed and waits for its next try, the run is told.
        stages = stage_assets(dataset)
        faults = (note for note in plan.notes if note.kind == "failed")
        found[STAGES] = _alerts(note for note in faults if note.subject in stages)
    return found


def tell(instance: dg.DagsterInstance, dataset: Dataset, plan: Plan) -> None:
    """Tells what is new among a plan's notes; an address that cannot be is told by others."""
    try:
        deliver(instance, dataset, alerts_of(dataset, plan))
    except FootpathError:
        return  # the sensor of alerts says so in each of its ticks


def _alerts(notes: Iterable[Note]) -> list[Alert]:
    return [
        Alert(KINDS[note.kind], note.subject, note.text, hash_json([*_identity(note)]))
        for note in notes
    ]


def _identity(note: Note) -> tuple[str, ...]:
    """A file that is refused is known by its sentence, for a day may have several."""
    return (note.kind, note.subject, note.text if note.kind == "refused" else "")
