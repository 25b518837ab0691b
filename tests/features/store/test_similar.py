"""Similar users: exact cosines of the newest vectors of one model version."""

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.pointers import pointed_folder
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_json
from contracts.lake.schemas import USERS as USERS_TABLE
from features.store import promote, repository
from features.store.similar import (
    SimilarIndex,
    build,
    build_index,
    open_index,
    parse_filters,
    rows_where,
    similar_users,
    similar_users_batch,
)
from features.store.similar.bounds import make_bounds, project, slack
from features.store.similar.build import measure_index
from features.store.similar.files import pointer_path
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


def random_day(lake: Lake, rng: np.random.Generator, number: int) -> None:
    """Publishes vectors of some users on a day."""
    users = sorted(rng.choice(USERS, rng.integers(1, 60), replace=False).tolist())
    vectors = rng.standard_normal((len(users), 16)).astype(np.float32)
    vectors[0] *= rng.integers(0, 2)
    publish_embeddings(lake, shop(), MODEL, DAY + dt.timedelta(days=number), users, vectors)


@pytest.mark.parametrize("seed", range(3))
def test_an_index_that_grows_by_days_is_the_one_that_is_built_of_all(
    lake_home: Path, monkeypatch, seed: int
):
    lake, rng, read = lake_with(lake_home, random_vectors(seed)), np.random.default_rng(seed), []
    latest = build._latest_vectors

    def counted(lake: Lake, table: str, names: list[str], dim: int) -> tuple:
        read.append(len(names))
        return latest(lake, table, names, dim)

    monkeypatch.setattr(build, "_latest_vectors", counted)
    pointer, last = pointer_path(lake, MODEL), 0
    build_index(shop(), lake, MODEL)
    for _ in range(6):
        kind = rng.choice(["later", "later", "again", "gone", "damaged", "same"])
        if kind == "later":
            last += int(rng.integers(1, 3))
            random_day(lake, rng, last)
        elif kind == "again":
            random_day(lake, rng, int(rng.integers(0, last + 1)))
        elif kind == "gone" and last:
            lake.day(f"user_embeddings/{MODEL}", DAY + dt.timedelta(days=last)).unlink()
            last = max(day - DAY for day in lake.days(f"user_embeddings/{MODEL}")).days
        elif kind == "damaged":
            shutil.rmtree(pointed_folder(pointer))
        read.clear()
        grown = build_index(shop(), lake, MODEL)
        days = len(lake.days(f"user_embeddings/{MODEL}"))
        assert read == {"later": [1], "same": []}.get(kind, read)
        assert kind not in ("again", "damaged") or read == [days]
        pointer.unlink()
        # Folders are named by what is in them.
        assert build_index(shop(), lake, MODEL).folder == grown.folder


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
    turned = pa.table({"user_id": pa.array(sorted(USERS, reverse=True), pa.large_string())})
    (folder / "users.arrow").unlink()
    with pa.ipc.new_file(folder / "users.arrow", turned.schema) as file:
        file.write_table(turned)
    with pytest.raises(FootpathError, match=r"users\.arrow is not what"):
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


def crowd(seed: int, users: int, dim: int, rank: int, noise: float = 0.05) -> np.ndarray:
    """Unit vectors in groups that fill some dimensions, with noise in all of them."""
    random = np.random.default_rng(seed)
    groups = random.standard_normal((40, rank))[random.integers(0, 40, users)]
    inner = groups + 0.5 * random.standard_normal((users, rank))
    flat = inner @ random.standard_normal((rank, dim)) / rank**0.5
    vectors = (flat + noise * random.standard_normal((users, dim))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def opened(vectors: np.ndarray, bounds: tuple | None) -> SimilarIndex:
    users = pa.array([f"u{k:06}" for k in range(len(vectors))], pa.large_string())
    return SimilarIndex(MODEL, users, vectors, *(bounds or (None, None)))


@pytest.mark.parametrize("rank", [2, 12, 64])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001])
def test_bounds_leave_out_nobody_who_is_among_the_nearest(rank: int, share: float):
    vectors = crowd(rank, 6000, 64, rank)
    vectors[100:110] = vectors[100]  # equals come in the order of rows
    part = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :7].astype(np.float32)
    index = opened(vectors, (project(vectors, part), part))
    random = np.random.default_rng(0)
    among = None if share == 1 else random.random(6000) < share
    pool = np.arange(6000) if among is None else np.flatnonzero(among)
    own = [103, *pool[:20].tolist(), *random.integers(0, 6000, 20).tolist()]
    for row, (near, cosines) in zip(own, index.search(vectors[own], 10, among, own), strict=True):
        others = pool[pool != row]
        truth = vectors[others].astype(np.float64) @ vectors[row].astype(np.float64)
        order = np.lexsort((others, -truth.astype(np.float32)))[:10]
        assert near.tolist() == others[order].tolist()
        np.testing.assert_allclose(cosines, truth[order], atol=1e-6)


