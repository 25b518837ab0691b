import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn import metrics as sk

from contracts.lake.schemas import METRICS
from models.data.labels import Task
from models.leaderboard import bootstrap as drawing
from models.leaderboard.boards import Who, boards
from models.leaderboard.bootstrap import Bootstrap
from models.leaderboard.fusion import fused, mix
from models.leaderboard.significance import (
    TFIDF,
    differences,
    marks,
    paired_bootstrap,
    paired_seeds,
)
from models.metrics.formulas import weighted
from models.metrics.predictions import (
    RUN,
    Predicted,
    as_rows,
    predictions_table,
    read_predictions,
)
from models.metrics.rows import measure
from tests.models.metrics.predicted import classes


def test_the_interval_of_a_mean_difference_is_the_known_one():
    rng = np.random.default_rng(0)
    y, zero = rng.normal(0.2, 1, 400), np.zeros((400, 1))
    # Errors |0 - y'| against 0: the difference of the two is |y'| itself, with a known error.
    ours = Predicted("regression", np.arange(400), y, zero)
    theirs = Predicted("regression", np.arange(400), y, y[:, None])
    found = paired_bootstrap("mae", [(ours, theirs)], Bootstrap(rounds=4000))
    error = stats.sem(np.abs(y))
    assert found.mean == pytest.approx(-np.abs(y).mean())
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.15 * error)
    assert found.sign == "-"


def test_no_difference_is_marked_about_as_rarely_as_the_level_says():
    marked = 0
    for seed in range(60):
        y = np.random.default_rng(seed).integers(0, 2, 200)
        both = [
            Predicted(
                "classification",
                np.arange(200),
                y.astype(float),
                classes(seed + 1000 * k, 200).scores_nC,
            )
            for k in (1, 2)
        ]
        marked += bool(paired_bootstrap("auc", [tuple(both)], Bootstrap(rounds=300)).sign)
    assert marked <= 9  # 3 are expected; 9 or more would come once in 300 times


def test_a_user_of_several_seeds_is_drawn_with_all_of_them():
    # The same users in three seeds say no more than in one.
    ours, theirs = classes(0, strength=1.5), classes(0, strength=1.0)
    once = paired_bootstrap("auc", [(ours, theirs)], Bootstrap())
    thrice = paired_bootstrap("auc", [(ours, theirs)] * 3, Bootstrap())
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_draws_in_blocks_are_the_draws_and_each_users_set_has_its_own(monkeypatch):
    ours, theirs = classes(0, strength=1.5), classes(0, strength=1.0)
    few = [
        Predicted(each.kind, each.users_n[:50], each.y_n[:50], each.scores_nC[:50])
        for each in (ours, theirs)
    ]
    at_once, in_blocks = Bootstrap(rounds=40), Bootstrap(rounds=40)
    whole = at_once.differences("auc", [(ours, theirs)])
    monkeypatch.setattr(drawing, "BLOCK_WEIGHTS", 3 * len(ours.users_n))
    np.testing.assert_array_equal(in_blocks.differences("auc", [(ours, theirs)]), whole)
    other = in_blocks.differences("auc", [tuple(few)])
    np.testing.assert_array_equal(Bootstrap(rounds=40).differences("auc", [tuple(few)]), other)
    np.testing.assert_array_equal(in_blocks.differences("auc", [(ours, theirs)]), whole)


def test_seeds_give_the_t_interval_of_their_differences():
    found = paired_seeds("auc", [0.80, 0.82, 0.84], [0.79, 0.80, 0.81])
    low, high = stats.t.interval(0.95, 2, loc=0.02, scale=stats.sem([0.01, 0.02, 0.03]))
    assert (found.mean, found.low, found.high) == pytest.approx((0.02, low, high))
    assert paired_seeds("mae", [1.0, 1.1], [2.0, 2.2]).sign == "+"  # a small error is good
    assert paired_seeds("auc", [0.8], [0.7]) is None
    assert paired_seeds("auc", [0.8, 0.8], [0.7, 0.7]) is None  # one measurement, told twice


def metric_rows(who: Who, values: list[float]) -> list[dict]:
    common = who._asdict() | {"task": "t", "label_share": 1.0, "metric": "auc"}
    common |= {"train_users": 9, "test_users": 9, "seconds": 0.0, "model_version": None}
    return [common | {"seed": seed, "value": value} for seed, value in enumerate(values)]


