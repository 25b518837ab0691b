import math
from functools import partial

import numpy as np
import pytest
import torch

from models.data.packed import MASK
from models.data.rng import Draw
from models.data.sequences import open_sequences
from tests.builders.models import small_pair

USERS = np.arange(6)
build = partial(small_pair, "ptum", encoder="bert4rec", max_length=32)


@pytest.fixture
def sequences(make_sequences):
    return open_sequences(make_sequences([30, 3, 17, 9, 29, 12, 30]))


def inputs(sequences, objective, epoch=0):
    draw = Draw(0, epoch, USERS)
    return sequences.random_windows(draw, 32), sequences.others(draw, objective.others), draw


@pytest.mark.parametrize("encoder", ["bert4rec", "gru4rec"])
@pytest.mark.parametrize("field", ["item_T", "action_T", "category_T", "gap_T", "value_T"])
def test_what_is_hidden_does_not_reach_the_vector_that_predicts_it(sequences, encoder, field):
    model, objective = build(sequences, encoder=encoder)
    windows, others, draw = inputs(sequences, objective)
    sample = objective.sample(windows, others, draw)
    before = model(sample.views)[: len(USERS)]
    hidden = _hidden_events(windows, sample)
    values = getattr(windows, field)
    values[hidden] = torch.where(values[hidden] == 4, 3, 4).to(values.dtype)
    after = model(objective.sample(windows, others, draw).views)[: len(USERS)]
    assert torch.equal(before, after)


def test_no_gradient_reaches_the_hidden_item_through_the_input(make_sequences):
    items = np.concatenate([np.arange(3, 33), np.arange(3, 20)]).astype(np.int32)
    sequences = open_sequences(make_sequences([30, 17], item=items))  # an item once in a history
    model, objective = build(sequences)
    draw = Draw(0, 0, np.array([0]))
    windows = sequences.random_windows(draw, 32)
    sample = objective.sample(windows, sequences.others(draw, objective.others), draw)
    model(sample.views)[:1].square().sum().backward()
    grad = model.behavior.items().grad
    hidden = windows.item_T[_hidden_events(windows, sample)]
    assert torch.all(grad[hidden] == 0)
    assert torch.all(grad[MASK] != 0)
    assert (grad.abs().sum(1) > 0).sum() == 30  # 29 seen items and [MASK]


def test_the_next_events_do_not_reach_the_vector_that_predicts_them(sequences):
    model, objective = build(sequences)
    windows, others, draw = inputs(sequences, objective)
    before = model(objective.sample(windows, others, draw).views)[len(USERS) :]
    ends = windows.starts_B + windows.lengths_B
    future = torch.cat([ends - 1, ends - 2])
    for field in ("item_T", "action_T", "category_T", "gap_T", "time_T"):
        getattr(windows, field)[future] = 4
    after = model(objective.sample(windows, others, draw).views)[len(USERS) :]
    assert torch.equal(before, after)


def test_targets_are_the_hidden_event_and_the_next_two(sequences):
    _, objective = build(sequences)
    windows, others, draw = inputs(sequences, objective)
    sample = objective.sample(windows, others, draw)
    assert sample.item_NC.shape == (6 + 12, 5)
    targets = sample.item_NC[:, 0]
    assert torch.equal(targets[:6], windows.item_T[_hidden_events(windows, sample)])
    ends = windows.starts_B + windows.lengths_B
    nexts = torch.stack([windows.item_T[ends - 2], windows.item_T[ends - 1]], dim=1)
    assert torch.equal(targets[6:], nexts.reshape(-1))
    assert sample.view_N.tolist() == [*range(6), *np.repeat(range(6, 12), 2)]
    lengths = sample.views.lengths_B
    assert torch.equal(lengths[6:], lengths[:6] - 2)


def test_negatives_are_other_behaviors_of_other_users(sequences):
    _, objective = build(sequences)
    windows, others, draw = inputs(sequences, objective)
    sample = objective.sample(windows, others, draw)
    same = (sample.item_NC[:, 1:] == sample.item_NC[:, :1]) & (
        sample.action_NC[:, 1:] == sample.action_NC[:, :1]
    )
    assert torch.equal(same, sample.equal_NC[:, 1:])
    assert not same.any()
    outcome = objective(build(sequences)[0], sample)
    assert torch.isfinite(outcome.loss)


def test_a_negative_that_equals_its_target_does_not_count(make_sequences):
    one_item = {"item": np.full(20, 5, np.int32), "action": np.full(20, 3, np.int32)}
    sequences = open_sequences(make_sequences([10, 10], **one_item))
    model, objective = build(sequences)
    draw = Draw(0, 0, np.array([0, 1]))
    windows = sequences.random_windows(draw, 32)
    sample = objective.sample(windows, sequences.others(draw, objective.others), draw)
    assert float(objective(model, sample).loss) == 0.0  # nothing is left to be told from


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
def test_loss_without_knowledge_is_that_of_equation_three(sequences, weight):
    model, objective = build(sequences, next_weight=weight)
    with torch.no_grad():
        for table in model.behavior.tables.values():
            table.zero_()  # every candidate scores the same
    outcome = objective(model, objective.sample(*inputs(sequences, objective)))
    assert math.isclose(float(outcome.loss), (1 + weight) * math.log(5), rel_tol=1e-5)


def test_many_masks_hide_about_the_share_and_leave_one_event(sequences):
    _, objective = build(sequences, hide_share=0.5, negatives=0, next_weight=0.0)
    shares = []
    for epoch in range(20):
        windows, others, draw = inputs(sequences, objective, epoch)
        sample = objective.sample(windows, others, draw)
        masked = torch.zeros(6).index_add(
            0, sample.views.sequence_T, (sample.views.item_T == MASK).float()
        )
        assert torch.all(masked >= 1)
        assert torch.all(masked < windows.lengths_B)
        assert math.isclose(float(sample.weight_N.sum()), 1, rel_tol=1e-5)
        assert len(sample.weight_N.unique()) == 1  # a hidden event weighs as much as any other
        shares.append(float(masked.sum() / windows.lengths_B.sum()))
    assert abs(np.mean(shares) - 0.5) < 0.05


def test_full_softmax_is_over_the_whole_vocabulary(sequences):
    model, objective = build(sequences, negatives=0, next_weight=0.0)
    with torch.no_grad():
        model.behavior.items().zero_()
    outcome = objective(model, objective.sample(*inputs(sequences, objective)))
    assert math.isclose(float(outcome.loss), math.log(sequences.sizes["item"]), rel_tol=1e-5)


def test_many_targets_of_a_user_cost_one_softmax_and_give_the_same_loss(sequences):
    model, objective = build(sequences, hide_share=0.5, negatives=0)
    sample = objective.sample(*inputs(sequences, objective))
    outcome = objective(model, sample)
    logits = outcome.users_BD[sample.view_N] @ model.behavior.items().T
    losses = torch.nn.functional.cross_entropy(logits, sample.item_NC[:, 0], reduction="none")
    torch.testing.assert_close(outcome.loss, (losses * sample.weight_N).sum())


def _hidden_events(windows, sample):
    """The events that are [MASK] in the masked views, by their place in the windows."""
    views = sample.views
    at = (views.item_T == MASK) & (views.sequence_T < len(windows.lengths_B))
    assert at.sum() == len(windows.lengths_B)  # one a user
    return torch.sort(windows.starts_B[views.sequence_T[at]] + views.position_T[at]).values
