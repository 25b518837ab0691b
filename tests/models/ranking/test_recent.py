import numpy as np
import pytest
import torch

from models.baselines.rankings import NextItemBaselines
from models.data.examples import Labeled, seen_items
from models.data.labels import Task
from models.data.packed import PAD, UNK
from models.data.sequences import open_sequences
from models.probing.probe import Standardizer
from models.ranking import recent
from models.ranking.item_head import ItemHead, Vectors, fit_item_head
from models.ranking.recent import LOOK_BACK, RECENT, fit_repeats, recent_items, repeat_penalty

LENGTHS = [1, 5, 40, LOOK_BACK + 30]


@pytest.fixture
def sequences(make_sequences):
    rng = np.random.default_rng(3)
    item = rng.integers(0, 43, sum(LENGTHS)).astype(np.int32)  # with ids that say nothing
    item[-LOOK_BACK:] = np.where(np.arange(LOOK_BACK) % 2, 7, 8)  # what came before is too long ago
    return open_sequences(make_sequences(LENGTHS, item=item))


def by_hand(seen: np.ndarray) -> list[int]:
    found: list[int] = []
    for item in seen[::-1][:LOOK_BACK].tolist():
        if item > UNK and item not in found:
            found.append(item)
    return (found + [PAD] * RECENT)[:RECENT]


def test_recent_items_are_the_distinct_ones_that_were_seen_last(sequences):
    ends = np.array([1, 5, 3, 40, 33, LOOK_BACK + 30, 12])
    examples = Labeled(
        np.array([0, 1, 1, 2, 2, 3, 3]), ends, np.zeros(7), np.array([0, 0, 1, 0, 20, 0, 0])
    )
    found = recent_items(sequences, examples)
    cut = np.split(seen_items(sequences, examples), np.cumsum(examples.lengths_n)[:-1])
    assert found.tolist() == [by_hand(seen) for seen in cut]
    assert found[5].tolist() == [7, 8] + [PAD] * (RECENT - 2)


def test_what_repeats_are_worth_is_the_optimum_of_the_whole_softmax():
    rng = torch.Generator().manual_seed(0)
    share_V = torch.rand(40, generator=rng, dtype=torch.float64)
    share_V[: UNK + 1] = 0
    share_V /= share_V.sum()
    recent_nR = torch.stack([3 + torch.randperm(37, generator=rng)[:3] for _ in range(300)])
    recent_nR[:40, 1:] = PAD
    right_n = torch.where(torch.rand(300, generator=rng) < 0.4, recent_nR[:, 0], recent_nR[:, 1])
    right_n = torch.where(right_n == PAD, torch.tensor(5), right_n)
    weight_R = fit_repeats(recent_nR, right_n, share_V[recent_nR]).double().requires_grad_()
    logits_nV = share_V[None, UNK + 1 :].log().repeat(300, 1)
    row, nth = torch.nonzero(recent_nR > UNK, as_tuple=True)
    logits_nV = logits_nV.index_put(
        (row, recent_nR[row, nth] - UNK - 1), weight_R[nth], accumulate=True
    )
    loss = torch.nn.functional.cross_entropy(logits_nV, right_n - UNK - 1, reduction="sum")
    (loss + repeat_penalty(weight_R)).backward()
    assert weight_R.grad is not None
    assert weight_R.grad.abs().max() < 1e-2
    assert min(weight_R[:2]) > weight_R[2] + 0.5


def test_a_place_that_no_example_speaks_of_follows_its_neighbors():
    share_V = torch.full((40,), 1 / 40)
    recent_nR = torch.stack([3 + torch.arange(n, n + 5) for n in range(20)])
    weight_R = fit_repeats(recent_nR, recent_nR[:, 0], share_V[recent_nR])
    assert weight_R[0] > weight_R[1] > weight_R[2] > 0.5


def test_a_head_finds_items_that_come_again_where_vectors_say_nothing():
    torch.manual_seed(0)
    items_VD, x_nD = torch.randn(60, 6), torch.randn(400, 6)
    recent_nR = torch.stack([3 + torch.randperm(57)[:4] for _ in range(400)])
    y_n = torch.where(torch.rand(400) < 0.5, recent_nR[:, 1], torch.randint(3, 60, (400,)))
    head = ItemHead(Standardizer.of(x_nD), items_VD, np.ones(60), repeats=4)
    few, valid = (Vectors(x_nD[at], y_n[at], recent_nR[at]) for at in (slice(60), slice(60, 200)))
    fit_item_head(head, few, valid, items_VD)
    scores = head(x_nD[200:], items_VD, recent_nR[200:])
    assert (scores[:, UNK + 1 :].argmax(1) + UNK + 1 == recent_nR[200:, 1]).float().mean() > 0.95
    unlike = head(x_nD[200:], items_VD, torch.full((200, 4), PAD))
    assert (unlike.argmax(1) == recent_nR[200:, 1]).float().mean() < 0.1


def test_a_head_that_starts_from_the_product_finds_items_that_come_again_too():
    rng = torch.Generator().manual_seed(0)
    items_VD = torch.randn(500, 16, generator=rng)
    x_nD = 1.5 * torch.randn(1000, 16, generator=rng)
    scores_nV = (x_nD @ items_VD.T).softmax(1)
    scores_nV[:, : UNK + 1] = 0
    y_n = torch.multinomial(scores_nV, 1, generator=rng)[:, 0]
    recent_nR = torch.stack([3 + torch.randperm(497, generator=rng)[:4] for _ in range(1000)])
    y_n = torch.where(torch.rand(1000, generator=rng) < 0.2, recent_nR[:, 0], y_n)
    head = ItemHead(Standardizer.of(x_nD), items_VD, np.ones(500), repeats=4)
    train, valid = (
        Vectors(x_nD[at], y_n[at], recent_nR[at]) for at in (slice(500), slice(500, 800))
    )
    fit_item_head(head, train, valid, items_VD)
    assert float(head.gain.detach()) < 0.5  # the product was the better start
    assert head.repeat_R[0] > 4 > head.repeat_R[1]


def test_blocks_of_examples_change_nothing(sequences, monkeypatch):
    ends = np.array([1, 1, 1, 2, 3, 5, 9, 20, 40, 50, 99, 130])
    examples = Labeled(np.arange(4).repeat(3), ends, np.zeros(12))
    whole = recent_items(sequences, examples)
    monkeypatch.setattr(recent, "BLOCK", 5)
    assert recent_items(sequences, examples).tolist() == whole.tolist()


def test_the_items_seen_last_are_a_ranking_to_beat_where_they_compete(sequences):
    last = int(sequences.item[sequences.offsets[3] + 20])
    ends = np.array([21])  # of the last user; his last item comes again
    some = Labeled(np.array([3]), ends, np.array([max(last, UNK + 1)]))
    splits = dict.fromkeys(("train", "valid", "test"), some)
    baselines = NextItemBaselines(sequences, Task("next", "mrr", [], splits, is_ranking=True))
    assert "recent" in baselines.methods
    assert baselines.ranks("recent", "test").above_n.tolist() == [0]
    alone = Task("next", "mrr", [], splits, is_ranking=True, exclude_history=True)
    assert "recent" not in NextItemBaselines(sequences, alone).methods
