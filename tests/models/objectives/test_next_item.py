"""Next item: its softmax, its score, its windows, and that a pattern is learnt."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.data.examples import Labeled, last_windows
from models.data.packed import pack
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.nn.catalog import Catalog
from models.objectives.item_loss import item_loss, rows_at_once
from models.ranking.ranks import rank_items
from models.ranking.zero_shot import native
from tests.builders.models import small_pair

LENGTHS = [30, 3, 17, 9, 29, 12]
USERS = np.arange(len(LENGTHS))


def plain_loss(query_ND, items_CD, place_N, log_weight_C):
    logits_NC = query_ND @ items_CD.T
    logits_NC = logits_NC if log_weight_C is None else logits_NC + log_weight_C
    return F.cross_entropy(logits_NC, place_N), (logits_NC.argmax(1) == place_N).float().mean()


@pytest.mark.parametrize("chunk", [0, 1, 4, 11])
@pytest.mark.parametrize("is_sample", [False, True])
def test_the_loss_and_its_gradients_are_those_of_the_plain_softmax(chunk, is_sample):
    torch.manual_seed(0)
    # Scores far apart: their exponentials alone would be infinite.
    given = [60 * torch.randn(11, 6), torch.randn(20, 6)]
    log_weight_C = torch.rand(20) if is_sample else None
    item_C = torch.randperm(40)[:20] if is_sample else None
    place_N = torch.randint(20, (11,))
    item_N = place_N if item_C is None else item_C[place_N]
    one, other = ([x.clone().requires_grad_() for x in given] for _ in range(2))
    loss, accuracy = item_loss(one[0], item_N, Catalog(one[1], item_C, log_weight_C), chunk)
    expected = plain_loss(*other, place_N, log_weight_C)
    torch.testing.assert_close(torch.stack([loss, accuracy]), torch.stack(expected))
    (3 * loss).backward()
    (3 * expected[0]).backward()
    for mine, plain in zip(one, other, strict=True):
        torch.testing.assert_close(mine.grad, plain.grad, rtol=1e-4, atol=1e-6)


def test_without_a_gradient_the_loss_is_the_same():
    torch.manual_seed(0)
    query, catalog = torch.randn(5, 4), Catalog(torch.randn(9, 4, requires_grad=True))
    item_N = torch.arange(5)
    told = item_loss(query, item_N, catalog, 0)[0]
    with torch.no_grad():
        assert torch.equal(item_loss(query, item_N, catalog, 0)[0], told.detach())


@pytest.mark.parametrize("items", [10, 4_000, 100_000, 1_000_000, 20_000_000])
def test_logits_that_are_held_at_once_stay_within_bounds(items):
    for device in ("cpu", "cuda"):
        rows = rows_at_once(items, device)
        assert rows == 1 or rows * items <= 8 << 20


def test_the_score_is_the_cosine_over_the_temperature(make_sequences):
    sequences = open_sequences(make_sequences(LENGTHS))
    model, objective = small_pair("next", sequences, "hstu", ("item",), 40, temperature=0.05)
    sample = objective.read(sequences, Draw(0, 0, USERS))
    states_TD = model.encoder.states(model.behavior(sample), sample)
    logits_TV = F.normalize(states_TD, dim=1) @ F.normalize(model.behavior.items(), dim=1).T / 0.05
    has_next_T = sample.position_T + 1 < sample.lengths_B[sample.sequence_T]
    expected = F.cross_entropy(logits_TV[has_next_T], sample.item_T.roll(-1)[has_next_T])
    torch.testing.assert_close(objective(model, sample).loss, expected)

    scorer = native(objective.options, model, sequences)
    assert scorer is not None
    last_T = ~has_next_T
    order = torch.argsort(sample.sequence_T[last_T])
    scored_BV = scorer(sequences.windows(USERS, np.zeros(6, int), np.array(LENGTHS)))
    torch.testing.assert_close(scored_BV, 0.05 * logits_TV[last_T][order])


def test_windows_are_the_last_events_where_asked_for(make_sequences):
    sequences = open_sequences(make_sequences(LENGTHS))
    _, objective = small_pair("next", sequences, "hstu", ("item",), 10, windows="last")
    sample = objective.read(sequences, Draw(0, 0, USERS))
    for user, length in enumerate(LENGTHS):
        end = sequences.offsets[user + 1]
        expected = sequences.item[end - min(10, length) : end]
        assert sample.item_T[sample.sequence_T == user].tolist() == expected.tolist()
    _, usual = small_pair("next", sequences, "hstu", ("item",), 10)
    assert (
        len({tuple(usual.read(sequences, Draw(0, e, USERS)).item_T.tolist()) for e in (0, 1)}) == 2
    )


def trained_ranks(sequences, steps=150):
    """Trains on all but each user's last event, and ranks that among all items."""
    lengths = sequences.lengths
    ends = lengths - 1
    model, objective = small_pair("next", sequences, "hstu", ("item",), 40, temperature=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    everyone = np.arange(sequences.users)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        some = rng.permutation(everyone)[:64]
        past = sequences.windows(some, np.zeros(len(some), int), ends[some])
        loss = objective(model, pack(past)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right_n = sequences.item[sequences.offsets[1:] - 1].astype(np.int64)
    examples = Labeled(everyone, ends, right_n)
    scorer = native(objective.options, model, sequences)
    assert scorer is not None
    scores_nV = scorer(last_windows(sequences, examples, 40))
    return rank_items(scores_nV, sequences, examples, exclude=False)


def test_a_cycle_of_items_becomes_predictable(make_sequences):
    lengths, rng = [20] * 30, np.random.default_rng(0)
    item = np.concatenate([3 + (rng.integers(12) + np.arange(20)) % 12 for _ in lengths])
    sequences = open_sequences(make_sequences(lengths, item=item.astype(np.int32)))
    ranks = trained_ranks(sequences)
    assert (ranks.above_n == 0).mean() > 0.9
    fresh = trained_ranks(sequences, steps=0)
    assert (fresh.above_n == 0).mean() < 0.4
