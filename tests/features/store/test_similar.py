"""Similar users: exact cosines of the newest vectors of one model version."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import write_parquet
from contracts.lake.reading import read_json, read_table
from features.store import promote, repository
from features.store.similar import build_index, similar_users
from tests.builders.datasets import shop
from tests.builders.store import DAY, publish_embeddings, publish_model

MODEL = "ptum_bert4rec_v1"
USERS = [f"u{k}" for k in range(200)]


def lake_with(home: Path, vectors: np.ndarray, users: list[str] = USERS) -> Lake:
    """Returns a lake that holds one day of embeddings."""
    lake = Lake(home / "lake" / "shop")
    publish_model(lake, MODEL)
    publish_embeddings(lake, shop(), MODEL, DAY, users, vectors)
    return lake


def random_vectors(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((len(USERS), 16)).astype(np.float32)


def test_the_neighbors_are_those_of_an_exhaustive_comparison(lake_home: Path):
    vectors = random_vectors(0)
    lake = lake_with(lake_home, vectors)
    report = build_index(shop(), lake, MODEL)
    assert (report.users, report.dim) == (200, 16)

    for row in (0, 57, 199):
        cosines = {
            other: float(
                vectors[row]
                @ vectors[k]
                / np.linalg.norm(vectors[row])
                / np.linalg.norm(vectors[k])
            )
            for k, other in enumerate(USERS)
            if k != row
        }
        best = sorted(cosines, key=lambda user: -cosines[user])[:10]
        found = similar_users(lake, USERS[row], k=10, version=MODEL)
        assert [user for user, _ in found] == best
        np.testing.assert_allclose([c for _, c in found], [cosines[u] for u in best], atol=1e-6)


def test_only_the_newest_vector_of_a_user_counts(lake_home: Path):
    lake = lake_with(lake_home, np.eye(3, 4), ["a", "b", "c"])
    later = DAY + dt.timedelta(days=1)
    publish_embeddings(lake, shop(), MODEL, later, ["b"], np.array([[1.0, 0.1, 0.0, 0.0]]))
    build_index(shop(), lake, MODEL)
    assert similar_users(lake, "a", k=1, version=MODEL)[0][0] == "b"


def test_a_user_is_not_similar_to_itself_and_k_may_exceed_the_users(lake_home: Path):
    lake = lake_with(lake_home, np.eye(3, 4), ["a", "b", "c"])
    build_index(shop(), lake, MODEL)
    assert similar_users(lake, "b", k=10, version=MODEL) == [("a", 0.0), ("c", 0.0)]


def test_a_zero_vector_is_like_nobody_and_harms_nobody(lake_home: Path):
    vectors = np.array([[1, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    lake = lake_with(lake_home, vectors, ["a", "b", "zero"])
    build_index(shop(), lake, MODEL)
    assert similar_users(lake, "a", version=MODEL) == [("b", 1.0), ("zero", 0.0)]


def test_the_default_is_the_promoted_version(lake_home: Path):
    dataset, lake = shop(), lake_with(lake_home, random_vectors(1))
    build_index(dataset, lake, MODEL)
    with pytest.raises(FootpathError, match="no model version of shop was promoted yet"):
        similar_users(lake, "u1")
    promote(dataset, lake, MODEL)
    assert similar_users(lake, "u1") == similar_users(lake, "u1", version=MODEL)


def test_unknown_users_and_versions_get_one_clear_sentence(lake_home: Path):
    lake = lake_with(lake_home, random_vectors(2))
    build_index(shop(), lake, MODEL)
    with pytest.raises(FootpathError, match="user 'nobody' has no embedding by"):
        similar_users(lake, "nobody", version=MODEL)
    with pytest.raises(FootpathError, match=rf"no index .* for bag_v1 .* indexed: {MODEL}"):
        similar_users(lake, "u1", version="bag_v1")
    with pytest.raises(FootpathError, match="k is 0"):
        similar_users(lake, "u1", k=0, version=MODEL)


def test_an_index_whose_files_were_exchanged_gives_no_neighbors(lake_home: Path):
    lake = lake_with(lake_home, random_vectors(2))
    folder = repository(lake) / "similar" / build_index(shop(), lake, MODEL).folder
    whole = (folder / "vectors.npy").read_bytes()
    np.save(folder / "vectors.npy", np.load(folder / "vectors.npy")[::-1])
    with pytest.raises(FootpathError, match=r"vectors\.npy is not what .* similar_users_index of"):
        similar_users(lake, "u1", version=MODEL)
    (folder / "vectors.npy").write_bytes(whole)
    similar_users(lake, "u1", version=MODEL)
    users = read_table(folder / "users.parquet")
    write_parquet(users.take(list(reversed(range(len(users))))), folder / "users.parquet")
    with pytest.raises(FootpathError, match=r"users\.parquet is not what"):
        similar_users(lake, "u1", version=MODEL)


def test_a_vector_that_is_not_finite_stops_the_index(lake_home: Path):
    vectors = random_vectors(3)
    vectors[7, 3] = np.nan
    with pytest.raises(FootpathError, match=r"embedding of user 'u7' .* is not finite"):
        build_index(shop(), lake_with(lake_home, vectors), MODEL)


def test_the_same_vectors_give_the_same_index_and_old_ones_are_dropped_in_turn(lake_home: Path):
    folder = repository(Lake(lake_home / "lake" / "shop")) / "similar"
    indexes = []
    for seed in (0, 0, 1, 2):
        lake = lake_with(lake_home, random_vectors(seed))
        indexes.append(build_index(shop(), lake, MODEL).folder)
    assert indexes[0] == indexes[1]
    assert len(set(indexes)) == 3
    assert read_json(folder / f"{MODEL}.json")["folder"] == indexes[-1]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(indexes[2:])
