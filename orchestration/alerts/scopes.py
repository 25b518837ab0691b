"""What a run was to build, and whether other runs have built all of it."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from contracts.base.clock import days_between
from contracts.config.dataset import Dataset
from orchestration.stages import job_name, stage_assets
from orchestration.tags import FIRST_PARTITION, LAST_PARTITION, PARTITION


@dataclass(frozen=True)
class Scope:
    """What a run was to build."""

    job: str
    assets: frozenset[str]
    first: str
    last: str

    def builds(self, other: "Scope") -> bool:
        """Whether this builds all assets of the other, of whichever partitions."""
        is_same = self.job == other.job and self.assets == other.assets
        return is_same or bool(other.assets and self.assets >= other.assets)

    def covers(self, other: "Scope") -> bool:
        """Whether whoever builds this builds all of the other as well."""
        is_same = (self.first, self.last) == (other.first, other.last)
        return self.builds(other) and (is_same or other.is_within([(self.first, self.last)]))

    def is_within(self, ranges: Iterable[Sequence[str]]) -> bool:
        """Whether ranges of days hold all days of this one together."""
        ends = [(_day(first), _day(last)) for first, last in ranges]
        first, last = _day(self.first), _day(self.last)
        if not first or not last:
            return False
        return all(
            any(a and b and a <= day <= b for a, b in ends) for day in days_between(first, last)
        )

    @property
    def partitions(self) -> str:
        """Partitions as a reader wants them."""
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class RunsOf:
    """Finds the runs of one data set.

    Attributes:
      dataset: whose.
      jobs: the assets of each of its jobs; none for a job of jobs.
    """

    dataset: Dataset
    jobs: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, dataset: Dataset) -> "RunsOf":
        """The runs of all jobs of a data set."""
        stages = stage_assets(dataset)
        jobs = {
            job_name(dataset, stage): frozenset(key.to_user_string() for key in keys)
            for stage, keys in stages.items()
        }
        return cls(dataset, jobs | {job_name(dataset, "chain"): frozenset()})

    def has(self, run: dg.DagsterRun) -> bool:
        """Whether a run is of this data set."""
        keys = [*(run.asset_selection or ())]
        keys += [check.asset_key for check in run.asset_check_selection or ()]
        return run.job_name in self.jobs or any(key.path[0] == self.dataset.slug for key in keys)

    def scope(self, run: dg.DagsterRun) -> Scope:
        """What a run was to build."""
        chosen = frozenset(key.to_user_string() for key in run.asset_selection or ())
        one = run.tags.get(PARTITION, "")
        first, last = (run.tags.get(tag, one) for tag in (FIRST_PARTITION, LAST_PARTITION))
        assets = chosen or self.jobs.get(run.job_name, frozenset())
        return Scope(run.job_name, assets, first, last)


def _day(key: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(key)
    except ValueError:
        return None
