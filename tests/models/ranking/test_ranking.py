"""Rankings: exact under ties, honest about what is unknown, able to find what is planted."""

import itertools

import numpy as np
import pytest
import torch

from contracts.base.errors import FootpathError
from models.data.examples import Labeled, Lists
from models.data.labels import Task
from models.data.packed import MASK, PAD, UNK
from models.data.sequences import open_sequences
from models.metrics.predictions import Predicted
from models.metrics.rank import Ranks
from models.metrics.rows import measure
from models.nn.catalog import Catalog
from models.probing.probe import Standardizer
from models.ranking import item_head
from models.ranking.candidates import Rows
from models.ranking.item_head import ItemHead, Vectors, fit_item_head, item_nll, popularity
from models.ranking.lists import (
    NumberScaler,
    first_places,
    list_loss,
    log_softmax_by_list,
    measure_lists,
    owners,
    place_in_list,
)
from models.ranking.next_item_ranking import times_met
from models.ranking.ranks import measure_by_count, rank_items
from models.ranking.zero_shot import _with_hidden


def as_predicted(ranks: Ranks) -> Predicted:
    examples = np.arange(len(ranks.above_n))
    return Predicted("ranking", examples, examples, ranks.scores_n2)


def measure_ranks(ranks: Ranks, metric: str) -> dict[str, float]:
    return measure(Task("next", metric, [], {}, is_ranking=True), as_predicted(ranks))


def brute(scores: np.ndarray, right: int) -> dict[str, float]:
    """The mean over all orders that the scores allow."""
    totals: dict[str, float] = {}
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    for order in orders:
        place = order.index(right) + 1
        found = {f"recall@{k}": float(place <= k) for k in (1, 5)}
        found |= {"mrr": 1 / place, "ndcg@10": 1 / np.log2(1 + place) if place <= 10 else 0.0}
        for name, value in found.items():
            totals[name] = totals.get(name, 0) + value / len(orders)
    return totals


@pytest.fixture
def sequences(make_sequences):
    return open_sequences(make_sequences([4, 4, 4]))


def ranked(sequences, scores: list[float], right: int, exclude: bool = False) -> Ranks:
    """Ranks item `right` of the first items; all others score lowest."""
    row = torch.full((1, sequences.sizes["item"]), -9.0)
    row[0, : UNK + 1] = 99.0  # the special ones do not compete
    row[0, UNK + 1 : UNK + 1 + len(scores)] = torch.tensor(scores)
    examples = Labeled(np.array([0]), np.array([4]), np.array([UNK + 1 + right]))
    return rank_items(row, sequences, examples, exclude)


@pytest.mark.parametrize(
    ("scores", "right"),
    [([3, 2, 1, 0, 4], 0), ([1, 1, 1, 1, 1], 2), ([5, 2, 2, 2, 1, 7], 2), ([1, 1, 0, 0], 3)],
)
def test_metrics_are_expectations_over_tied_orders(sequences, scores, right):
    found = measure_ranks(ranked(sequences, scores, right), "mrr")
    assert next(iter(found)) == "mrr"
    for name, value in brute(np.array(scores), right).items():
        assert found[name] == pytest.approx(value), name


def test_a_model_that_knows_nothing_gets_chance(sequences):
    ranks = ranked(sequences, [-9.0], 0)
    items = sequences.sizes["item"] - UNK - 1
    assert measure_ranks(ranks, "recall@10")["recall@10"] == pytest.approx(10 / items)


def test_history_does_not_compete_but_for_the_right_item(sequences):
    seen = sorted(set(sequences.item[:4].tolist()) - {UNK + 1})
    scores = np.zeros(sequences.sizes["item"] - UNK - 1)
    scores[np.array(seen) - UNK - 1] = 5.0
    plain = ranked(sequences, scores.tolist(), 0)
    excluded = ranked(sequences, scores.tolist(), 0, exclude=True)
    assert (plain.above_n[0], excluded.above_n[0]) == (len(seen), 0)
    again = ranked(sequences, scores.tolist(), seen[0] - UNK - 1, exclude=True)
    assert (again.above_n[0], again.tied_n[0]) == (0, 0)


def test_an_item_that_the_vocabulary_does_not_know_is_never_found(sequences):
    found = measure_ranks(ranked(sequences, [0.0], -1), "mrr")
    assert found["recall@20"] == 0
    assert found["mrr"] < 0.03


