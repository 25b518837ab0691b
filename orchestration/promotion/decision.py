"""Decides which model version an alias is to lead to: the one that it has, or a candidate.

A candidate takes the served version's place where it is better in the mean over the tasks, worse
beyond luck in none of them, and healthy (health.py). What a person has pinned or rolled back from
counts first. A version that nobody has measured takes no other's place.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import stamps
from contracts.lake.versions import all_versions, version_named
from orchestration.promotion.candidates import Candidate, candidates
from orchestration.promotion.health import health
from orchestration.promotion.judging import MEAN, differences, is_measured_as_of

if TYPE_CHECKING:
    from models.leaderboard.significance import Difference


@dataclass(frozen=True)
class Verdict:
    """What speaks for and against a candidate."""

    version: str
    faults: list[str]  # none: it may be promoted
    reason: str = ""
    differences: "dict[str, Difference]" = field(default_factory=dict)  # from the served version
    figures: dict[str, float] = field(default_factory=dict)  # of its health

    def __str__(self) -> str:
        return f"{self.version}: {'; '.join(self.faults) or self.reason}"


@dataclass(frozen=True)
class Decision:
    """What is to become of an alias, and why."""

    alias: str
    incumbent: str | None
    version: str | None  # that is to be promoted; None: everything stays as it is
    reason: str  # to be read after the version's name, or the incumbent's
    verdicts: list[Verdict] = field(default_factory=list)  # of candidates that were looked at
    waits: str | None = None  # would be promoted, if a person approved

    @property
    def key(self) -> str:
        """What it comes to, without figures: another one is to be shown anew."""
        looked_at = [[v.version, bool(v.faults)] for v in self.verdicts]
        return hash_json([self.incumbent, self.version, self.waits, looked_at])


def aliases(dataset: Dataset) -> list[str]:
    """Aliases that lead to a model version: the representation, and a task's own models."""
    from features.store.services import REPRESENTATION_SERVICE

    tasks = [task.name for task in dataset.daily_tasks if task.kind != "ranking"]
    return [REPRESENTATION_SERVICE, *tasks]


def decide(dataset: Dataset, lake: Lake, alias: str) -> Decision:
    """Decides whether an alias is to lead to another model version."""
    from features.store.promotions import read_promotions
    from features.store.services import known_services

    promoted = known_services(lake).promoted(alias)
    incumbent = promoted.tags["model_version"] if promoted else None
    record = read_promotions(lake).of(alias)
    if record.pinned:
        wanted = None if record.pinned == incumbent else record.pinned
        return Decision(alias, incumbent, wanted, "is pinned")
    found = candidates(dataset, lake, alias)
    if not found:
        return Decision(alias, incumbent, None, "stays: no version has embeddings")
    verdicts = []
    for candidate in found:
        if candidate.version == incumbent:
            return Decision(alias, incumbent, None, candidate.reason, verdicts)
        verdict = (
            _held(candidate)
            if candidate.version in record.held
            else judge(dataset, lake, candidate, incumbent)
        )
        verdicts.append(verdict)
        if verdict.faults:
            continue
        if dataset.promotion.mode == "manual" and incumbent:
            waits = verdict.version
            reason = f"stays: {waits} waits for `footpath promote {waits}`"
            return Decision(alias, incumbent, None, reason, verdicts, waits)
        return Decision(alias, incumbent, verdict.version, verdict.reason, verdicts)
    return Decision(alias, incumbent, None, f"stays: {verdicts[0]}", verdicts)


def unmeasured_incumbent(dataset: Dataset, lake: Lake, as_of: str) -> str:
    """The served encoder, where it is yet to be measured on the labels of a day."""
    from features.store.services import REPRESENTATION_SERVICE, known_services

    promoted = known_services(lake).promoted(REPRESENTATION_SERVICE)
    name = promoted.tags["model_version"] if promoted and dataset.daily_tasks else ""
    known = {version.version: version for version in all_versions(lake)}
    if name not in known or not known[name].is_finished(lake):
        return ""
    return "" if is_measured_as_of(lake, known[name], as_of) else name


def _held(candidate: Candidate) -> Verdict:
    return Verdict(candidate.version, ["it was rolled back from: `footpath promote` takes it back"])


_judged: dict[str, Verdict] = {}


def judge(dataset: Dataset, lake: Lake, candidate: Candidate, incumbent: str | None) -> Verdict:
    """Holds a candidate against what is served, and its vectors against their limits."""
    known = {version.version for version in all_versions(lake) if version.is_finished(lake)}
    incumbent = incumbent if incumbent in known else None  # its model is gone
    key = hash_json([
        str(lake.root), str(candidate), incumbent, dataset.promotion.model_dump(mode="json"),
        [str(day) for day in lake.days("user_behavior_features")[-1:]],
        [stamps(lake.table(f"user_embeddings/{v}")) for v in (candidate.version, incumbent) if v],
        stamps(lake.root / "evaluations", "*.json"),
    ])  # fmt: skip
    if key not in _judged:
        if len(_judged) > 100:
            _judged.clear()
        _judged[key] = _judge(dataset, lake, candidate, incumbent)
    return _judged[key]


def _judge(dataset: Dataset, lake: Lake, candidate: Candidate, incumbent: str | None) -> Verdict:
    looked = health(dataset, lake, candidate.version, incumbent)
    verdict = Verdict(candidate.version, looked.faults, candidate.reason, figures=looked.figures)
    if incumbent is None or not dataset.daily_tasks:
        return verdict
    if not candidate.is_measured:
        return replace(verdict, faults=[*verdict.faults, "it is not measured"])
    found = differences(dataset, lake, candidate.version, incumbent)
    if not found:
        day = version_named(lake, candidate.version).as_of
        fault = f"{incumbent} is not measured on its validation users (as of {day})"
        return replace(verdict, faults=[*verdict.faults, fault])
    worse = [f"{_told(d)} in {name}" for name, d in found.items() if d.sign == "-"]
    mean = found.get(MEAN) or next(iter(found.values()))
    if mean.mean <= 0 and not worse:
        worse = [_told(mean)]
    faults = [*verdict.faults, *(f"against {incumbent} it is {each}" for each in worse)]
    reason = f"is better than {incumbent}: {_told(mean)}; it {candidate.reason}"
    return replace(verdict, faults=faults, reason=reason, differences=found)


def _told(d: "Difference") -> str:
    return f"{d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f})"
