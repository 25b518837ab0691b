"""What is named by somebody: model versions, days of training, comparisons that are on their way.

In:  services of the feature store, the ledger of versions, plans of comparisons. Out: a sentence
for each name that must stay.
"""

import contextlib
from dataclasses import dataclass

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import tree
from contracts.lake.versions import WEIGHTS, ModelVersion, all_versions
from orchestration.promotion.candidates import versions_to_serve


@dataclass(frozen=True)
class Named:
    """Why things stay."""

    versions: dict[str, str]  # version -> why
    as_ofs: dict[str, str]  # as-of day of training sequences -> why
    comparison: str  # why every trial and every sequence stays; empty where none is on its way


def named(dataset: Dataset, lake: Lake, now: float) -> Named:
    """What of a data set is named.

    Args:
      dataset: whose.
      lake: of the data set.
      now: in seconds since 1970.
    """
    return Named(
        _versions(dataset, lake, now), _as_ofs(dataset, lake), _comparison(dataset, lake, now)
    )


def _versions(dataset: Dataset, lake: Lake, now: float) -> dict[str, str]:
    from features.store import served_versions

    keep, known = dataset.automation.keep, all_versions(lake)
    found = dict.fromkeys(served_versions(lake), "a feature service names it")
    for version in versions_to_serve(dataset, lake):
        found.setdefault(version, "each new day is embedded by it")
    alike: dict[tuple[str, str], list[ModelVersion]] = {}
    for version in reversed(known):
        if version.is_finished(lake):
            alike.setdefault((version.recipe, version.task), []).append(version)
    for versions in alike.values():
        for version in versions[: keep.versions]:
            found.setdefault(version.version, f"one of the {keep.versions} newest of its recipe")
    files = tree(lake.root / "trials")
    for version in known:
        weights = files.get(f"{version.trial}/{WEIGHTS}")
        if weights and now - weights.modified < keep.days * 86400:
            found.setdefault(version.version, f"made or used in the last {keep.days} days")
    return found


def _as_ofs(dataset: Dataset, lake: Lake) -> dict[str, str]:
    from features.learning.labels import default_as_of

    # The newest of each recipe, finished or still to be.
    newest = {(v.recipe, v.task): v for v in all_versions(lake)}
    finished = {(v.recipe, v.task): v for v in all_versions(lake) if v.is_finished(lake)}
    found = {
        version.as_of: "the newest version of a recipe was trained on it"
        for version in (*newest.values(), *finished.values())
    }
    with contextlib.suppress(FootpathError):  # there are no events yet
        day = str(default_as_of(dataset, lake))
        found.setdefault(day, "trainings and comparisons end with it by default")
    return found


def _comparison(dataset: Dataset, lake: Lake, now: float) -> str:
    """A comparison that is planned and has no page since; one that was given up holds nothing."""
    files = tree(lake.root / "comparisons")
    for path, plan in files.items():
        name, _, file = path.partition("/")
        page = files.get(f"{name}/{name}.md")
        is_young = now - plan.modified < dataset.automation.keep.days * 86400
        if file == "plan.json" and is_young and (not page or page.modified < plan.modified):
            return f"comparison {name} is planned and not finished"
    return ""