def test_a_bound_is_never_below_its_cosine():
    vectors = np.concatenate([crowd(0, 1000, 64, 8), crowd(1, 1000, 64, 64), np.zeros((1, 64))])
    vectors = vectors.astype(np.float32)
    part = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :15].astype(np.float32)
    bounds = project(vectors, part) @ project(vectors, part).T
    assert (bounds + slack(64) >= vectors @ vectors.T).all()


def test_bounds_are_made_where_they_spare_reading_and_only_there():
    flat, round_ = crowd(0, 20_000, 64, 8), crowd(0, 20_000, 64, 64, noise=4)
    made = make_bounds(flat, flat[:16], 10)
    assert made is not None
    upper = (made[0] @ project(flat[:1], made[1]).T)[:, 0]
    tenth = np.partition(flat @ flat[0], -10)[-10]
    assert (upper >= tenth).mean() < 0.02  # few are read whole
    assert make_bounds(round_, round_[:16], 10) is None


def test_an_index_with_bounds_is_stored_found_and_measured(lake_home: Path):
    users = [f"u{k:05}" for k in range(3000)]
    vectors = crowd(3, 3000, 32, 4)
    lake = lake_with(lake_home, vectors, users)
    report = build_index(shop(), lake, MODEL)
    assert (report.columns, report.recall) == (15, 1.0)
    assert read_json(repository(lake) / "similar" / f"{MODEL}.json")["recall"] == 1.0
    cosines = vectors @ vectors[7]
    best = [users[row] for row in np.argsort(-cosines)[1:6]]
    assert [user for user, _ in similar_users(lake, "u00007", k=5, version=MODEL)] == best


def test_bounds_of_other_vectors_show_as_lost_recall():
    vectors, sample = crowd(3, 3000, 32, 4), np.arange(0, 3000, 100)
    part = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :7].astype(np.float32)
    recall, milliseconds = measure_index(opened(vectors, (project(vectors, part), part)), sample)
    assert (recall, milliseconds > 0) == (1.0, True)
    others = project(vectors[::-1].copy(), part)
    assert measure_index(opened(vectors, (others, part)), sample)[0] < 0.9


def test_a_vector_finds_who_is_nearest_whatever_its_length(lake_home: Path):
    vectors = random_vectors(4)
    lake = lake_with(lake_home, vectors)
    build_index(shop(), lake, MODEL)
    of_user = similar_users(lake, "u5", k=3, version=MODEL)
    for scale in (1, 1e-30, 1e30):
        found = similar_users(lake, vector=vectors[5] * scale, k=4, version=MODEL)
        assert found[0] == ("u5", pytest.approx(1))
        assert found[1:] == [(user, pytest.approx(cosine, abs=1e-6)) for user, cosine in of_user]


def test_a_batch_gives_what_each_user_gets_alone(lake_home: Path):
    lake = lake_with(lake_home, random_vectors(5))
    build_index(shop(), lake, MODEL)
    alone = [similar_users(lake, user, k=5, version=MODEL) for user in USERS]
    assert similar_users_batch(lake, USERS, k=5, version=MODEL) == alone
    assert similar_users_batch(lake, [], k=5, version=MODEL) == []


