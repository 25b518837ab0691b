"""What the service answers is what the feature store holds."""

import math
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from contracts.lake.layout import Lake
from features.store.repository import open_store
from features.store.services import known_services
from features.store.similar import similar_users
from tests.builders.events import AS_OF, CUTOFF
from tests.builders.served import (
    BANDS,
    MODEL,
    PEOPLE,
    PROFILE,
    TASK_MODEL,
    histories,
    serve_profile,
)

SERVICE, GHOST = "user_representation__v1", PEOPLE[-1]
ENDS = CUTOFF.isoformat()


def asked(client: TestClient, path: str, **body: object) -> dict:
    response = client.post(path, json={"dataset": "shop"} | body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, status: int, path: str, **body: object) -> str:
    response = client.post(path, json={"dataset": "shop"} | body)
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    return response.json()["error"]


def described(client: TestClient) -> dict:
    """Aliases and services of the shop."""
    return client.get("/v1/services").json()["datasets"]["shop"]


def test_services_come_with_aliases_and_features_in_order(client, lake):
    found = client.get("/v1/services").json()["datasets"]["shop"]
    known = known_services(lake)
    assert found["aliases"] == known.aliases
    assert found["aliases"]["age"] == "age__v1"
    for name, service in known.services.items():
        order = [feature for view in service.features.values() for feature in view]
        assert found["services"][name]["features"] == order
        assert found["services"][name]["tags"] == service.tags


def test_features_are_those_of_feast_in_the_order_of_the_service(client, lake):
    users = ["u3", GHOST, "u0", "u3"]
    found = asked(client, "/v1/features", service=SERVICE, users=users)
    store = open_store(lake)
    rows = [{"user_id": user} for user in users]
    feast = store.get_online_features(store.get_feature_service(SERVICE), rows).to_dict()
    assert ["user_id", *found["names"]] == list(feast)
    assert [list(row) for row in zip(*(feast[n] for n in found["names"]), strict=True)] == (
        found["rows"]
    )
    assert found["known"] == [True, False, True, True]
    assert found["event_times"].keys() == known_services(lake).services[SERVICE].features.keys()
    for times in found["event_times"].values():
        assert times == [ENDS, None, ENDS, ENDS]


def test_features_of_items_are_asked_for_by_item_and_of_users_by_user(client, lake):
    service = known_services(lake).aliases["item_behavior"]
    described = client.get("/v1/services").json()["datasets"]["shop"]["services"]
    assert (described[service]["entity"], described[SERVICE]["entity"]) == ("item", "user")
    items = ["lamp", "no such item", "shoe"]
    found = asked(client, "/v1/features", service=service, items=items)
    assert (found["items"], found["known"]) == (items, [True, False, True])
    store = open_store(lake)
    feast = store.get_online_features(
        store.get_feature_service(service), [{"item_id": item} for item in items]
    ).to_dict()
    assert [list(row) for row in zip(*(feast[n] for n in found["names"]), strict=True)] == (
        found["rows"]
    )
    of_users = refused(client, 422, "/v1/features", service=service, users=["u3"])
    assert of_users == "item_behavior__v1 gives features of items: ask for `items`"
    of_items = refused(client, 422, "/v1/features", service=SERVICE, items=items)
    assert of_items == f"{SERVICE} gives features of users: ask for `users`"
    both = refused(client, 422, "/v1/features", service=SERVICE, items=items, users=["u3"])
    assert both == "body: give either users or items"


def test_similar_users_are_those_of_the_index_for_a_user_and_for_its_vector(client, lake):
    found = asked(client, "/v1/similar", user="u2", k=4)
    assert found["model_version"] == MODEL
    expected = similar_users(lake, "u2", k=4)
    assert [(n["user"], n["cosine"]) for n in found["neighbors"]] == expected
    (row,) = asked(client, "/v1/features", service=SERVICE, users=["u2"])["rows"]
    of_vector = asked(client, "/v1/similar", vector=[3 * x for x in row[-1]], k=5)["neighbors"]
    assert of_vector[0] == {"user": "u2", "cosine": pytest.approx(1)}
    assert [n["user"] for n in of_vector[1:]] == [user for user, _ in expected]


