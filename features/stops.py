"""Days that the gate has stopped: of which data, by which rules, and why.

In:  verdicts. Out: `stopped/<table>/<day>.json`, which is there as long as the day stands still. A
stopped day is worth another try once it would be built from other data, or judged by other rules.
"""

import datetime as dt
import re
from collections.abc import Mapping

from contracts.base.hashing import hash_json
from contracts.base.schema import Strict
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, remove_files
from contracts.lake.reading import parse_json, read_texts, stamps
from features.behavior.tables import FEATURE_TABLES

FOLDER = "stopped"
TABLES = ("events", "sessions", *FEATURE_TABLES)


class Stop(Strict):
    """Why one day of a table was not published."""

    built_from: str  # fingerprint of its inputs
    rules: str
    reasons: list[str]  # sentences

    def is_of(self, built_from: str, rules: str) -> bool:
        """Whether the same data would be stopped by the same rules again."""
        return (self.built_from, self.rules) == (built_from, rules)


def rules_hash(dataset: Dataset) -> str:
    """Hash of what in the YAML decides whether a day passes."""
    return hash_json([dataset.quality.model_dump(mode="json"), dataset.actions])


def keep_stop(
    dataset: Dataset, lake: Lake, table: str, day: dt.date, built_from: str, reasons: list[str]
) -> None:
    """Keeps why a day was stopped."""
    stop = Stop(built_from=built_from, rules=rules_hash(dataset), reasons=reasons)
    publish_json(lake, stop.model_dump(), lake.root / FOLDER / table / f"{day}.json")


def forget_stops(lake: Lake, table: str, days: list[dt.date]) -> None:
    """Forgets the stops of days that have passed since."""
    folder = lake.root / FOLDER / table
    known = stamps(folder, "*.json")
    remove_files([folder / f"{day}.json" for day in days if f"{day}.json" in known])


def together(reasons: Mapping[dt.date, str]) -> str:
    """Why days were stopped, as few sentences: days that are stopped alike are told together.

    Args:
      reasons: of each day; those that differ by numbers alone are alike.
    """
    alike: dict[str, list[dt.date]] = {}
    for day in sorted(reasons):
        kind = reasons[day].replace(str(day), "").partition("; ")[0]
        alike.setdefault(re.sub(r"\d+([.,]\d+)*", "#", kind), []).append(day)
    return "; ".join(_of_days({day: reasons[day] for day in days}) for days in alike.values())


def _of_days(reasons: Mapping[dt.date, str]) -> str:
    """One sentence of days that were stopped alike."""
    first, last = min(reasons), max(reasons)
    if len(reasons) == 1:
        return reasons[first]
    if len({reason.replace(str(day), "") for day, reason in reasons.items()}) > 1:
        return f"{reasons[first]}; and {len(reasons) - 1:,} more days up to {last} alike"
    is_whole = (last - first).days + 1 == len(reasons)
    span = (
        f"{first} to {last} ({len(reasons):,} days)"
        if is_whole
        else f"{len(reasons):,} days from {first} to {last}"
    )
    head, *tail = reasons[first].split(str(first))
    return head + span + "each".join(tail) if tail else f"{span}: {head}"


def all_stops(lake: Lake) -> dict[tuple[str, dt.date], Stop]:
    """Every stop by table and day."""
    paths = {}
    for table in TABLES:
        folder = lake.root / FOLDER / table
        for name in sorted(stamps(folder, "*.json")):
            paths[table, dt.date.fromisoformat(name.removesuffix(".json"))] = folder / name
    texts = read_texts(list(paths.values()))
    return {
        place: Stop.model_validate(parse_json(path, text))
        for (place, path), text in zip(paths.items(), texts, strict=True)
        if text
    }
