"""What to beat: the majority class, and linear models on the bag of a user's items.

    python -m models.baselines CONFIG.json

CONFIG.json holds the fields of models.config.BaselinesConfig: sequences, labels, out, tasks,
label_shares, seeds; with head_features, also a linear model on the behaviour features.

TF-IDF with logistic regression is what a practitioner would try first, and is hard to beat; its
64 main components (LSA) are the fair rival of a dense user vector. What needs no labels (the item
weights, the components) is fitted on all users, as pre-training is.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_absolute_error
from sklearn.preprocessing import StandardScaler

from contracts.lake import Lake, publish_table
from models.config import BaselinesConfig
from models.data import Sequences, open_sequences
from models.evaluation import headline, measure, metrics_table
from models.examples import Labelled
from models.heads import FeatureScaler, HeadFeatures, load_head_features
from models.packed import UNK
from models.predictions import Predicted, Recorder
from models.probe import Scale, fit_head
from models.report import Reporter, run_program
from models.tasks import SPLITS, Task, load_tasks

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of logistic regression, 1 / alpha of ridge

Matrix = Any  # a sparse or dense matrix of one row a user
# -> by split, valid and test, what `measure` takes
Predict = Callable[[Task, Labelled], dict[str, np.ndarray]]


def baselines(config: BaselinesConfig, reporter: Reporter) -> dict[str, Any]:
    """Measures every baseline on every task, share and seed."""
    sequences = open_sequences(config.sequences)
    tasks = load_tasks(config.labels, sequences, config.tasks)
    bag = TfidfTransformer(sublinear_tf=True).fit_transform(item_counts(sequences))
    methods = {"majority": _majority, "tfidf_lr": _linear(bag)}
    if min(bag.shape) > config.lsa_dim:
        components = TruncatedSVD(config.lsa_dim, random_state=0).fit_transform(bag)
        methods["lsa_lr"] = _linear(StandardScaler().fit_transform(components))
    if config.head_features:
        methods["features_lr"] = _on_features(load_head_features(config.head_features, sequences))
    rows, recorder = [], Recorder(config.predictions)
    for number, (task, share, seed) in enumerate(_runs(config, tasks), start=1):
        train = task.train_share(share, seed)
        for method, predict in methods.items():
            rows += _measure(method, predict, task, train, share, seed, recorder)
        planned = len(tasks) * len(config.label_shares) * config.seeds
        reporter.progress(number, planned, task=task.name, label_share=share)
    recorder.publish()
    publish_table(Lake(config.out.parent), metrics_table(rows), config.out)
    return {"metrics": str(config.out), "rows": len(rows), **headline(rows, tasks)}


def item_counts(sequences: Sequences) -> csr_matrix:
    """Counts each user's items -> sparse [U, V], without events that have no known item."""
    item, size = np.array(sequences.item), sequences.sizes["item"]  # copies: sorted in place
    known = (item > UNK).astype(np.float64)
    offsets = np.array(sequences.offsets)
    counts = csr_matrix((known, item, offsets), shape=(sequences.users, size))
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts


def _runs(config: BaselinesConfig, tasks: list[Task]) -> Iterator[tuple[Task, float, int]]:
    for task in tasks:
        for share in sorted(config.label_shares):
            for seed in config.seed_range:
                yield task, share, seed


def _measure(
    method: str,
    predict: Predict,
    task: Task,
    train: Labelled,
    share: float,
    seed: int,
    recorder: Recorder,
) -> list[dict]:
    begun, test = time.monotonic(), task.splits["test"]
    scores = predict(task, train)
    figures = measure(task, test.y_n, scores["test"])
    common = {
        "method": method,
        "encoder": "-",
        "protocol": "baseline",
        "inputs": "features" if method == "features_lr" else "items",
        "task": task.name,
        "label_share": share,
        "seed": seed,
        "train_users": len(train.users_n),
        "test_users": len(test.users_n),
        "seconds": time.monotonic() - begun,
        "model_version": None,
    }
    kind = "classification" if task.is_classification else "regression"
    parts = {split: task.splits[split] for split in scores}
    recorder.add(
        common,
        {s: Predicted(kind, part.users_n, part.y_n, scores[s]) for s, part in parts.items()},
    )
    return [{**common, "metric": name, "value": value} for name, value in figures.items()]


def _majority(task: Task, train: Labelled) -> dict[str, np.ndarray]:
    """The class shares of the training users, or their median, for everyone."""
    if task.is_classification:
        row = np.bincount(train.y_n, minlength=len(task.classes)) / len(train.y_n)
    else:
        row = np.array([np.median(train.y_n)])
    return {split: np.tile(row, (len(task.splits[split].y_n), 1)) for split in SPLITS[1:]}


def _linear(x: Matrix) -> Predict:
    """A linear model on rows of x, with the strength that does best on validation."""

    def predict(task: Task, train: Labelled) -> dict[str, np.ndarray]:
        valid, test, classes = task.splits["valid"], task.splits["test"], len(task.classes)
        fitted = [_fit(x[train.users_n], train.y_n, classes, strength) for strength in STRENGTHS]
        losses = [_loss(task, valid.y_n, model(x[valid.users_n])) for model in fitted]
        best = fitted[int(np.argmin(losses))]
        return {"valid": best(x[valid.users_n]), "test": best(x[test.users_n])}

    return predict


def _on_features(known: HeadFeatures) -> Predict:
    """The head of `models.heads` on the behaviour features alone."""

    def predict(task: Task, train: Labelled) -> dict[str, np.ndarray]:
        scaler, scale = FeatureScaler.of(known.x_UF[train.users_n]), Scale.of(task, train.y_n)
        valid, classes = task.splits["valid"], len(task.classes)
        blocks = [
            (scaler(known.x_UF[part.users_n]), scale.targets(part.y_n)) for part in (train, valid)
        ]
        head = fit_head(blocks[0], blocks[1], classes)
        return {
            split: scale.predictions(task, head(scaler(known.x_UF[task.splits[split].users_n])))
            for split in SPLITS[1:]
        }

    return predict


def _fit(x: Matrix, y: np.ndarray, classes: int, strength: float) -> Callable[[Matrix], np.ndarray]:
    if not classes:
        ridge = Ridge(alpha=1 / strength).fit(x, y)
        return lambda rows: ridge.predict(rows).reshape(-1, 1)
    model = LogisticRegression(C=strength, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges it as it is
        model.fit(x, y)

    def predict(rows: Matrix) -> np.ndarray:
        probabilities = np.zeros((rows.shape[0], classes))
        probabilities[:, model.classes_] = model.predict_proba(rows)
        return probabilities

    return predict


def _loss(task: Task, y: np.ndarray, predicted: np.ndarray) -> float:
    if not task.is_classification:
        return float(mean_absolute_error(y, predicted[:, 0]))
    return float(log_loss(y, predicted, labels=range(len(task.classes))))


if __name__ == "__main__":
    run_program(BaselinesConfig, baselines)