@pytest.mark.parametrize(
    "filters", [{"gender": "f"}, {"gender": ["f", "m"], "age_band": BANDS[1]}, {"gender": "x"}]
)
def test_filters_keep_the_users_who_have_one_of_the_values(client, lake, filters):
    rows = pq.read_table(lake.single("users")).to_pylist()
    attributes = {row["user_id"]: dict(row["attributes"]) for row in rows}
    wanted = {n: [v] if isinstance(v, str) else v for n, v in filters.items()}
    expected = [
        user
        for user, _ in similar_users(lake, "u2", k=100)
        if user in attributes and all(attributes[user].get(n) in v for n, v in wanted.items())
    ]
    found = asked(client, "/v1/similar", user="u2", k=100, filters=filters)["neighbors"]
    assert [neighbor["user"] for neighbor in found] == expected


@pytest.mark.parametrize("version", [MODEL, TASK_MODEL])
def test_a_user_by_raw_events_has_the_vector_that_the_daily_embedding_gave_them(
    client, lake, version
):
    rows = pq.read_table(lake.day(f"user_embeddings/{version}", AS_OF)).to_pylist()
    assert {row["user_id"] for row in rows} == set(histories())
    for row in rows:
        events = histories()[row["user_id"]]
        found = asked(client, "/v1/encode", model_version=version, events=events, as_of=ENDS)
        np.testing.assert_allclose(found["vector"], row["embedding"], rtol=1e-5, atol=1e-6)
        if version == TASK_MODEL:
            np.testing.assert_allclose(list(found["chances"].values()), row["scores"], rtol=1e-5)


def test_a_user_of_a_minute_ago_is_looked_at_now(client):
    events = histories()["u4"]
    before = asked(client, "/v1/encode", events=events, as_of=ENDS)["vector"]
    later = asked(client, "/v1/encode", events=events)
    assert not np.allclose(before, later["vector"])  # the model reads how long ago events are


def test_scores_are_those_of_the_promoted_model_of_the_task(client, lake):
    rows = pq.read_table(lake.day(f"user_embeddings/{TASK_MODEL}", AS_OF)).to_pylist()
    scores = {row["user_id"]: row["scores"] for row in rows}
    found = asked(client, "/v1/scores", task="age", users=["u1", GHOST, "u5"])
    assert found["model_version"] == TASK_MODEL
    one, ghost, five = found["users"]
    assert ghost == {"user": GHOST, "known": False, "event_time": None, "chances": None}
    for user in (one, five):
        assert list(user["chances"]) == list(BANDS)
        assert list(user["chances"].values()) == pytest.approx(scores[user["user"]])
        assert math.fsum(user["chances"].values()) == pytest.approx(1)
    live = asked(client, "/v1/scores", task="age", events=histories()["u5"], as_of=ENDS)["users"]
    assert list(live[0]["chances"].values()) == pytest.approx(scores["u5"], rel=1e-5)


def test_a_profile_is_served_as_features_vector_and_prediction_in_one_order(lake, client):
    serve_profile(lake)
    rows = pq.read_table(lake.day(f"user_embeddings/{PROFILE}", AS_OF)).to_pylist()
    published = {row["user_id"]: row for row in rows}
    deadline = time.monotonic() + 20
    while "gender" not in described(client)["aliases"] and time.monotonic() < deadline:
        time.sleep(0.1)
    services = described(client)
    service = services["services"][services["aliases"]["gender"]]
    behavior, own = service["views"].values()
    assert own == [f"embedding_{PROFILE}", f"score_{PROFILE}"]
    assert service["features"] == [*behavior, *own]
    assert (service["tags"]["head"], service["tags"]["model_version"]) == ("profile", PROFILE)

    found = asked(client, "/v1/features", service="gender__v1", users=["u1", "u5"])
    assert found["names"] == service["features"]
    for user, values in zip(("u1", "u5"), found["rows"], strict=True):
        assert values[-1] == published[user]["score"]
        assert values[-2] == published[user]["embedding"]
    told = asked(client, "/v1/scores", task="gender", users=["u1", GHOST])["users"]
    assert [each.get("chance") for each in told] == [published["u1"]["score"], None]
    assert len({row["score"] for row in rows}) == len(rows)

    # The behavior features of a minute ago are in no table: a vector there is, a prediction not.
    events = histories()["u5"]
    encoded = asked(client, "/v1/encode", events=events, as_of=ENDS, model_version=PROFILE)
    expected = published["u5"]["embedding"]
    np.testing.assert_allclose(encoded["vector"], expected, rtol=1e-5, atol=1e-6)
    assert "task" not in encoded
    said = refused(client, 422, "/v1/scores", task="gender", events=events)
    assert "from behavior features too, which are of whole days: ask for `users`" in said