PTUM, SCRATCH = (
    Who("ptum", "bag", "frozen", "embedding"),
    Who("none", "bag", "scratch", "embedding"),
)


def test_rows_are_marked_against_from_scratch_and_tfidf():
    table = pa.Table.from_pylist(
        metric_rows(PTUM, [0.8, 0.81, 0.82])
        + metric_rows(SCRATCH, [0.70, 0.71, 0.72])
        + metric_rows(TFIDF, [0.85, 0.86, 0.87]),
        schema=METRICS,
    )
    found = marks(differences(table))
    assert found["t", "auc", PTUM, 1.0] == "S+ T-"
    [board] = boards(table, found)
    assert str(dict(board.rows)[PTUM][1.0]) == "0.810 ± 0.010 S+ T-"


def test_of_two_shapes_of_an_encoder_the_same_one_is_the_reference():
    wide = SCRATCH._replace(method="none 2")
    table = pa.Table.from_pylist(
        metric_rows(PTUM, [0.80, 0.81, 0.82])
        + metric_rows(SCRATCH, [0.70, 0.71, 0.73])
        + metric_rows(wide, [0.90, 0.91, 0.93]),
        schema=METRICS,
    )
    found = marks(differences(table, random={("ptum", "bag"): "none 2"}))
    assert found["t", "auc", PTUM, 1.0] == "S-"


def test_a_row_with_items_is_compared_with_scratch_with_items():
    ours, theirs = (who._replace(inputs="embedding+items") for who in (PTUM, SCRATCH))
    table = pa.Table.from_pylist(
        metric_rows(PTUM, [0.80, 0.81, 0.82])
        + metric_rows(SCRATCH, [0.70, 0.71, 0.73])
        + metric_rows(ours, [0.84, 0.85, 0.86])
        + metric_rows(theirs, [0.90, 0.91, 0.93]),
        schema=METRICS,
    )
    found = marks(differences(table))
    assert (found["t", "auc", PTUM, 1.0], found["t", "auc", ours, 1.0]) == ("S+", "S-")
    alone = table.filter(
        [row["protocol"] != "scratch" or row["inputs"] == "embedding" for row in table.to_pylist()]
    )
    assert ("t", "auc", ours, 1.0) not in marks(differences(alone))


def test_a_frozen_row_is_compared_with_random_weights_of_the_same_inputs():
    plain, joint = (
        PTUM._replace(method="none", inputs=inputs) for inputs in ("embedding", "embedding+items")
    )
    table = pa.Table.from_pylist(
        metric_rows(PTUM, [0.80, 0.81, 0.82])
        + metric_rows(plain, [0.70, 0.71, 0.74])
        + metric_rows(joint, [0.90, 0.91, 0.93])
        + metric_rows(PTUM._replace(protocol="finetuned"), [0.80, 0.81, 0.82])
        + metric_rows(SCRATCH, [0.60, 0.61, 0.63]),
        schema=METRICS,
    )
    found = marks(differences(table))
    assert found["t", "auc", PTUM, 1.0] == "R+ S+"
    assert found["t", "auc", plain, 1.0] == "S+"  # not with itself
    assert found["t", "auc", PTUM._replace(protocol="finetuned"), 1.0] == "S+"
    assert ("t", "auc", SCRATCH, 1.0) not in found


def test_both_metrics_of_several_classes_are_compared():
    y = np.tile([0.0, 0, 0, 0, 1, 2], 40)
    often = np.tile([0.6, 0.2, 0.2], (240, 1))  # always the commonest, and an order of nobody
    knows = np.eye(3)[y.astype(int)] * 0.2 + [0.5, 0.1, 0.1]  # the same, and the right order
    users = np.arange(240)
    rows, runs = [], {}
    for who, scores in ((TFIDF, often), (PTUM, knows)):
        found = Predicted("classification", users, y, scores)
        runs[run_of(who)] = {"test": found}
        values = measure(Task("t", "accuracy", ["a", "b", "c"], {}), found)
        rows += [metric_rows(who, [value])[0] | {"metric": name} for name, value in values.items()]
    found = differences(pa.Table.from_pylist(rows, schema=METRICS), runs)
    assert found["t", "accuracy", PTUM, 1.0, "T"].mean == 0
    assert found["t", "auc", PTUM, 1.0, "T"].mean == 0.5
    assert marks(found) == {("t", "auc", PTUM, 1.0): "T+"}


