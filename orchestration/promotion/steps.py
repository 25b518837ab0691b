"""What promotes: by itself as decided, by hand, back again, and kept as it is."""

from dataclasses import replace

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import version_named
from features.store.promotions import change_alias, read_promotions
from features.store.registry import promote_locked
from features.store.repository import locked
from features.store.services import REPRESENTATION_SERVICE, known_services
from orchestration.promotion.candidates import Candidate, has_embeddings
from orchestration.promotion.decision import Decision, Verdict, aliases, decide, judge


def promote_due(dataset: Dataset, lake: Lake, by: str) -> list[Decision]:
    """Promotes what is decided, of every alias, and notes what was shown."""
    decisions = []
    for alias in aliases(dataset):
        with locked(lake):  # so that the decision still holds when it is carried out
            decision = decide(dataset, lake, alias)
            shown = {"decision": decision.key}
            if decision.version:
                promote_locked(dataset, lake, decision.version, by, decision.reason, **shown)
            else:
                change_alias(lake, alias, **shown)
        decisions.append(decision)
    return decisions


def promote_by_hand(
    dataset: Dataset, lake: Lake, version: str, by: str, despite: str = ""
) -> tuple[str, Verdict]:
    """Promotes a version that somebody asks for, by the same checks as by itself.

    Args:
      dataset: whose.
      lake: of the data set.
      version: a pre-trained one, or one that was fine-tuned for a task.
      by: who asks, for the ledger.
      despite: why it is promoted whatever the checks find, for the ledger.

    Returns:
      The service that the alias leads to, and what the checks found, with the ledger's reason.

    Raises:
      FootpathError: there is no such version, or a check fails.
    """
    with locked(lake):
        return _promote_by_hand(dataset, lake, version, by, despite)


def _promote_by_hand(
    dataset: Dataset, lake: Lake, version: str, by: str, despite: str = "", **changes: object
) -> tuple[str, Verdict]:
    alias = alias_of(lake, version)
    pinned = read_promotions(lake).of(alias).pinned
    if pinned and pinned != version:
        raise FootpathError(f"{alias} is pinned to {pinned}: footpath pin --off first")
    if not has_embeddings(lake, version):
        raise FootpathError(
            f"model version '{version}' has no embeddings: materialize user_embeddings for it first"
        )
    promoted = known_services(lake).promoted(alias)
    incumbent = promoted.tags["model_version"] if promoted else None
    verdict = Verdict(version, [])
    if incumbent != version:
        verdict = judge(dataset, lake, Candidate(version, "was asked for"), incumbent)
    if verdict.faults and not despite:
        raise FootpathError(
            f"{version} is not promoted: {'; '.join(verdict.faults)}. Say --despite and a reason "
            "to promote it all the same"
        )
    reason = f"despite {'; '.join(verdict.faults)}: {despite}" if despite else verdict.reason
    service = promote_locked(dataset, lake, version, by, reason, **changes)
    return service, replace(verdict, reason=reason)


def roll_back(dataset: Dataset, lake: Lake, alias: str) -> str:
    """Points an alias at the version before this one, which no run promotes again by itself.

    Returns:
      The version that the alias leads to now.

    Raises:
      FootpathError: there was none before.
    """
    with locked(lake):
        record = read_promotions(lake).of(alias)
        promoted = known_services(lake).promoted(alias)
        current = promoted.tags["model_version"] if promoted else ""
        before = [
            entry.version
            for entry in record.history
            if entry.version != current and entry.version not in record.held
        ]
        if not before:
            raise FootpathError(f"{alias} has led to no other version than {current or 'none'}")
        version, why = before[-1], f"back from {current}"
        left: dict[str, object] = {"held": tuple(dict.fromkeys((*record.held, current)))}
        if record.pinned == current:
            left["pinned"] = ""
        promote_locked(dataset, lake, version, "rollback", why, **left)
    return version


def pin(dataset: Dataset, lake: Lake, version: str) -> str:
    """Promotes a version by the checks, and keeps it until the pin is taken off."""
    with locked(lake):
        service, _ = _promote_by_hand(dataset, lake, version, "pin", pinned=version)
    return service


def unpin(lake: Lake, alias: str) -> str:
    """Takes the pin of an alias off, and returns the version that was pinned."""
    with locked(lake):
        pinned = read_promotions(lake).of(alias).pinned
        change_alias(lake, alias, pinned="")
    return pinned


def alias_of(lake: Lake, version: str) -> str:
    """The alias that leads to a version: of its task, or the representation's."""
    return version_named(lake, version).task or REPRESENTATION_SERVICE