def with_attributes(lake: Lake, attributes: dict[str, dict[str, str]]) -> None:
    """Publishes a users table."""
    rows = [{"user_id": user, "attributes": list(of.items())} for user, of in attributes.items()]
    publish_table(lake, pa.Table.from_pylist(rows, schema=USERS_TABLE), lake.single("users"))


def test_a_filter_leaves_the_users_who_have_all_its_attributes(lake_home: Path):
    vectors = random_vectors(6)
    lake = lake_with(lake_home, vectors)
    build_index(shop(), lake, MODEL)
    cities = {u: {"city": "Berlin" if k % 3 else "Köln"} for k, u in enumerate(USERS[:150])}
    cities["u4"] |= {"plan": "free"}
    cities["u7"] |= {"plan": "paid"}
    with_attributes(lake, cities | {"u9": {}, "unknown": {"city": "Berlin"}})

    everybody = similar_users(lake, "u3", k=200, version=MODEL)
    for values in ("Berlin", ["Köln"], ["Berlin", "Köln"], ["Paris"]):
        wanted = [values] if isinstance(values, str) else values
        has = {u for u, of in cities.items() if u != "u9" and of.get("city") in wanted}
        found = similar_users(lake, "u3", k=200, version=MODEL, filters={"city": values})
        assert found == [(user, cosine) for user, cosine in everybody if user in has]
    both = {"city": "Berlin", "plan": ["free", "paid"]}
    assert {u for u, _ in similar_users(lake, "u3", version=MODEL, filters=both)} == {"u4", "u7"}
    rows = rows_where(lake, open_index(lake, MODEL), both)
    in_rows = similar_users(lake, "u3", version=MODEL, rows=rows, filters={"plan": "paid"})
    assert [user for user, _ in in_rows] == ["u7"]

    with_attributes(lake, cities | {"u4": {"city": "Köln", "plan": "free"}})
    assert [u for u, _ in similar_users(lake, "u3", version=MODEL, filters=both)] == ["u7"]


def test_filters_and_vectors_that_mean_nothing_get_one_clear_sentence(lake_home: Path):
    lake = lake_with(lake_home, random_vectors(7))
    build_index(shop(), lake, MODEL)
    ask = {"version": MODEL}
    with pytest.raises(FootpathError, match="shop has no users to filter by"):
        similar_users(lake, "u3", filters={"city": "Berlin"}, **ask)
    with_attributes(lake, {"u1": {"city": "Berlin", "plan": "free"}})
    with pytest.raises(FootpathError, match=r"no user has an attribute 'town': .* city, plan"):
        similar_users(lake, "u3", filters={"town": "Berlin"}, **ask)
    with pytest.raises(FootpathError, match="city=5: attributes are text"):
        similar_users(lake, "u3", filters={"city": [5]}, **ask)  # pyright: ignore
    with pytest.raises(FootpathError, match="'city' is no filter: write ATTRIBUTE=VALUE"):
        parse_filters(["city"])
    assert parse_filters(["a=1", "b==", "a=2"]) == {"a": ["1", "2"], "b": ["="]}
    with pytest.raises(FootpathError, match=r"a vector has 3 numbers, and those of .* have 16"):
        similar_users(lake, vector=[1, 2, 3], **ask)
    with pytest.raises(FootpathError, match="a vector is not finite"):
        similar_users(lake, vector=[np.nan] * 16, **ask)
    with pytest.raises(FootpathError, match="of a user or of a vector: give one of them"):
        similar_users(lake, "u3", vector=[0.0] * 16, **ask)


def test_an_open_index_stays_as_it_was_while_a_new_one_is_published(lake_home: Path):
    lake = lake_with(lake_home, random_vectors(8))
    build_index(shop(), lake, MODEL)
    before = open_index(lake, MODEL)
    assert open_index(lake, MODEL) is before
    kept = before.vectors.copy()
    for seed in (9, 10):  # the second takes the files of the first away
        lake_with(lake_home, random_vectors(seed))
        build_index(shop(), lake, MODEL)
    assert np.array_equal(before.vectors, kept)
    assert open_index(lake, MODEL) is not before
    assert before.row("u123") == before.users.to_pylist().index("u123")