def test_folds_are_measured_each_by_itself_and_their_users_drawn_together():
    # Each fold ranks its own users rightly; on one scale the scores of two models would mean less.
    y = np.array([0.0, 1.0] * 20)
    shift = np.repeat([0.0, 0.5], 20)  # the second fold's model says more of everybody
    ours, theirs = (np.stack([1 - p, p], axis=1) for p in (0.2 + 0.2 * y + shift, 0 * y + 0.3))
    pairs = [
        tuple(Predicted("classification", np.arange(40)[at], y[at], p[at]) for p in (ours, theirs))
        for at in (slice(0, 20), slice(20, 40))
    ]
    found = paired_bootstrap("auc", pairs, Bootstrap())
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    # The interval of a mean over two folds is that of all users: its error is known.
    rng = np.random.default_rng(0)
    errors = np.abs(rng.normal(0.2, 1, 400))
    zero = Predicted("regression", np.arange(400), errors, np.zeros((400, 1)))
    right = Predicted("regression", np.arange(400), errors, errors[:, None])
    halves = [
        (zero.pick(np.arange(400) % 2 == fold), right.pick(np.arange(400) % 2 == fold))
        for fold in (0, 1)
    ]
    found = paired_bootstrap("mae", halves, Bootstrap(rounds=4000))
    error = stats.sem(errors)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_draw_that_leaves_a_fold_without_a_class_counts_by_the_others():
    few = Predicted("classification", np.array([0, 1]), np.array([0.0, 1]), np.eye(2))
    wrong = Predicted("classification", np.array([0, 1]), np.array([0.0, 1]), np.eye(2)[::-1])
    many = classes(0, 100)
    many = Predicted(many.kind, many.users_n + 10, many.y_n, many.scores_nC)
    found = Bootstrap(rounds=200).differences("auc", [(few, wrong), (many, many)])
    assert found[0] == 0.5
    assert set(np.unique(found)) == {0.0, 0.5}  # a draw of both users of the fold, or without one


def run_of(who: Who, seed: int = 0) -> tuple:
    run = who._asdict() | {"task": "t", "label_share": 1.0, "seed": seed}
    return tuple(run[name] for name in RUN)


def halves(found: Predicted) -> dict[str, Predicted]:
    cut = {"valid": slice(0, 150), "test": slice(150, None)}
    return {
        split: Predicted(found.kind, found.users_n[at], found.y_n[at], found.scores_nC[at])
        for split, at in cut.items()
    }


def test_mixing_two_models_that_err_apart_beats_both():
    ours = halves(classes(0, strength=1.2))
    y = np.concatenate([ours["valid"].y_n, ours["test"].y_n]).astype(int)
    logits = np.random.default_rng(7).normal(size=(300, 2))
    logits[np.arange(300), y] += 1.2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    theirs = halves(Predicted("classification", np.arange(300), y.astype(float), p))
    runs = {run_of(PTUM): ours, run_of(TFIDF): theirs}
    rows, more = fused(metric_rows(PTUM, [0.5]) + metric_rows(TFIDF, [0.5]), runs)
    assert [row["inputs"] for row in rows] == ["embedding+items"]
    alone = [weighted("auc", found["test"])(np.ones((1, 150)))[0] for found in (ours, theirs)]
    assert rows[0]["value"] > max(alone) + 0.02
    assert run_of(PTUM._replace(inputs="embedding+items")) in more


def test_a_model_that_knows_nothing_is_left_out_of_the_mix():
    ours, theirs = halves(classes(0, strength=0.0)), halves(classes(0, strength=3.0))
    mixed = mix(ours, theirs)["test"]
    assert sk.roc_auc_score(mixed.y_n, mixed.scores_nC[:, 1]) == pytest.approx(
        sk.roc_auc_score(mixed.y_n, theirs["test"].scores_nC[:, 1]), abs=0.01
    )


def test_predictions_survive_the_file(tmp_path):
    import pyarrow.parquet as pq

    run = dict(zip(RUN, run_of(PTUM), strict=True))
    parts = halves(classes(3, width=3))
    pq.write_table(predictions_table(as_rows(run, parts)), tmp_path / "p.parquet")
    [(key, found)] = read_predictions([tmp_path / "p.parquet"]).items()
    assert key == run_of(PTUM)
    np.testing.assert_allclose(found["test"].scores_nC, parts["test"].scores_nC, rtol=1e-6)
    np.testing.assert_array_equal(found["valid"].y_n, parts["valid"].y_n)
