"""Rankings to beat: popularity and neighbors for the next item; place and price for clicks.

None of them looks past an example's end: what is counted are the histories of the training
examples, each up to its own end.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from models.data.examples import Labeled, Lists
from models.data.labels import Task
from models.data.packed import UNK, ragged_arange
from models.data.sequences import Sequences
from models.metrics.rank import Ranks
from models.probing.bags import item_counts
from models.ranking.item_head import popularity
from models.ranking.lists import NumberScaler, place_in_list
from models.ranking.ranks import Scores, rank_examples
from models.ranking.recent import recent_items

NEIGHBORS_OF = 10  # last events whose neighbors are asked
MOST_BASKETS = 100_000  # training examples that make neighbors


class NextItemBaselines:
    """Scores of all items that need no label."""

    def __init__(self, sequences: Sequences, task: Task) -> None:
        train = task.splits["train"]
        self._sequences, self._task = sequences, task
        counts_V = popularity(sequences, train)
        self._prior_V = counts_V / max(counts_V.sum(), 1)
        bag = item_counts(sequences, train.pick(_some(len(train.users_n))))
        bag.data[:] = 1.0
        norms_V = np.sqrt(np.maximum(np.asarray(bag.sum(axis=0)).ravel(), 1))
        self._baskets = bag.multiply(1 / norms_V).tocsr()
        self._baskets_of = self._baskets.T.tocsr()
        self._follows = _transitions(sequences, train)

    @property
    def methods(self) -> list[str]:
        """What there is; the items seen last only where they compete."""
        again = [] if self._task.exclude_history else ["recent"]
        return ["popularity", "item_knn", "transitions", *again]

    def ranks(self, method: str, split: str) -> Ranks:
        """Ranks the right items of a split."""

        def score(some: Labeled, block: slice) -> Scores:  # noqa: ARG001
            scores = self._scores(method, some)
            return lambda rows: torch.from_numpy(scores(rows))

        task = self._task
        return rank_examples(score, self._sequences, task.splits[split], task.exclude_history)

    def _scores(self, method: str, some: Labeled) -> Callable[[slice], np.ndarray]:
        """What scores all items for some of the examples; popularity decides among equals."""
        prior_V = self._prior_V
        if method == "popularity":
            return lambda rows: np.tile(prior_V, (rows.stop - rows.start, 1))
        if method == "recent":
            recent_nR = recent_items(self._sequences, some)
            return lambda rows: _last_first(recent_nR[rows], prior_V)
        asked = 1 if method == "transitions" else NEIGHBORS_OF
        shown = item_counts(self._sequences, _last(some, asked))
        if method == "transitions":
            return lambda rows: (shown[rows] @ self._follows).toarray() + prior_V
        baskets, of = self._baskets, self._baskets_of
        return lambda rows: (shown[rows] @ of @ baskets).toarray() + 1e-3 * prior_V


def _some(examples: int) -> np.ndarray:
    """Which of the examples tell what is bought together: all or, of very many, some."""
    drawn = np.random.default_rng(0).permutation(examples)[:MOST_BASKETS]
    return np.sort(drawn)


def _last_first(recent_nR: np.ndarray, prior_V: np.ndarray) -> np.ndarray:
    """Scores the items seen last above all others, the latest first."""
    scores_nV = np.tile(prior_V, (len(recent_nR), 1))
    rows, nth = np.nonzero(recent_nR)
    scores_nV[rows, recent_nR[rows, nth]] = 1 + recent_nR.shape[1] - nth
    return scores_nV


def _last(examples: Labeled, count: int) -> Labeled:
    starts = np.maximum(examples.starts_n, examples.ends_n - count)
    return Labeled(examples.users_n, examples.ends_n, examples.y_n, starts)


def _transitions(sequences: Sequences, examples: Labeled) -> csr_matrix:
    """Counts how often an item comes right after another -> sparse [V, V]."""
    size = sequences.sizes["item"]
    pairs = np.maximum(examples.lengths_n - 1, 0).astype(np.int64)
    first = np.repeat(sequences.offsets[examples.users_n] + examples.starts_n, pairs)
    at = first + ragged_arange(torch.from_numpy(pairs)).numpy()
    one, other = np.asarray(sequences.item[at]), np.asarray(sequences.item[at + 1])
    known = (one > UNK) & (other > UNK)
    return csr_matrix((known.astype(np.float64), (one, other)), shape=(size, size))


class ListBaselines:
    """Scores of the rows of lists: by one number, by popularity, by a linear model of them."""

    def __init__(self, sequences: Sequences, task: Task, numbers: tuple[str, ...]) -> None:
        self._task, self._numbers = task, numbers
        self._counts_V = popularity(sequences, task.splits["train"])

    @property
    def methods(self) -> list[str]:
        """What there is; a linear model needs numbers."""
        orders = [f"by_{name}" for name in self._numbers]
        return ["popularity", *orders, *(["numbers_lr"] if orders else [])]

    def scores(self, method: str, kept: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of validation and test rows; `kept` are the training lists."""
        train = self._task.lists["train"].pick(kept)
        lists = {split: self._task.lists[split] for split in ("valid", "test")}
        if method == "popularity":
            return {split: self._counts_V[part.item_M] for split, part in lists.items()}
        if method == "numbers_lr":
            scaler = NumberScaler.of(train)
            model = LogisticRegression(max_iter=300)
            model.fit(self._columns(train, scaler), train.is_relevant_M)
            return {
                split: model.decision_function(self._columns(part, scaler))
                for split, part in lists.items()
            }
        column = self._numbers.index(method.removeprefix("by_"))
        ordered = place_in_list(train.numbers_MK[:, column], train.lengths_n)
        # Upwards or downwards, as the training lists say.
        sign = 1 if sk.roc_auc_score(train.is_relevant_M, ordered) >= 0.5 else -1
        return {
            split: sign * place_in_list(part.numbers_MK[:, column], part.lengths_n)
            for split, part in lists.items()
        }

    def _columns(self, lists: Lists, scaler: NumberScaler) -> np.ndarray:
        return np.column_stack([scaler(lists).numpy(), np.log1p(self._counts_V[lists.item_M])])
