"""The profile of a user: embedding, behavior features and items, under one stacked head.

Comes in: a task, its frozen embeddings, features and bags, a label share and a seed. Goes out:
METRICS rows with inputs `profile`. It is there to be no worse than any of its parts.
"""

import time
from dataclasses import replace

import numpy as np

from contracts.base.hashing import hash_rows
from models.checkpoint import BODY
from models.data.labels import SPLITS, Task
from models.metrics.predictions import PROFILE, Predicted
from models.metrics.rows import measure, metric_rows
from models.probing.bags import ItemBags
from models.probing.boosting import boosted
from models.probing.folds import Labels, deal_folds
from models.probing.head_inputs import Inputs
from models.probing.heads import FeatureScaler, HeadFeatures
from models.probing.members import Matrix, Member, bag, joint, linear
from models.probing.modes import Setting, common_columns, save_task_model
from models.probing.profile_head import Preparation, ProfileHead
from models.probing.stack import Stack, fit_stack, kept_members


def run_profile(
    setting: Setting,
    task: Task,
    inputs: Inputs,
    known: HeadFeatures | None,
    items: ItemBags,
    share: float,
    seed: int,
) -> list[dict]:
    """Measures the stack of a task, label share and seed.

    Of the run whose models are kept, its head is stored, and what is measured are the predictions
    of what is stored.

    Args:
      setting: of the program.
      task: of classes or numbers.
      inputs: embeddings of its examples of the as-of day, with the features where there are some.
      known: the features of every day.
      items: of its examples.
      share: of the labels.
      seed: of the choice of labels.
    """
    begun, kept, now = time.monotonic(), task.share_index(share, seed), task.newest()
    splits = task.splits | {"train": task.splits["train"].pick(kept)}
    train, classes = splits["train"], len(task.classes)
    folds_n = deal_folds(train.users_n, train.y_n, classes, train.weights_n)
    labels = Labels(train.y_n, splits["valid"].y_n, folds_n, classes, train.weights_n)
    vectors = {split: x.numpy() for split, x in inputs.x.items()}
    embedding = _of_share(vectors, now.share_index(share, seed))
    features = {split: known.of(part) for split, part in splits.items()} if known else None
    newest = np.flatnonzero(train.is_newest_n)
    preparation = Preparation.of(
        embedding["train"], features["train"][newest] if features else None
    )
    members = profile_members(
        preparation, embedding, features, _of_share(items.x, kept), newest, classes,
        setting.job.evaluation.trees,
    )  # fmt: skip
    stack, head = fit_stack(members, labels), None
    scores = stack.held_out
    if setting.job.io.models and (share, seed) == setting.job.evaluation.first_run:
        head = _head(stack, members, labels, preparation, items)
        scores = {
            split: head(embedding[split], features and features[split], items.counts[split])
            for split in SPLITS[1:]
        }
    kind = "classification" if task.is_classification else "regression"
    found = {
        split: Predicted(kind, splits[split].users_n, splits[split].y_n, scores[split])
        for split in SPLITS[1:]
    }
    figures = measure(task, found["test"])
    if head:
        _save(setting, task, inputs, head, (share, seed), figures, found["valid"])
    common = common_columns(setting, task, "frozen", PROFILE, share, seed) | {
        "train_users": len(newest),
        "test_users": len(splits["test"].users_n),
        "seconds": time.monotonic() - begun,
    }
    setting.recorder.add(common, found)
    return metric_rows(common, figures)


def _head(
    stack: Stack, members: list[Member], labels: Labels, preparation: Preparation, items: ItemBags
) -> ProfileHead:
    """The stack as arrays that can be stored."""
    fitted = kept_members(stack, members, labels)
    weighted = {name: (stack.weights[name], model) for name, model in fitted.items()}
    return ProfileHead(preparation, items.weights.idf_, weighted, stack.center_C)


def _save(
    setting: Setting,
    task: Task,
    inputs: Inputs,
    head: ProfileHead,
    run: tuple[float, int],
    figures: dict[str, float],
    valid: Predicted,
) -> None:
    """Writes the encoder and the head as a checkpoint, which embeds and scores users."""
    trees, names = setting.job.evaluation.trees, inputs.feature_names
    head_features = setting.job.io.head_features if names else None
    how = {"trees": trees, "head_features": hash_rows(head_features) if head_features else ""}
    facts = head.facts(inputs.view, names, trees)
    told = {"target_center": 0.0, "target_spread": 1.0, "protocol": "frozen", "profile": facts}
    body = {f"{BODY}{name}": x for name, x in setting.checkpoint.model.state_dict().items()}
    save_task_model(setting, task, run, body | head.tensors(), told, {"profile": how}, figures,
                    valid)  # fmt: skip


def profile_members(
    preparation: Preparation,
    embedding: dict[str, np.ndarray],
    features: dict[str, np.ndarray] | None,
    tfidf: dict[str, Matrix],
    newest: np.ndarray,
    classes: int,
    trees: int,
) -> list[Member]:
    """What a profile is stacked of; rows by split, `train` of the label share.

    Members that read the embedding are fitted on examples of the as-of day alone.

    Args:
      preparation: of the training examples of the as-of day.
      embedding: user vectors, [n, D]; of training examples those of the as-of day.
      features: [n, F], NaN where one is missing; none: the embedding and the bag alone.
      tfidf: of items, sparse [n, V].
      newest: the training examples of the as-of day.
      classes: how many there are; 0 for a number.
      trees: of gradient boosting, at most.
    """
    here = {"train": newest} | {split: np.arange(tfidf[split].shape[0]) for split in SPLITS[1:]}
    by_split = {
        split: preparation.inputs(
            embedding[split], features and features[split][at], tfidf[split][at]
        )
        for split, at in here.items()
    }

    def rows(name: str) -> dict[str, Matrix]:
        return {split: inputs[name] for split, inputs in by_split.items()}

    alone = linear("embedding_lr", rows("embedding_lr"), classes)
    items = bag("items_lr", tfidf, classes)
    if features is None:
        of_embedding = [alone, boosted("embedding_gbm", embedding, classes, trees)]
        return [*(replace(each, on_newest=True) for each in of_embedding), items]
    of_embedding = [
        alone,
        joint("joint_lr", rows("embedding_lr"), rows("features_lr"), classes),
        boosted("joint_gbm", rows("joint_gbm"), classes, trees),
    ]
    return [
        *feature_members(features, newest, classes, trees),
        *(replace(each, on_newest=True) for each in of_embedding),
        items,
    ]


def feature_members(
    features: dict[str, np.ndarray], newest: np.ndarray, classes: int, trees: int
) -> tuple[Member, Member]:
    """A linear model on the behavior features, and gradient boosting; arguments as above.

    Those of `newest` say how they are scaled: the training examples of the as-of day.
    """
    scaler = FeatureScaler.of(features["train"][newest])
    scaled = {split: scaler(rows).numpy() for split, rows in features.items()}
    return (
        linear("features_lr", scaled, classes),
        boosted("features_gbm", features, classes, trees),
    )


def _of_share(rows: dict[str, Matrix], kept: np.ndarray) -> dict[str, Matrix]:
    return rows | {"train": rows["train"][kept]}