def test_scores_that_are_no_numbers_are_refused(sequences):
    with pytest.raises(FootpathError, match="no number"):
        ranked(sequences, [float("nan")], 0)


NONE = torch.zeros(800, 0, dtype=torch.int64)  # no recent items


def test_a_head_starts_as_popularity_and_finds_what_the_vector_says():
    torch.manual_seed(0)
    items_VD = torch.randn(30, 6)
    x_nD, counts_V = torch.randn(800, 6), np.arange(30) % 7
    y_n = (x_nD @ torch.randn(6, 6) @ items_VD[3:].T).argmax(1) + 3
    head = ItemHead(Standardizer.of(x_nD), items_VD, counts_V.astype(float))
    start = head(x_nD, items_VD, NONE)
    assert torch.equal(start.argmax(1), torch.full((800,), int(counts_V.argmax())))
    before = float(item_nll(start, y_n).detach())
    train, valid = (Vectors(x_nD[at], y_n[at], NONE[at]) for at in (slice(600), slice(600, 800)))
    fit_item_head(head, train, valid, items_VD)
    scores = head(x_nD[600:], items_VD, NONE[600:])
    assert float(item_nll(scores, y_n[600:])) < before / 2
    assert (scores.argmax(1) == y_n[600:]).float().mean() > 0.6


def test_a_head_over_many_items_learns_from_a_sample_of_items_and_of_examples(monkeypatch):
    torch.manual_seed(0)
    items_VD, x_nD = torch.randn(2000, 6), torch.randn(800, 6)
    y_n = (x_nD @ torch.randn(6, 6) @ items_VD[3:].T).argmax(1) + 3
    y_n[::10] = UNK
    recent_nR = torch.randint(3, 2000, (800, 2))
    monkeypatch.setattr(item_head, "MOST_FITTED", 300)
    train, valid = (
        Vectors(x_nD[at], y_n[at], recent_nR[at]) for at in (slice(600), slice(600, 800))
    )
    fitted, known = train.known(item_head.MOST_FITTED, 0), valid.known(1000, 0)
    assert (len(fitted), len(known)) == (300, 180)
    assert (fitted.y_n > UNK).all()
    assert (known.y_n > UNK).all()
    losses = {}
    for sampled in (0, 200):
        head = ItemHead(Standardizer.of(x_nD), items_VD, np.ones(2000), repeats=2)
        fit_item_head(head, train, valid, items_VD, sampled=sampled)
        losses[sampled] = item_head.mean_loss(head, known, items_VD, 0)
    assert losses[200] < 1.1 * losses[0] < 0.7 * np.log(2000)


def test_popularity_counts_what_is_seen(sequences):
    examples = Labeled(np.array([0, 2]), np.array([2, 4]), np.zeros(2), np.array([0, 3]))
    counts = popularity(sequences, examples)
    seen = [*sequences.item[:2], sequences.item[11]]
    assert counts.sum() == 3
    assert all(counts[item] >= 1 for item in seen)


def lists(lengths: list[int], relevant: list[int], numbers: list[list[float]]) -> Lists:
    rows = sum(lengths)
    chosen = np.zeros(rows, bool)
    chosen[relevant] = True
    return Lists(np.full(rows, 3), chosen, np.array(numbers, float), np.array(lengths))


def test_places_in_a_list_share_ties_and_leave_the_unknown_in_the_middle():
    number = np.array([5.0, 1.0, 5.0, 9.0, np.nan, 7.0])
    place = place_in_list(number, np.array([4, 2]))
    assert place.tolist() == [0.5, 0.0, 0.5, 1.0, 0.5, 0.5]


def test_log_shares_add_up_within_each_list_and_the_loss_is_theirs():
    scores = torch.tensor([1.0, 2.0, 300.0, -4.0, 0.0])
    owner, relevant = owners(np.array([2, 3])), torch.tensor([1.0, 0, 0, 0, 1])
    log_share = log_softmax_by_list(scores, owner, 2)
    expected = torch.cat([scores[:2].log_softmax(0), scores[2:].log_softmax(0)])
    torch.testing.assert_close(log_share, expected)
    loss = list_loss(scores, relevant, owner, 2)
    torch.testing.assert_close(loss, -(expected[0] + expected[4]) / 2)


