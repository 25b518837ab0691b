"""The bag of an example's items, weighted by TF-IDF, and its main components (LSA).

An example's bag holds what may be seen of it and nothing later. What needs no labels (the item
weights, the components) is fitted on all users where every example of the as-of day ends with the
sequences, as pre-training is; otherwise on the training examples, for the sequences go on after
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from models.data.examples import Labeled, seen_items, whole_histories
from models.data.labels import Task
from models.data.packed import UNK
from models.data.sequences import Sequences
from models.probing.members import Matrix

if TYPE_CHECKING:  # it loads for a second: who reads no bags goes without
    from sklearn.feature_extraction.text import TfidfTransformer


def item_counts(sequences: Sequences, examples: Labeled) -> csr_matrix:
    """Counts each example's items -> sparse [n, V], without events that have no known item."""
    lengths = examples.lengths_n.astype(np.int64)
    item = seen_items(sequences, examples)
    known = (item > UNK).astype(np.float64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counts = csr_matrix((known, item, offsets), shape=(len(lengths), sequences.sizes["item"]))
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts


@dataclass(frozen=True)
class ItemBags:
    """TF-IDF of a task's examples, and what weighs the items of anybody alike."""

    weights: TfidfTransformer
    fitted_on: csr_matrix  # the counts that they follow from
    counts: dict[str, csr_matrix]  # by split, a row an example
    x: dict[str, Matrix]  # the same, weighted

    @classmethod
    def of(cls, sequences: Sequences, task: Task) -> ItemBags:
        """Weighs the items of a task's examples."""
        counts = {split: item_counts(sequences, part) for split, part in task.splits.items()}
        fitted_on = _everyone(sequences) if is_whole(sequences, task) else counts["train"]
        weights = item_weights().fit(fitted_on)
        tfidf = {split: weights.transform(found) for split, found in counts.items()}
        return cls(weights, fitted_on, counts, tfidf)


def item_weights(idf_V: np.ndarray | None = None) -> TfidfTransformer:
    """Turns counts of items into TF-IDF; with the weights of the items, where they are known."""
    from sklearn.feature_extraction.text import TfidfTransformer

    weights = TfidfTransformer(sublinear_tf=True)
    if idf_V is not None:
        weights.idf_ = idf_V
    return weights


def bags(sequences: Sequences, task: Task, components: int) -> dict[str, dict[str, Matrix]]:
    """The inputs of linear models: tfidf, and lsa where there are enough items and users.

    Args:
      sequences: where the histories are.
      task: its examples.
      components: of LSA.

    Returns:
      By name and split, a row an example.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import StandardScaler

    bag = ItemBags.of(sequences, task)
    found: dict[str, dict[str, Matrix]] = {"tfidf": bag.x}
    if min(bag.fitted_on.shape) > components:
        whole = bag.weights.transform(bag.fitted_on)
        reduce = TruncatedSVD(components, random_state=0)
        scale = StandardScaler().fit(reduce.fit_transform(whole))
        found["lsa"] = {split: scale.transform(reduce.transform(x)) for split, x in bag.x.items()}
    return found


def is_whole(sequences: Sequences, task: Task) -> bool:
    """Whether every example of the as-of day is all of its user's events."""
    parts = [part.newest() for part in task.splits.values()]
    return all((part.lengths_n == sequences.lengths[part.users_n]).all() for part in parts)


def _everyone(sequences: Sequences) -> csr_matrix:
    return item_counts(sequences, whole_histories(sequences, np.arange(sequences.users)))
