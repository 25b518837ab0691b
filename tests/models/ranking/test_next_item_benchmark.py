"""The benchmark of next item: whose rating is asked for, what is trained on, what is kept."""

import gzip
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import next_item
from benchmarks.movielens import read_movielens
from models.data.packed import SPECIAL

# User 7 rates film 30 and 10 in one second, in this order; user 2 comes later in the file.
LINES = """7::40::5::300
7::30::4::100
7::10::3::100
7::20::3::200
2::20::1::900
2::40::2::800
2::10::2::850
"""


@pytest.fixture
def folder(tmp_path):
    with gzip.open(tmp_path / "ratings.dat.gz", "wt") as file:
        file.write(LINES)
    return tmp_path


def films(log, item):
    return log.movie_id_V[np.asarray(item) - len(SPECIAL)].tolist()


def test_ratings_are_by_user_and_time_those_of_one_second_as_in_the_file(folder):
    log = read_movielens(folder)
    assert log.user_id_U.tolist() == [2, 7]
    assert films(log, log.item_N) == [40, 10, 20, 30, 10, 20, 40]
    assert log.time_N.tolist() == [800, 850, 900, 100, 100, 200, 300]


def test_what_is_asked_for_is_not_trained_on(folder):
    log = read_movielens(folder)
    train, whole = log.sequences(held_out=2), log.sequences()
    assert films(log, train.item) == [40, 30, 10]
    assert train.offsets.tolist() == [0, 1, 3]
    assert train.sizes == whole.sizes
    assert train.pointer["fingerprint"] != whole.pointer["fingerprint"]
    for from_last, asked, now in ((1, [20, 40], [900, 300]), (2, [10, 20], [850, 200])):
        examples = log.examples(from_last, with_time=True)
        assert films(log, examples.y_n) == asked
        assert examples.now_n.tolist() == now
        assert (examples.ends_n == whole.lengths - from_last).all()
        assert log.examples(from_last, with_time=False).now_n is None


def run(monkeypatch, capsys, data, *words):
    small = '{"dim": 8, "max_length": 8, "batch_size": 8}'
    told = ["--data", data, "--out", data / "out", "--passes", 2, "--every", 1, *words]
    told += ["--settings", small, "--label", "small"]
    monkeypatch.setattr(sys, "argv", ["next_item", *map(str, told)])
    next_item.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_finished_run_is_read_and_two_are_compared_user_by_user(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    lines = [
        f"{user}::{film}::3::{1000 + n}"
        for user in range(1, 31)
        for n, film in enumerate(rng.permutation(40)[: rng.integers(5, 15)])
    ]
    (tmp_path / "ratings.dat").write_text("\n".join(lines))
    models = ("--models", "hstu", "gru4rec")
    first = run(monkeypatch, capsys, tmp_path, *models)
    assert [row.get("run") for row in first[:2]] == ["hstu-small-A-2p0", "gru4rec-small-A-2p0"]
    assert {row["metric"] for row in first[2:4]} == {"recall@10", "ndcg@10"}
    assert first[4].keys() == {"seed", "hits_of_one_alone", "mcnemar_p"}

    table = pq.read_table(tmp_path / "out" / "hstu-small-A-2p0.parquet")
    assert table.num_rows == 30
    place = table["test_first"].to_numpy()
    competing = 40 - np.array(
        [sum(line.startswith(f"{u}::") for line in lines) for u in range(1, 31)]
    )
    assert (place >= 1).all()
    assert (place <= 1 + competing).all()  # what the user has rated does not compete
    assert first[0]["test_recall@10"] == pytest.approx((place <= 10).mean(), abs=0.05)

    monkeypatch.setattr(next_item, "ours", None)  # nothing is trained again
    assert run(monkeypatch, capsys, tmp_path, *models) == first


def test_settings_without_a_label_and_rotary_on_board_b_are_refused(tmp_path, monkeypatch):
    (tmp_path / "ratings.dat").write_text(LINES)
    base = ["next_item", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*base, "--settings", '{"dim": 8}'])
    with pytest.raises(SystemExit):
        next_item.main()
    monkeypatch.setattr(sys, "argv", [*base, "--board", "B", "--models", "rotary"])
    with pytest.raises(SystemExit, match="board B is for hstu"):
        next_item.main()
    (tmp_path / "ratings.dat").unlink()
    with pytest.raises(SystemExit, match="grouplens"):
        next_item.main()
