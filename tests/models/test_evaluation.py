import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from contracts.base.errors import FootpathError
from models.data.labels import Task
from models.metrics.predictions import Predicted
from models.metrics.rows import headline, measure
from models.probing.probe import PENALTIES, Scale, Standardizer, fit_head
from models.training.health import effective_rank, spread

TWO = Task("two", "ks", ["no", "yes"], {})
THREE = Task("three", "accuracy", ["a", "b", "c"], {})
NUMBER = Task("number", "mae", [], {})


def predicted(kind: str, y_n: np.ndarray, scores_nC: np.ndarray) -> Predicted:
    return Predicted(kind, np.arange(len(y_n)), y_n, scores_nC)


def test_metrics_of_two_classes_have_their_known_values():
    y = np.array([0, 0, 1, 1])
    yes = np.array([0.1, 0.4, 0.35, 0.8])  # the example of scikit-learn's documentation
    found = measure(TWO, predicted("classification", y, np.stack([1 - yes, yes], axis=1)))
    assert found["auc"] == pytest.approx(0.75)
    assert found["ap"] == pytest.approx(0.8333, abs=1e-4)
    assert found["ks"] == pytest.approx(0.5)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert next(iter(found)) == "ks"  # the task's own comes first


def test_metrics_of_three_classes_and_of_numbers():
    y = np.array([0, 1, 2, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    found = measure(THREE, predicted("classification", y, probabilities))
    assert found["accuracy"] == 0.75
    assert found["auc"] == 1.0
    found = measure(NUMBER, predicted("regression", np.array([1.0, 2.0]), np.array([[2.0], [5.0]])))
    assert found == {"mae": 2.0, "rmse": pytest.approx(5**0.5)}


def test_a_metric_of_two_classes_is_refused_for_three():
    task = Task("t", "ks", ["a", "b", "c"], {})
    with pytest.raises(FootpathError, match="'t' has no ks, which is of two classes"):
        measure(task, predicted("classification", np.array([0, 1, 2]), np.eye(3)))


def test_the_headline_is_the_mean_over_seeds_at_the_largest_share():
    common = {"method": "ptum", "protocol": "frozen", "task": "two", "metric": "ks"}
    rows = [
        common | {"label_share": share, "seed": seed, "value": value}
        for share, seed, value in [(0.2, 0, 0.1), (1.0, 0, 0.4), (1.0, 1, 0.6)]
    ]
    assert headline(rows, [TWO]) == {"two/frozen_ks": 0.5}


def data(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    score = x @ rng.normal(size=(6, max(1, classes))) + rng.normal(size=(300, max(1, classes)))
    y = score.argmax(1) if classes else score[:, 0]
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_probe_equals_scikit_learn(classes):
    x, y = data(classes)
    head = fit_head((x[:200], y[:200]), (x[200:], y[200:]), classes)
    strengths = [(2 if classes == 2 else 1) / p for p in PENALTIES]  # one vector there, two here
    fits = [LogisticRegression(C=c, max_iter=1000).fit(x[:200], y[:200]) for c in strengths]
    ours = head(x.float()).softmax(1).detach().numpy()
    assert min(np.abs(ours - fit.predict_proba(x)).max() for fit in fits) < 5e-3


def test_ridge_probe_equals_scikit_learn():
    x, y = data(0)
    x = Standardizer.of(x[:200])(x)
    head = fit_head((x[:200], y[:200]), (x[200:], y[200:]), 0)
    fits = [Ridge(alpha=p).fit(x[:200], y[:200]) for p in PENALTIES]
    ours = head(x.float())[:, 0].numpy()
    assert min(np.abs(ours - fit.predict(x)).max() for fit in fits) < 1e-3


def test_standardized_training_vectors_have_mean_zero_and_keep_their_proportions():
    x = torch.randn(50, 4) * torch.tensor([1.0, 5.0, 0.1, 0.0]) + 3
    z = Standardizer.of(x)(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    assert float(z.var(0, correction=0).mean()) == pytest.approx(1)
    spread = x.std(0, correction=0)
    ratios = z.std(0, correction=0)[:3] / spread[:3]
    torch.testing.assert_close(ratios, ratios[:1].expand(3))


def test_vectors_that_are_all_alike_are_not_divided_by_nothing():
    z = Standardizer.of(torch.full((50, 4), 3.0))(torch.full((2, 4), 3.0))
    assert torch.all(z == 0)


def test_no_vectors_at_all_leave_others_as_they_are():
    x = torch.randn(3, 4)
    assert torch.equal(Standardizer.of(torch.zeros(0, 4))(x), x)


def test_numbers_come_back_in_their_own_unit():
    y = np.array([100.0, 300.0, 500.0])
    scale = Scale.of(NUMBER, y)
    targets = scale.targets(y)
    assert float(targets.mean()) == pytest.approx(0)
    assert scale.predictions(NUMBER, targets[:, None])[:, 0] == pytest.approx(y)
    assert Scale.of(NUMBER, np.array([7.0, 7.0])).targets(np.array([7.0])).tolist() == [0.0]


def test_health_figures_show_collapse():
    torch.manual_seed(0)
    healthy = torch.randn(500, 16)
    assert effective_rank(healthy) > 14
    assert spread(healthy) == pytest.approx(1, abs=0.05)
    collapsed = torch.randn(500, 1) * torch.randn(1, 16)
    assert effective_rank(collapsed) == pytest.approx(1, abs=0.01)
    assert spread(torch.ones(500, 16)) == 0
    assert effective_rank(torch.ones(500, 16)) == pytest.approx(1)
