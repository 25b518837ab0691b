"""What a plan cannot do by itself, as alerts: files that are refused, days without all their files.

Stopped and missing days and failed runs have alerts of their own, whether automation is on or not.
"""

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.automation import AlertKind
from contracts.config.dataset import Dataset
from orchestration.alerts.alert import Alert
from orchestration.alerts.delivery import deliver
from orchestration.alerts.sensor import AUTOMATION
from orchestration.automation.request import Kind, Note
from orchestration.stages import stage_assets

KINDS: dict[Kind, AlertKind] = {
    "refused": "standing_still",
    "partial": "data_missing",
    "failed": "standing_still",
}


def alerts_of(dataset: Dataset, notes: list[Note]) -> list[Alert]:
    """Those of a plan's notes that somebody should know."""
    # Of a request that failed and waits for its next try, the run is told.
    tried = {note for note in notes if note.kind == "failed" and not _is_of_stage(dataset, note)}
    return [
        Alert(KINDS[note.kind], note.subject, note.text, hash_json([*map(str, _identity(note))]))
        for note in notes
        if note.kind in KINDS and note not in tried
    ]


def tell(instance: dg.DagsterInstance, dataset: Dataset, notes: list[Note]) -> None:
    """Tells what is new among a plan's notes; an address that cannot be is told by others."""
    try:
        deliver(instance, dataset, {AUTOMATION: alerts_of(dataset, notes)})
    except FootpathError:
        return  # the sensor of alerts says so in each of its ticks


def _is_of_stage(dataset: Dataset, note: Note) -> bool:
    return note.subject in stage_assets(dataset)


def _identity(note: Note) -> tuple[str, ...]:
    """A file that is refused is known by its sentence, for a day may have several."""
    return (note.kind, note.subject, note.text if note.kind == "refused" else "")
