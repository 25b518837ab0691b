"""Whether somebody is told, and whether they can be reached: what `footpath doctor` shows of it."""

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from orchestration.alerts.delivery import failing
from orchestration.alerts.receivers import WEBHOOK, receivers_of, ui_url
from orchestration.alerts.sensor import SOURCES


def setup(datasets: Iterable[Dataset], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields what is set up, without an address, and what is to be done, if anything."""
    told: dict[str, list[str]] = {}
    wrong: set[str] = set()
    slugs: set[str] = set()
    for dataset in datasets:
        slugs.add(dataset.slug.upper())
        try:
            ui_url()
            told[dataset.name] = [receiver.title for receiver in receivers_of(dataset)]
        except FootpathError as error:
            wrong.add(str(error))
    for said in sorted(wrong):
        yield said, "correct the variable; until then nobody is told"
    own = {name.removeprefix(f"{WEBHOOK}_") for name in environment if name.startswith(WEBHOOK)}
    for slug in sorted(own - slugs - {WEBHOOK}):
        todo = f"name one of {', '.join(sorted(slugs))}, or remove it"
        yield f"{WEBHOOK}_{slug} is of no data set", todo
    ways = sorted({way for ways in told.values() for way in ways})
    silent = [name for name, ways in told.items() if not ways]
    rest = f"; nobody of {', '.join(silent)}" if silent else ""
    if ways:
        yield f"{', '.join(ways)}{rest}; `footpath automation test-alert` tries them", ""
    elif not wrong:
        yield f"nobody is told: set {WEBHOOK}, see docs/operating.md", ""


def untold(instance: dg.DagsterInstance, dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yields the receivers that did not take the last message, and what is to be done."""
    for said in failing(instance, dataset, SOURCES):
        yield said, f"correct it, then `footpath automation test-alert --dataset {dataset.name}`"
