"""What was found, and what became of it: the table that `footpath clean` shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["kept", "waiting", "removed"]
VERDICTS: tuple[Verdict, ...] = ("removed", "waiting", "kept")


@dataclass(frozen=True)
class Thing:
    """Something that may go as a whole.

    Args:
      kind: as the report names it, such as `model versions`.
      name: its own, for one data set.
      bytes: that go with it.
      used: when it was last written or asked for, in seconds since 1970.
      kept: why it must stay; empty where nothing needs it.
      goes: why it may go.
      paths: files and folders, in the order in which they go.
      is_read: it is marked first and goes when no reader of before can be left. What nobody reads,
        and what only points at other things, goes at once.
    """

    kind: str
    name: str
    bytes: int
    used: float
    kept: str
    goes: str
    paths: tuple[Path, ...] = ()
    is_read: bool = False


@dataclass(frozen=True)
class Judged:
    """What became of a thing, and why."""

    kind: str
    name: str
    bytes: int
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Line:
    """Things of one kind with one verdict for one reason."""

    kind: str
    verdict: Verdict
    count: int
    bytes: int
    why: str


@dataclass(frozen=True)
class Report:
    """What a clean has found."""

    judged: list[Judged]
    is_dry_run: bool

    def of(self, verdict: Verdict) -> list[Judged]:
        """All that got a verdict."""
        return [each for each in self.judged if each.verdict == verdict]

    @property
    def lines(self) -> list[Line]:
        """Counts and bytes by kind, verdict and reason; in each kind first what goes."""
        groups: dict[tuple[str, Verdict, str], list[Judged]] = {}
        for each in self.judged:
            groups.setdefault((each.kind, each.verdict, each.why), []).append(each)
        kinds = list(dict.fromkeys(each.kind for each in self.judged))
        found = [
            Line(kind, verdict, len(alike), sum(each.bytes for each in alike), why)
            for (kind, verdict, why), alike in groups.items()
        ]
        return sorted(
            found, key=lambda each: (kinds.index(each.kind), VERDICTS.index(each.verdict))
        )

    def figures(self) -> dict[str, int]:
        """Counts and bytes by verdict, for the metadata of a run."""
        return {
            f"{verdict} {what}": sum(count(each) for each in self.of(verdict))
            for verdict in VERDICTS
            for what, count in (("things", lambda _: 1), ("bytes", lambda each: each.bytes))
        }

    def __str__(self) -> str:
        removed = self.of("removed")
        size = sum(each.bytes for each in removed)
        would = "would be removed" if self.is_dry_run else "removed"
        return f"{len(removed):,} things of {megabytes(size)} {would}"


def megabytes(count: float) -> str:
    """A number of bytes in MB."""
    return f"{count / 1e6:,.1f} MB"