EVENT = {"timestamp": "2026-03-01T10:00:00Z", "action": "view", "item_id": "shoe"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timestamp": "2026-03-01T10:00:00"}, "events.1.timestamp: an instant with its offset"),
        ({"timestamp": "yesterday"}, "events.1.timestamp: an instant with its offset"),
        ({"timestamp": "2999-01-01T00:00:00Z"}, "is not before as_of"),
        ({"action": "steal"}, "events.1: action must be one of search, view, add_to_cart"),
        ({"value": -1.0}, "events.1: value must be at least 0"),
        ({"value": "3"}, "events.1.value: Input should be a valid number"),
        ({"properties": {"color": "red"}}, "events.1.properties.color: there is no such property"),
        ({"user_id": "u1"}, "there is no such field"),
    ],
)
def test_an_event_that_the_gate_would_refuse_is_refused_by_its_place(client, change, said):
    assert said in refused(client, 422, "/v1/encode", events=[EVENT, EVENT | change])


@pytest.mark.parametrize(
    ("status", "path", "body", "said"),
    [
        (404, "/v1/features", {"service": "nothing__v1", "users": ["u1"]}, "there are age__v1"),
        (404, "/v1/features", {"dataset": "bank", "service": SERVICE, "users": ["u1"]}, "'bank'"),
        (422, "/v1/features", {"service": SERVICE, "users": []}, "users: "),
        (422, "/v1/features", {"service": SERVICE, "users": ["u"] * 1001}, "at most 1000"),
        (422, "/v1/features", {"service": SERVICE, "users": [12]}, "users.0: "),
        (404, "/v1/similar", {"user": "nobody"}, "user 'nobody' has no embedding by"),
        (422, "/v1/similar", {}, "give either user or vector"),
        (422, "/v1/similar", {"vector": [1.0]}, "a vector has 1 numbers, and those of"),
        (
            422,
            "/v1/similar",
            {"user": "u1", "filters": {"shoe": "1"}},
            "have age_band, gender",
        ),
        (404, "/v1/similar", {"user": "u1", "model_version": "byb_v1"}, "is of 'byb_v1'"),
        (404, "/v1/scores", {"task": "gender", "users": ["u1"]}, "no alias 'gender'"),
        (404, "/v1/encode", {"alias": "user_behavior", "events": [EVENT]}, "no model's vectors"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_sentence(client, status, path, body, said):
    assert said in refused(client, status, path, **body)


def test_an_index_is_opened_once_and_a_lake_of_before_has_none(client, lake: Lake):
    asked(client, "/v1/similar", user="u2")
    for file in (lake.root / "feature_store" / "similar").glob("*.json"):
        file.unlink()
    assert "no index of similar users" in refused_soon(client, "/v1/similar", user="u2")


def refused_soon(client: TestClient, path: str, **body: object) -> str:
    """Asks until it is refused: what is open is looked after in the background."""
    for _ in range(100):
        response = client.post(path, json={"dataset": "shop"} | body)
        if response.status_code != 200:
            return response.json()["error"]
        time.sleep(0.05)
    raise AssertionError(response.text)
