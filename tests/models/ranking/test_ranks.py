"""Ranks that are counted few examples at a time, against counting with a mask for each example."""

import dataclasses

import numpy as np
import pytest
import torch

from models.baselines.rankings import NextItemBaselines
from models.data.examples import Labeled, seen_items
from models.data.labels import Task
from models.data.packed import UNK
from models.data.sequences import Sequences, open_sequences
from models.ranking import item_head
from models.ranking.ranks import rank_examples

LENGTHS = [30, 1, 17, 9, 29, 12, 40]


@pytest.fixture
def sequences(make_sequences) -> Sequences:
    item = np.random.default_rng(3).integers(UNK, 43, sum(LENGTHS)).astype(np.int32)
    return open_sequences(make_sequences(LENGTHS, item=item))


def examples_of(count: int) -> Labeled:
    """Rows of users in any order, with a right item that is unknown, seen or new."""
    rng = np.random.default_rng(0)
    users_n = rng.integers(len(LENGTHS), size=count)
    ends_n = rng.integers(1, np.array(LENGTHS)[users_n] + 1)
    return Labeled(users_n, ends_n, rng.integers(UNK, 43, count), rng.integers(0, ends_n))


def naive(scores_nV: torch.Tensor, sequences: Sequences, examples: Labeled, exclude: bool):
    for n, right in enumerate(examples.y_n):
        competes = set(range(UNK + 1, scores_nV.shape[1])) - {int(right)}
        if exclude:
            competes -= set(seen_items(sequences, examples.pick(np.array([n]))).tolist())
        row = scores_nV[n].tolist()
        if right <= UNK:
            yield len(competes), 0
        else:
            yield (
                sum(row[item] > row[right] for item in competes),
                sum(row[item] == row[right] for item in competes),
            )


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("held", [1, 43 * 7, 1 << 24])
def test_ranks_are_those_of_a_mask_for_each_example_ties_included(
    sequences, exclude, held, monkeypatch
):
    monkeypatch.setattr(item_head, "SCORES", held)
    examples = examples_of(600)
    torch.manual_seed(0)
    scores_nV = torch.randint(0, 6, (600, 43)).float()
    asked = []

    def score(some: Labeled, block: slice):
        assert some.y_n.tolist() == examples.y_n[block].tolist()

        def rows(of: slice) -> torch.Tensor:
            asked.append(of.stop - of.start)
            return scores_nV[block][of]

        return rows

    found = rank_examples(score, sequences, examples, exclude)
    expected = list(naive(scores_nV, sequences, examples, exclude))
    assert list(zip(found.above_n.tolist(), found.tied_n.tolist(), strict=True)) == expected
    assert max(tied for _, tied in expected) > 3
    assert sum(asked) == 600
    assert max(asked) == min(512, max(1, held // 43))


def high_water() -> int:
    """The most memory that was held since it was last forgotten, in bytes."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


@pytest.mark.parametrize("method", ["vectors", "popularity", "item_knn", "transitions", "recent"])
def test_ranking_among_a_million_items_holds_few_scores(sequences, method):
    items = 1_000_000
    vocabulary = sequences.vocabulary | {"item": ["-"] * items}
    large = dataclasses.replace(sequences, vocabulary=vocabulary)
    examples = examples_of(200)
    splits = dict.fromkeys(("train", "valid", "test"), examples)
    baselines = NextItemBaselines(large, Task("next", "mrr", [], splits, is_ranking=True))
    items_VD, users_nD = torch.randn(items, 4), torch.randn(200, 4)
    with open("/proc/self/clear_refs", "w") as forget:
        forget.write("5")
    before = high_water()
    if method == "vectors":
        rank_examples(
            lambda _, block: lambda rows: users_nD[block][rows] @ items_VD.T, large, examples, True
        )
    else:
        baselines.ranks(method, "test")
    # Scores of baselines are in double precision, and made of two parts.
    assert high_water() - before < 6 * 4 * item_head.SCORES
