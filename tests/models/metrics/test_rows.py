import numpy as np
import pytest

from contracts.base.errors import FootpathError
from models.data.labels import Task
from models.metrics.predictions import Predicted
from models.metrics.rows import headline, measure, metric_rows, metrics_table

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


def test_beside_the_metric_of_several_classes_stands_the_other_of_accuracy_and_auc():
    common = {"method": "ptum", "protocol": "frozen", "label_share": 1.0, "seed": 0}
    figures = {"accuracy": 0.5, "macro_f1": 0.4, "auc": 0.7}
    rows = [
        common | {"task": task, "metric": name, "value": value}
        for task in ("three", "other")
        for name, value in figures.items()
    ]
    rows += [common | {"task": "two", "metric": name, "value": 0.9} for name in ("ks", "auc", "ap")]
    other = Task("other", "auc", ["a", "b", "c"], {})
    assert headline(rows, [THREE, other, TWO]) == {
        "three/frozen_accuracy": 0.5, "three/frozen_auc": 0.7,
        "other/frozen_auc": 0.7, "other/frozen_accuracy": 0.5,
        "two/frozen_ks": 0.9,
    }  # fmt: skip


def test_what_one_class_alone_has_no_value_of_is_null_in_the_file():
    found = measure(THREE, predicted("classification", np.array([1, 1]), np.eye(3)[:2]))
    assert (found["accuracy"], found["auc"]) == (0.5, None)
    common = dict.fromkeys(["method", "encoder", "protocol", "inputs", "task"], "x")
    common |= {"label_share": 1.0, "seed": 0, "train_users": 1, "test_users": 2, "seconds": 0.0}
    rows = metrics_table(metric_rows(common, found)).to_pylist()
    assert [row["value"] for row in rows if row["metric"] == "auc"] == [None]
    assert headline(rows, [Task("x", "auc", ["a", "b", "c"], {})]) == {"x/x_accuracy": 0.5}