def test_lists_are_measured_over_rows_and_over_lists():
    shown = lists([3, 2], [0, 4], [[0.0]] * 5)
    found = measure_lists(np.array([0.5, 0.9, 0.1, 0.2, 0.8]), shown, "mrr")
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["auc"] == pytest.approx(4 / 6)
    tied = first_places(np.zeros(5), shown)
    assert tied.tied_n.tolist() == [2, 1]
    assert measure_lists(np.zeros(5), shown, "auc")["auc"] == 0.5


def test_numbers_come_standardized_with_their_place_and_without_nan():
    rng = np.random.default_rng(0)
    numbers = [[rng.lognormal(4), np.nan if n % 5 == 0 else n % 4] for n in range(40)]
    shown = lists([4] * 10, list(range(0, 40, 4)), numbers)
    known = Rows.of(shown, NumberScaler.of(shown), torch.device("cpu")).known_MF
    assert known.shape == (40, 4)
    assert torch.isfinite(known).all()
    assert float(known[:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert known[:, 2].min() == -0.5
    assert known[:, 2].max() == 0.5


def test_a_hidden_event_follows_each_window_and_a_full_one_loses_its_first(sequences):
    windows = sequences.windows(np.array([0, 1]), np.array([0, 2]), np.array([4, 2]))
    longer = _with_hidden(windows, 4)
    assert longer.lengths_B.tolist() == [4, 3]
    first, second = longer.item_T.split([4, 3])
    assert first.tolist() == [*windows.item_T[1:4].tolist(), MASK]
    assert second.tolist() == [*windows.item_T[4:].tolist(), MASK]


def test_a_head_starts_from_the_product_where_pre_training_has_trained_it():
    torch.manual_seed(0)
    items_VD = torch.randn(30, 6)
    x_nD = 2 * torch.randn(200, 6) + 1
    y_n = (x_nD @ items_VD[3:].T).argmax(1) + 3
    head = ItemHead(Standardizer.of(x_nD), items_VD, np.ones(30))
    none = NONE[:200]
    head.begin(by_product=True)
    torch.testing.assert_close(head(x_nD, items_VD, none), x_nD @ items_VD.T, rtol=1e-4, atol=1e-4)
    few = Vectors(x_nD[:4], y_n[:4], NONE[:4])  # too few to learn anything from
    fit_item_head(head, few, Vectors(x_nD[100:], y_n[100:], NONE[:100]), items_VD)
    assert (head(x_nD, items_VD, none)[:, 3:].argmax(1) + 3 == y_n).float().mean() > 0.9
    # Now the product says nothing.
    fit_item_head(head, few, Vectors(x_nD[100:], y_n[:100], NONE[:100]), items_VD)
    assert float(head.gain.detach()) > 0.5


def test_the_loss_over_a_sample_that_is_everything_is_the_whole_one():
    torch.manual_seed(0)
    items_VD, x_nD, y_n = torch.randn(30, 6), torch.randn(9, 6), torch.randint(3, 30, (9,))
    recent_nR = torch.randint(3, 30, (9, 4))
    recent_nR[::2, 2:] = PAD
    head = ItemHead(Standardizer.of(x_nD), items_VD, np.arange(30.0), repeats=4)
    torch.nn.init.normal_(head.project.weight)
    torch.nn.init.normal_(head.repeat_R)
    order = 3 + torch.randperm(27)
    sampled = Catalog(items_VD[order], order, torch.zeros(27))
    torch.testing.assert_close(
        head.nll(x_nD, sampled, y_n, recent_nR),
        head.nll(x_nD, Catalog(items_VD), y_n, recent_nR),
    )


def test_items_are_measured_apart_by_how_often_training_has_met_them():
    ranks = Ranks(np.array([0, 20, 3, 4, 50]), np.zeros(5, int))
    found = measure_by_count(as_predicted(ranks), np.array([0, 0, 1, 9, 10]), "recall@10")
    assert found == {"recall@10_cold": 0.5, "recall@10_rare": 1.0, "recall@10_frequent": 0.0}
    assert measure_by_count(as_predicted(ranks), np.full(5, 99), "mrr").keys() == {"mrr_frequent"}


def test_an_item_that_the_vocabulary_does_not_know_was_never_met(sequences):
    seen = sequences.item[:4]
    examples = Labeled(np.array([0, 0, 0]), np.array([4, 4, 4]), np.array([UNK, UNK, seen[0]]))
    met_V = times_met(sequences, examples)
    assert (met_V[: UNK + 1] == 0).all()
    assert met_V[seen[0]] == 3 * (seen == seen[0]).sum() + 1
    assert met_V.sum() == 3 * (seen > UNK).sum() + 1
