"""The ledger of promotions: which version each alias has led to and why; pins, and what was left.

`promotions.json` beside the services. Whoever promotes by hand, pins or rolls back writes here, and
the next decision goes by it. A version is promoted once it stands here: where a process ends before
the alias has moved, the next one moves it.
"""

import dataclasses
import datetime as dt
from dataclasses import dataclass, field

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json
from features.store.services import known_services, withdraw
from features.store.serving.read_counts import refuse_if_read
from features.store.view_specs import repository

FORMAT = 1


@dataclass(frozen=True)
class Promoted:
    """A version that an alias was pointed at."""

    version: str
    service: str
    at: str  # ISO 8601, UTC
    by: str  # a command, or the asset
    reason: str


@dataclass(frozen=True)
class AliasRecord:
    """What is known of an alias."""

    history: tuple[Promoted, ...] = ()  # oldest first
    pinned: str = ""  # the version that stays, whatever comes
    held: tuple[str, ...] = ()  # rolled back from: not promoted again by itself
    decision: str = ""  # key of the decision that was last shown


@dataclass(frozen=True)
class Promotions:
    """The whole ledger."""

    aliases: dict[str, AliasRecord] = field(default_factory=dict)
    draining: dict[str, str] = field(default_factory=dict)  # service -> day on which it goes

    def of(self, alias: str) -> AliasRecord:
        """What is known of an alias; nothing of a new one."""
        return self.aliases.get(alias, AliasRecord())


def read_promotions(lake: Lake) -> Promotions:
    """Reads the ledger; an empty one where nothing was promoted yet.

    Raises:
      FootpathError: the file is of another format.
    """
    path = repository(lake) / "promotions.json"
    if not path.exists():
        return Promotions()
    document = read_json(path)
    if document.get("format") != FORMAT:
        raise FootpathError(
            f"{path} is of format {document.get('format')}, and this Footpath reads format "
            f"{FORMAT}: promote the versions of this data set again"
        )
    aliases = {
        alias: AliasRecord(
            tuple(Promoted(**entry) for entry in record["history"]),
            record["pinned"],
            tuple(record["held"]),
            record["decision"],
        )
        for alias, record in document["aliases"].items()
    }
    return Promotions(aliases, document["draining"])


def write_promotions(lake: Lake, promotions: Promotions) -> None:
    """Publishes the ledger; the caller holds the lock of the repository."""
    if promotions != read_promotions(lake):
        document = {"format": FORMAT} | dataclasses.asdict(promotions)
        publish_json(lake, document, repository(lake) / "promotions.json")


def change_alias(lake: Lake, alias: str, **changes: object) -> AliasRecord:
    """Changes what is known of an alias, and returns it; the caller holds the lock."""
    known = read_promotions(lake)
    record = dataclasses.replace(known.of(alias), **changes)
    write_promotions(lake, dataclasses.replace(known, aliases=known.aliases | {alias: record}))
    return record


def record_promotion(
    lake: Lake, alias: str, version: str, service: str, by: str, reason: str, **changes: object
) -> None:
    """Adds to the history of an alias, unless it ends so already; the caller holds the lock.

    Args:
      lake: of the data set.
      alias: which leads there.
      version: the version that it leads to.
      service: the service that it leads to.
      by: a command, or the asset.
      reason: why.
      changes: of what else is known of the alias, in the same step.
    """
    known = read_promotions(lake).of(alias)
    history, last = known.history, known.history[-1:]
    if [(entry.version, entry.service) for entry in last] != [(version, service)]:
        history = (*history, Promoted(version, service, now().isoformat(), by, reason))
    held = tuple(held for held in known.held if held != version)
    change_alias(lake, alias, **({"history": history, "held": held} | changes))


def retire(lake: Lake, service: str, last_day: dt.date, although_read: bool = False) -> None:
    """Marks a service to go after a day; the caller holds the lock.

    Args:
      lake: whose service.
      service: its name.
      last_day: that it is served on.
      although_read: also where somebody has read it over HTTP in the last days.

    Raises:
      FootpathError: there is no such service, an alias leads to it, or somebody reads it.
    """
    known, promotions = known_services(lake), read_promotions(lake)
    if service not in known.services:
        names = ", ".join(sorted(known.services)) or "none"
        raise FootpathError(f"{lake.root.name} has no service '{service}': it has {names}")
    for alias, name in known.aliases.items():
        if name == service:
            raise FootpathError(
                f"alias {alias} leads to {service}, which new work is given: promote another "
                "version first"
            )
    if not although_read:
        refuse_if_read(lake, service)
    draining = promotions.draining | {service: last_day.isoformat()}
    write_promotions(lake, dataclasses.replace(promotions, draining=draining))


def drained(lake: Lake) -> list[str]:
    """Services whose last day is over."""
    today = now().date().isoformat()
    return sorted(name for name, last in read_promotions(lake).draining.items() if last < today)


def drain(lake: Lake) -> None:
    """Withdraws the services whose last day is over; the caller holds the lock."""
    if over := drained(lake):
        withdraw(lake, over)
        promotions = read_promotions(lake)
        left = {name: day for name, day in promotions.draining.items() if name not in over}
        write_promotions(lake, dataclasses.replace(promotions, draining=left))
