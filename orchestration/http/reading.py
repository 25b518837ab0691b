"""The reads of the service: a question and who asks it -> plain data, or a refusal."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.recipes.checkpoint import TaskFacts
from features.store.serving.opened import Read
from features.store.similar import SimilarIndex, rows_where
from orchestration.http.answers import Refusal
from orchestration.http.metrics import USERS_READ
from orchestration.http.questions import FeaturesOf, HistoryOf, Like, ScoresOf
from orchestration.http.served import ServedDataset
from orchestration.http.tokens import USERS, Caller

ALIAS = "user_representation"


def services(datasets: Mapping[str, ServedDataset], caller: Caller) -> dict[str, Any]:
    """All that the caller may read, by data set."""
    opened = {name: served for name, served in datasets.items() if served.is_open}
    return {"datasets": {name: _described(served, caller) for name, served in opened.items()}}


def _described(served: ServedDataset, caller: Caller) -> dict[str, Any]:
    opened = served.opened
    known = {
        name: {
            "features": opened.columns_of(name),
            "views": service.features,
            "entity": opened.entity_of(name),
            "tags": service.tags,
            "last_day": opened.draining.get(name),
        }
        for name, service in opened.services.services.items()
        if caller.may(served.name, name)
    }
    aliases = {alias: name for alias, name in opened.services.aliases.items() if name in known}
    return {"aliases": aliases, "services": known}


def features(served: ServedDataset, caller: Caller, asked: FeaturesOf) -> dict[str, Any]:
    """Features of users, or items: a row each, in the order in which they were asked for."""
    name = served.service(caller, asked.service)
    entity = served.opened.entity_of(name)
    ids = {"user": asked.users, "item": asked.items}[entity]
    if ids is None:
        raise Refusal(422, f"{name} gives features of {entity}s: ask for `{entity}s`")
    read = _read(served, name, ids)
    rows: Any = zip(*read.columns, strict=True)
    return {
        "dataset": served.name,
        "service": name,
        "names": read.names,
        f"{entity}s": ids,
        "known": read.known,
        "rows": list(rows),
        "event_times": {
            view: [_instant(second) for second in seconds]
            for view, seconds in zip(read.views, read.seconds, strict=True)
        },
        "last_day": served.opened.draining.get(name),
    }


def _read(served: ServedDataset, name: str, ids: list[str], view: str | None = None) -> Read:
    read = served.opened.read(name, ids, view)
    _count(served, name, len(ids))
    return read


def _count(served: ServedDataset, name: str, users: int) -> None:
    served.reads.note(name, users)
    USERS_READ.labels(served.name, name).inc(users)


def _instant(second: int) -> str | None:
    return dt.datetime.fromtimestamp(second, dt.UTC).isoformat() if second else None


def similar(served: ServedDataset, caller: Caller, asked: Like) -> dict[str, Any]:
    """Neighbors, nearest first."""
    name, version = _of_version(served, caller, asked.model_version, ALIAS)
    if asked.filters:
        served.check(caller, USERS)
    index, among = served.index(version), None
    if asked.filters:
        try:
            among = rows_where(served.lake, index, asked.filters)
        except FootpathError as error:
            raise Refusal(422, f"filters: {error}") from None
    query, own = _query(index, asked)
    ((rows, cosines),) = index.search(query, asked.k, among, own)
    _count(served, name, 1)
    users = index.users.take(pa.array(rows)).to_pylist()
    neighbors = [
        {"user": user, "cosine": cosine}
        for user, cosine in zip(users, cosines.tolist(), strict=True)
    ]
    return {"dataset": served.name, "model_version": version, "neighbors": neighbors}


def _query(index: SimilarIndex, asked: Like) -> tuple[np.ndarray, list[int] | None]:
    """A vector as the index holds them, [1, dim]; and whose row it is."""
    try:
        if asked.vector is not None:
            return index.unit_vectors(np.array([asked.vector])), None
        row = index.row(asked.user or "")
    except FootpathError as error:
        raise Refusal(404 if asked.vector is None else 422, str(error)) from None
    return index.vectors[[row]], [row]


def _of_version(
    served: ServedDataset, caller: Caller, version: str | None, alias: str
) -> tuple[str, str]:
    """Service by whose right a model version is read, and the version."""
    if version is None:
        return served.behind(caller, alias)
    return served.giving(caller, version), version


def encode(served: ServedDataset, caller: Caller, asked: HistoryOf) -> dict[str, Any]:
    """The vector of a user by raw events."""
    name, version = _of_version(served, caller, asked.model_version, asked.alias)
    encoder = served.encoder(version)
    encoded = encoder.encode(asked.events, asked.as_of)
    _count(served, name, 1)
    found = {
        "dataset": served.name,
        "model_version": version,
        "as_of": encoded.as_of.isoformat(),
        "vector": encoded.vector.tolist(),
    }
    if encoder.task and encoded.predicted is not None:
        found |= {"task": encoder.task.spec.name}
        found |= _prediction(encoder.task, encoded.predicted.tolist())
    return found


def scores(served: ServedDataset, caller: Caller, asked: ScoresOf) -> dict[str, Any]:
    """Predictions of a task's promoted model."""
    name, version = served.behind(caller, asked.task)
    task = served.task(version)
    told = {"dataset": served.name, "task": asked.task, "service": name, "model_version": version}
    if asked.events is not None:
        if task.reads_features:
            raise Refusal(
                422,
                f"{version} predicts {asked.task} from behavior features too, which are of whole "
                "days: ask for `users`",
            )
        encoded = served.encoder(version).encode(asked.events, asked.as_of)
        _count(served, name, 1)
        predicted = [] if encoded.predicted is None else encoded.predicted.tolist()
        user = _prediction(task, predicted) | {"as_of": encoded.as_of.isoformat()}
        return told | {"users": [user]}
    users = asked.users or []
    view = f"user_embeddings_{version}"
    read = _read(served, name, users, view)
    column = next((n for n in read.names if n in (f"score_{version}", f"scores_{version}")), None)
    if column is None:
        raise Refusal(404, f"{name} gives no predictions")
    values = read.columns[read.names.index(column)]
    return told | {
        "users": [
            {"user": user, "known": is_known, "event_time": _instant(second)}
            | _prediction(task, value)
            for user, is_known, second, value in zip(
                users, read.known, read.seconds[0], values, strict=True
            )
        ]
    }


def _prediction(task: TaskFacts, value: Any) -> dict[str, Any]:
    """A number; the chance of the second of two classes; or the chance of each class."""
    if task.scores > 1:
        chances = dict(zip(task.classes, value, strict=True)) if value else None
        return {"chances": chances}
    number = value[0] if isinstance(value, list) and value else value
    if task.classes:
        return {"chance": number, "of": task.classes[1]}
    return {"score": number}
