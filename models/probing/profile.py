"""The profile of a user: embedding, behavior features and items, under one stacked head.

Comes in: a task, its frozen embeddings, features and bags, a label share and a seed. Goes out:
METRICS rows with inputs `profile`. It is there to be no worse than any of its parts.
"""

import time

import numpy as np
import torch

from models.data.labels import SPLITS, Task
from models.metrics.predictions import PROFILE, Predicted
from models.metrics.rows import measure, metric_rows
from models.probing.boosting import boosted
from models.probing.head_inputs import Inputs
from models.probing.heads import FeatureScaler
from models.probing.members import Matrix, Member, bag, joint, linear
from models.probing.modes import Setting, common_columns
from models.probing.probe import Standardizer
from models.probing.stack import Labels, deal_folds, fit_stack


def run_profile(
    setting: Setting, task: Task, inputs: Inputs, tfidf: dict[str, Matrix], share: float, seed: int
) -> list[dict]:
    """Measures the stack of a task, label share and seed.

    Args:
      setting: of the program.
      task: of classes or numbers.
      inputs: its embeddings, with the features where there are some.
      tfidf: of its items, by split.
      share: of the labels.
      seed: of the choice of labels.
    """
    begun, kept = time.monotonic(), task.share_index(share, seed)
    splits = task.splits | {"train": task.splits["train"].pick(kept)}
    train, classes = splits["train"], len(task.classes)
    folds_n = deal_folds(train.users_n, train.y_n, classes)
    labels = Labels(train.y_n, splits["valid"].y_n, folds_n, classes)
    members = profile_members(
        _of_share({split: x.numpy() for split, x in inputs.x.items()}, kept),
        _of_share(inputs.features, kept) if inputs.features else None,
        _of_share(tfidf, kept),
        classes,
        setting.job.evaluation.trees,
    )
    scores = fit_stack(members, labels).held_out
    kind = "classification" if task.is_classification else "regression"
    found = {
        split: Predicted(kind, splits[split].users_n, splits[split].y_n, scores[split])
        for split in SPLITS[1:]
    }
    common = common_columns(setting, task, "frozen", PROFILE, share, seed) | {
        "train_users": len(train.users_n),
        "test_users": len(splits["test"].users_n),
        "seconds": time.monotonic() - begun,
    }
    setting.recorder.add(common, found)
    return metric_rows(common, measure(task, found["test"]))


def profile_members(
    embedding: dict[str, np.ndarray],
    features: dict[str, np.ndarray] | None,
    tfidf: dict[str, Matrix],
    classes: int,
    trees: int,
) -> list[Member]:
    """What a profile is stacked of; rows by split, `train` of the label share.

    Args:
      embedding: user vectors, [n, D].
      features: [n, F], NaN where one is missing; none: the embedding and the bag alone.
      tfidf: of items, sparse [n, V].
      classes: how many there are; 0 for a number.
      trees: of gradient boosting, at most.
    """
    standardizer = Standardizer.of(torch.from_numpy(embedding["train"]))
    x = {s: standardizer(torch.from_numpy(rows)).numpy() for s, rows in embedding.items()}
    alone, items = linear("embedding_lr", x, classes), bag("items_lr", tfidf, classes)
    if features is None:
        return [alone, boosted("embedding_gbm", embedding, classes, trees), items]
    both = {s: np.concatenate([features[s], embedding[s]], axis=1) for s in SPLITS}
    on_features = feature_members(features, classes, trees)
    return [
        *on_features,
        alone,
        joint("joint_lr", x, on_features[0].x, classes),
        boosted("joint_gbm", both, classes, trees),
        items,
    ]


def feature_members(
    features: dict[str, np.ndarray], classes: int, trees: int
) -> tuple[Member, Member]:
    """A linear model on the behavior features, and gradient boosting; arguments as above."""
    scaler = FeatureScaler.of(features["train"])
    scaled = {split: scaler(rows).numpy() for split, rows in features.items()}
    return (
        linear("features_lr", scaled, classes),
        boosted("features_gbm", features, classes, trees),
    )


def _of_share(rows: dict[str, Matrix], kept: np.ndarray) -> dict[str, Matrix]:
    return rows | {"train": rows["train"][kept]}
