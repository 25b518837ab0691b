import numpy as np
import pytest
from sklearn import metrics as sk

from contracts.config.metrics import KNOWN_METRICS
from models.metrics.formulas import FORMULAS, weighted
from models.metrics.predictions import Predicted
from models.metrics.rank import Ranks
from tests.models.metrics.predicted import classes

NUMBERS = Predicted(
    "regression",
    np.arange(300),
    np.random.default_rng(3).normal(size=300),
    np.random.default_rng(4).normal(size=(300, 1)),
)
RANKED = Predicted(
    "ranking", np.arange(300), np.zeros(300), np.random.default_rng(5).integers(1, 30, (300, 2))
)
SKLEARN = {
    "auc": lambda y, p, w: sk.roc_auc_score(y, p[:, 1], sample_weight=w),
    "ap": lambda y, p, w: sk.average_precision_score(y, p[:, 1], sample_weight=w),
    "accuracy": lambda y, p, w: sk.accuracy_score(y, p.argmax(1), sample_weight=w),
    "macro_f1": lambda y, p, w: sk.f1_score(y, p.argmax(1), average="macro", sample_weight=w),
}


@pytest.mark.parametrize("metric", SKLEARN)
def test_weighted_metrics_are_those_of_scikit_learn(metric):
    found = classes(0)
    weights = np.random.default_rng(2).integers(0, 4, (5, 300)).astype(float)
    expected = [SKLEARN[metric](found.y_n, found.scores_nC, w) for w in weights]
    np.testing.assert_allclose(weighted(metric, found)(weights), expected)


def test_every_metric_has_one_formula():
    assert FORMULAS.keys() == KNOWN_METRICS.keys()


@pytest.mark.parametrize("metric", KNOWN_METRICS)
def test_a_metric_is_its_weighted_form_under_equal_weights(metric):
    by_kind = {"classification": classes(0), "regression": NUMBERS, "ranking": RANKED}
    for kind in by_kind.keys() & set(KNOWN_METRICS[metric].kinds):
        found = by_kind[kind]
        alike = weighted(metric, found)(np.ones((1, 300)))[0]
        assert alike == pytest.approx(FORMULAS[metric].value(found), rel=1e-12)
    for kind in by_kind.keys() - set(KNOWN_METRICS[metric].kinds):
        assert weighted(metric, by_kind[kind]) is None


def test_the_largest_gap_of_the_rates_is_that_of_scikit_learn():
    found = classes(1)
    false, true, _ = sk.roc_curve(found.y_n, found.scores_nC[:, 1])
    assert weighted("ks", found)(np.ones((1, 300)))[0] == pytest.approx((true - false).max())


def test_several_classes_are_averaged_one_against_the_rest():
    found = classes(0, width=4)
    curves = [sk.roc_auc_score(found.y_n == c, found.scores_nC[:, c]) for c in range(4)]
    assert weighted("auc", found)(np.ones((1, 300)))[0] == pytest.approx(np.mean(curves))


def test_macro_auc_is_over_the_classes_that_some_examples_have_and_others_do_not():
    y = np.array([0.0, 0.0, 1.0, 1.0])  # nobody is of the third class
    scores = np.array([[0.6, 0.2, 0.2], [0.2, 0.3, 0.5], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]])
    found = Predicted("classification", np.arange(4), y, scores)
    # Class 0: .6 and .2 against .3 and .1, 3 of 4 pairs. Class 1: .6, .1 against .2, .3: 2 of 4.
    assert FORMULAS["auc"].value(found) == (3 / 4 + 2 / 4) / 2
    # Drawn twice, drawn as it is, and a draw of one class alone, which has none.
    weights = np.array([[0.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
    expected = [(1 / 2 + 1 / 2) / 2, 5 / 8, np.nan]
    np.testing.assert_allclose(weighted("auc", found)(weights), expected)


@pytest.mark.parametrize("width", [2, 3])
def test_examples_of_one_class_have_no_auc(width):
    scores = np.full((3, width), 1 / width)
    found = Predicted("classification", np.arange(3), np.ones(3), scores)
    assert np.isnan(FORMULAS["auc"].value(found))
    assert np.isnan(weighted("auc", found)(np.ones((2, 3)))).all()


def test_ranks_give_recall_ndcg_and_reciprocal_rank():
    found = Predicted("ranking", np.arange(3), np.zeros(3), np.array([[1, 0], [4, 0], [30, 0]]))
    ones = np.ones((1, 3))
    assert weighted("recall@10", found)(ones)[0] == pytest.approx(2 / 3)
    assert weighted("mrr", found)(ones)[0] == pytest.approx((1 + 1 / 4 + 1 / 30) / 3)
    assert weighted("ndcg@10", found)(ones)[0] == pytest.approx((1 + 1 / np.log2(5)) / 3)


@pytest.mark.parametrize("metric", ["recall@1", "recall@5", "recall@10", "ndcg@10", "mrr"])
def test_a_bootstrap_and_the_figure_agree_on_ties(metric):
    rng = np.random.default_rng(0)
    ranks = Ranks(rng.integers(0, 12, 200), rng.integers(0, 30, 200))
    kept = ranks.scores_n2.astype(np.float32)
    found = Predicted("ranking", np.arange(200), np.zeros(200), kept)
    exact = Predicted("ranking", np.arange(200), np.zeros(200), ranks.scores_n2)
    figure = FORMULAS[metric].value(exact)
    assert weighted(metric, found)(np.ones((1, 200)))[0] == pytest.approx(figure)
