import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from models.data.labels import Task
from models.probing.probe import PENALTIES, Scale, Standardizer, fit_head

NUMBER = Task("number", "mae", [], {})


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
    assert scale.predictions(targets[:, None], False)[:, 0] == pytest.approx(y)
    assert Scale.of(NUMBER, np.array([7.0, 7.0])).targets(np.array([7.0])).tolist() == [0.0]
