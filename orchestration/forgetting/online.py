"""The feature store without some users: online rows, what is known of them, and the indexes.

In:  the registered views of a lake. Out: the online store has no key of the users, and its ledger
does not know them; the objects that were written anew count as those that were sent. The indexes
that went are built again.
"""

from collections.abc import Mapping

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from features.store.changes import forget_in_state
from features.store.online_writer import OnlineWriter
from features.store.repository import CONFIG
from features.store.similar import build_index
from features.store.view_specs import known_views, model_versions, repository
from orchestration.forgetting.ids import Ids

Moved = Mapping[str, Mapping[str, tuple[str, str]]]  # table -> object -> stamps before and after


def has_store(lake: Lake) -> bool:
    """Whether a feature store was ever registered."""
    return (repository(lake) / CONFIG).exists()


def delete_online(lake: Lake, ids: Ids) -> int:
    """Deletes the users' rows of all views; returns how many users had any."""
    views = list(known_views(lake).values())
    return OnlineWriter(lake, views).delete(ids.ids)


def settle_states(lake: Lake, ids: Ids, moved: Moved) -> None:
    """Takes the users out of what is known of the online store."""
    for view in known_views(lake).values():
        forget_in_state(lake, view, ids.ids, moved.get(view.table, {}))


def build_indexes(dataset: Dataset, lake: Lake, versions: list[str]) -> list[str]:
    """Builds the indexes of versions that have vectors; returns which they were."""
    wanted = sorted({*versions} & {*model_versions(lake)})
    for version in wanted:
        build_index(dataset, lake, version)
    return wanted
