"""`footpath users forget`: removes every trace of some users, and keeps who may not come back.

In:  ids, the lake of a data set, and the instance. Out: `forgotten/hashes.json`, by which landing
drops them from now on; a lake without them; and `forgotten/<when>.json`, a record of counts.

The list comes first, then what is read before what is made of it, so that nothing brings a user
back meanwhile; pointers go before what they name. Each object is replaced in one step. A call that
was killed leaves `forgotten/begun.json`, and is given again. No run of the data set may be under
way.
"""

from dataclasses import asdict, dataclass

import dagster as dg

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.forgotten import add_forgotten, forgotten_folder
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from features.store.repository import locked as store_locked
from orchestration.forgetting import folders, online, texts
from orchestration.forgetting.begun import Begun
from orchestration.forgetting.days import rewrite_tables
from orchestration.forgetting.found import DAGSTER, Found, Line, Sources, find, sources
from orchestration.forgetting.ids import Ids
from orchestration.forgetting.landing import forget_landed
from orchestration.forgetting.leftovers import sweep
from orchestration.retention.dagster_runs import unfinished_runs
from orchestration.retention.running import running

FORMAT = 1


@dataclass(frozen=True)
class Forgot:
    """What was found of the users, and unless it was a dry run, removed."""

    lines: list[Line]
    sources: Sources
    indexes: list[str]  # versions whose index of similar users was built again


def forget(
    dataset: Dataset,
    lake: Lake,
    instance: dg.DagsterInstance,
    ids: Ids,
    dry_run: bool = False,
    online_is_done: bool = False,
) -> Forgot:
    """Forgets some users.

    Args:
      dataset: whose.
      lake: of the data set.
      instance: whose events and tags are looked through.
      ids: who is forgotten.
      dry_run: nothing is changed.
      online_is_done: their rows were deleted from the online store by its own means.

    Raises:
      FootpathError: the key is not set, a run is under way, others are half forgotten, or something
        cannot be removed; given again, the command goes on.
    """
    if dry_run:
        found = find(dataset, lake, ids)
        return Forgot(_lines(lake, instance, ids, found), sources(dataset, lake, found), [])
    with lake.locked("retention"):
        _check_idle(dataset, lake, instance)
        key = add_forgotten(lake, ids.ids).key_of(ids.ids)
        before, found = Begun.read(lake, key), find(dataset, lake, ids)
        begun = before or Begun(
            key,
            _lines(lake, instance, ids, found),
            sources(dataset, lake, found),
            sorted({path.stem for held in found.indexes for path in held.pointers}),
        )
        begun.publish(lake)
        _remove(dataset, lake, ids, found, before is not None, not online_is_done)
        for path in found.documents:
            texts.mask_document(lake, path, ids)
        for path in found.logs:
            texts.blot_log(path, ids)
        texts.dagster_texts(instance, ids, change=True)
        with store_locked(lake):
            built = online.build_indexes(dataset, lake, begun.indexes)
        _check_gone(_lines(lake, instance, ids, find(dataset, lake, ids)))
        _record(lake, ids, begun)
        begun.remove(lake)
        return Forgot(begun.lines, begun.sources, built)


def _remove(
    dataset: Dataset, lake: Lake, ids: Ids, found: Found, is_resumed: bool, with_online: bool
) -> None:
    """Removes the users from what has landed, from all that was made of it, and from leftovers."""
    for held in found.held:
        folders.remove(held)
    forget_landed(dataset, lake, ids, recount=is_resumed)
    with lake.locked("user_embeddings"), store_locked(lake):
        moved = rewrite_tables(dataset, lake, ids, found, is_resumed)
        if online.has_store(lake):
            if with_online:
                online.delete_online(lake, ids)
            online.settle_states(lake, ids, moved)
    sweep(lake)


def _lines(lake: Lake, instance: dg.DagsterInstance, ids: Ids, found: Found) -> list[Line]:
    rows = texts.dagster_texts(instance, ids, change=False)
    return found.lines(lake) + ([Line(DAGSTER, 0, rows)] if rows else [])


def _check_idle(dataset: Dataset, lake: Lake, instance: dg.DagsterInstance) -> None:
    if busy := [*unfinished_runs(dataset, instance), *sorted(running(lake).jobs)]:
        raise FootpathError(
            f"{len(busy)} runs or programs of {dataset.name} are under way, such as {busy[0]}, and "
            "would bring back whom they have read: wait for them or stop them, and forget then"
        )


def _check_gone(lines: list[Line]) -> None:
    if lines:
        raise FootpathError(
            f"the users are still, or again, in {', '.join(line.place for line in lines)}: "
            "somebody wrote there meanwhile; give the command again"
        )


def _record(lake: Lake, ids: Ids, begun: Begun) -> None:
    """Keeps what was done: counts, and no id."""
    at = now()
    document = {
        "format": FORMAT,
        "at": at.isoformat(),
        "users": len(ids.ids),
        "removed": [asdict(line) for line in begun.lines],
        "models": begun.sources.versions,
    }
    publish_json(lake, document, forgotten_folder(lake) / f"{at:%Y%m%dT%H%M%S%fZ}.json")
