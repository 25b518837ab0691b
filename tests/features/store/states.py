"""A feature store whose users go from state to state: each value tells of which, and of whom it is.

What tests of faults run in processes of their own (tests/crash.py): work that brings a state online
or moves an alias, and a reader that looks for values that are not of one state.
"""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import feast.infra.compute_engines.local.compute
import feast.infra.passthrough_provider
import feast.infra.registry.file
import feast.infra.registry.sql
import feast.repo_operations
import ibis.backends.duckdb
import numpy as np
import pandas as pd

import footpath_feast.asof
import footpath_feast.redis
import footpath_feast.sqlite
from contracts.base.errors import FootpathError, TransientError
from contracts.lake.layout import Lake
from features.behavior.tables import ITEMS
from features.store import apply_registry, materialize, online, promote
from features.store.promotions import read_promotions
from features.store.repository import open_store
from features.store.services import REPRESENTATION_SERVICE
from features.store.serving.opened import Read, moment, open_services
from features.store.similar import similar_users
from features.store.view_specs import model_versions
from orchestration.promotion.steps import roll_back
from tests.builders.datasets import FEW_FEATURES, dataset_like
from tests.builders.store import (
    DAY,
    behavior_rows,
    publish_behavior,
    publish_embeddings,
    publish_model,
)

LOADED = (feast, footpath_feast, ibis, pd)  # here, once, for all children
SHOP = dataset_like("shop", features=FEW_FEATURES)
USERS = [f"u{number:03}" for number in range(60)]
MODELS = ("coles_bag_v1", "ptum_bert4rec_v1")
FAR = 1_000  # between the values of two states
# Numbers that the reader shares with the test.
SETTLED, PUBLISHED, STOP, READS, FAILED = range(5)


def publish(lake: Lake, state: int) -> None:
    """Publishes a state: a correction of all rows of the day."""
    late = dt.timedelta(hours=1 + state)
    rows = behavior_rows(SHOP, DAY, USERS, FAR * state, late)
    publish_behavior(lake, DAY, rows)
    items = behavior_rows(SHOP, DAY, USERS, FAR * state, late, table=ITEMS)
    publish_behavior(lake, DAY, items, name=ITEMS.name)
    vectors = np.stack([np.full(len(USERS), state), np.arange(len(USERS))], 1)
    for version in MODELS:
        publish_model(lake, version, dim=2)
        publish_embeddings(lake, SHOP, version, DAY, USERS, vectors, late)


def work(what: str, version: str = "") -> None:
    """Materializes, promotes a version, or rolls back from it; in several batches."""
    online.BATCH = 20
    lake = Lake.of("shop")
    if what == "materialize":
        materialize(SHOP, lake)
    elif what == "promote":
        promote(SHOP, lake, version)
    elif version in read_promotions(lake).of(REPRESENTATION_SERVICE).held:
        apply_registry(SHOP, lake)  # it was rolled back from already: the next run does the rest
    else:
        roll_back(SHOP, lake, REPRESENTATION_SERVICE)


def told_work(what: str, version: str, told: str) -> None:
    """Works where servers are killed; the sentence that comes of it goes to a file."""
    try:
        work(what, version)
        said = ""
    except FootpathError as error:
        said = str(error)
    Path(told).write_text(said)


def read_on(numbers: Any, faults: str) -> None:
    """Reads all users of the promoted service until it is stopped, as `footpath serve` does.

    Args:
      numbers: the newest state that is online for all, and that may be online; STOP ends it; it
        counts its reads, and those that the store did not answer.
      faults: file that gets a line for each value that no state has, or that another view or an
        earlier read contradicts.
    """
    lake, opened, before = Lake.of("shop"), None, None
    seen = dict.fromkeys(USERS, 0)
    with Path(faults).open("a") as out:
        while not numbers[STOP]:
            least = numbers[SETTLED]
            try:
                if opened is None or before != moment(lake):
                    before, opened = moment(lake), open_services(lake)
                service = opened.services.aliases[REPRESENTATION_SERVICE]
                read = opened.read(service, USERS)
            except (FootpathError, TransientError):
                numbers[FAILED] += 1
                time.sleep(0.05)
                continue
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=out, flush=True)
                continue
            most = numbers[PUBLISHED]
            for user, states in states_of(read).items():
                (state,) = states if len(states) == 1 else (-1,)
                if not max(least, seen[user]) <= state <= most:
                    told = f"{service}: {user} has {states}, had {seen[user]}, of {least}..{most}"
                    print(told, file=out, flush=True)
                seen[user] = max(seen[user], state)
            numbers[READS] += 1


def states_of(read: Read) -> dict[str, set[float | None]]:
    """User -> the states that their values are of; None: no value, or that of somebody else."""
    found: dict[str, set[float | None]] = {user: set() for user in USERS}
    for column in read.columns:
        for number, (user, value) in enumerate(zip(USERS, column, strict=True)):
            if isinstance(value, list):
                state = value[0] if value[1] == number else None
            elif isinstance(value, int | float):
                state = (value - number) / FAR
            elif isinstance(value, str):
                continue
            else:
                state = None
            found[user].add(state)
    return found


def aliases(lake: Lake) -> tuple[str, str, str]:
    """Where the alias leads: by the services, by the ledger of promotions, and by Feast's tags.

    Checks that each of them can be read whole: it is registered, its rows are online, its similar
    users are indexed.
    """
    opened, store = open_services(lake), open_store(lake)
    service = opened.services.aliases[REPRESENTATION_SERVICE]
    recorded = read_promotions(lake).of(REPRESENTATION_SERVICE).history[-1].service
    tagged = store.get_project("shop").tags[REPRESENTATION_SERVICE]
    for name in {service, recorded, tagged}:
        states = states_of(opened.read(name, USERS))
        assert all(len(of) == 1 and None not in of for of in states.values()), name
        version = opened.services.services[name].tags["model_version"]
        assert len(similar_users(lake, USERS[0], k=5, version=version)) == 5
        assert version in model_versions(lake)
    return service, recorded, tagged
