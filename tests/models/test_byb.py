import dataclasses

import numpy as np
import pytest
import torch

from contracts.errors import FootpathError
from models.data import open_sequences
from models.draw import Draw
from models.health import effective_rank
from models.objectives import build_objective
from models.packed import MASK
from models.user_model import ModelConfig, build_model

FIELDS = ("item", "action", "category", "gap", "position")
DAY = 86_400
LENGTHS = [30, 3, 17, 9, 29, 12]
USERS = np.arange(len(LENGTHS))


@pytest.fixture
def sequences(make_sequences):
    # One event a day, and a year of silence before the last event of the last user.
    time = np.concatenate([np.arange(n) * DAY for n in LENGTHS]).astype(np.int64)
    time[-1] += 365 * DAY
    return open_sequences(make_sequences(LENGTHS, time=time))


def build(sequences, **options):
    torch.manual_seed(0)
    model = build_model(ModelConfig("bag", 16, 20, FIELDS, {"dropout": 0.0}, sequences.sizes))
    return model, build_objective("byb", model.config, {"projector": 8} | options)


def sampled(objective, sequences, epoch=0, change=None):
    draw = Draw(0, epoch, USERS)
    windows = sequences.random_windows(draw, 40)
    if change:
        windows = change(windows)
    return windows, objective.sample(windows, windows, draw)


def cut_of(sequences, epoch):
    return 1 + Draw(0, epoch, USERS).integers("cut", np.array(LENGTHS) - 1)[:, 0]


def test_the_student_never_sees_what_it_predicts(sequences):
    model, objective = build(sequences, hide_share=0.0)
    for epoch in range(5):
        cut = torch.from_numpy(cut_of(sequences, epoch))

        def change_future(windows, cut=cut):
            future = windows.position_T >= cut[windows.sequence_T]
            item = torch.where(future, 3 + (windows.item_T % 40), windows.item_T)
            action = torch.where(future, 7 - windows.action_T, windows.action_T)
            return dataclasses.replace(windows, item_T=item, action_T=action)

        _, told = sampled(objective, sequences, epoch)
        _, other = sampled(objective, sequences, epoch, change_future)
        assert torch.equal(model(told.past), model(other.past))
        assert not torch.equal(model(told.future), model(other.future))


def test_past_and_future_are_what_lies_before_and_after_the_cut(sequences):
    _, objective = build(sequences, hide_share=0.0, events=[4])
    for epoch in range(5):
        windows, sample = sampled(objective, sequences, epoch)
        for user, cut in enumerate(cut_of(sequences, epoch)):
            items = windows.item_T[windows.sequence_T == user].tolist()
            past = sample.past.item_T[sample.past.sequence_T == user]
            future = sample.future.item_T[sample.future.sequence_T == user]
            assert past.tolist() == items[max(0, cut - 20) : cut]
            assert future.tolist() == items[cut : cut + 4]


def test_a_window_of_days_ends_with_its_last_day_and_may_be_empty(sequences):
    _, objective = build(sequences, hide_share=0.0, events=[], days=[3.0])
    empty = 0
    for epoch in range(20):
        _, sample = sampled(objective, sequences, epoch)
        cut = cut_of(sequences, epoch)
        expected = np.minimum(LENGTHS - cut, 3)
        # The last event of the last user is a year away.
        expected[-1] = min(LENGTHS[-1] - 1 - cut[-1], 3)
        users = np.flatnonzero(expected)
        assert sample.user_F.tolist() == users.tolist()
        assert sample.future.lengths_B.tolist() == expected[users].tolist()
        empty += len(USERS) - len(users)
    assert empty


def test_a_batch_without_any_future_still_has_a_loss(sequences):
    model, objective = build(sequences, events=[], days=[0.001])
    _, sample = sampled(objective, sequences)
    assert sample.future is None
    outcome = objective(model, sample)
    assert float(outcome.figures["empty"]) == 1
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss)


def test_the_teacher_begins_as_the_student_and_follows_it(sequences):
    model, objective = build(sequences, momentum=0.9)
    _, sample = sampled(objective, sequences)
    objective(model, sample)
    for mine, its in zip(objective.teacher.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, its)
    before = model.behaviour.items().detach().clone()
    with torch.no_grad():
        model.behaviour.items().add_(1.0)
    objective.after_step(model, 0.0)
    torch.testing.assert_close(objective.teacher.behaviour.items(), before + 0.1)
    objective.after_step(model, 1.0)  # at the end it stands still
    torch.testing.assert_close(objective.teacher.behaviour.items(), before + 0.1)


@pytest.mark.parametrize("loss", ["byol", "dino"])
def test_no_gradient_reaches_the_teacher_and_the_loss_falls(sequences, loss):
    model, objective = build(sequences, loss=loss)
    trained = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    losses = []
    for epoch in range(80):
        _, sample = sampled(objective, sequences, epoch)
        outcome = objective(model, sample)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        objective.after_step(model, epoch / 80)
        losses.append(float(outcome.loss.detach()))
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_what_is_hidden_is_hidden_and_predicted(sequences):
    _, objective = build(sequences, hide_share=0.5)
    _, whole = sampled(build(sequences, hide_share=0.0)[1], sequences)
    _, sample = sampled(objective, sequences)
    is_hidden = sample.past.item_T == MASK
    assert len(sample.hidden.item_N) == int(is_hidden.sum()) > 5
    assert sorted(sample.hidden.item_N.tolist()) == sorted(whole.past.item_T[is_hidden].tolist())


def test_a_collapse_shows_in_the_health_figures(sequences):
    model, objective = build(sequences)
    _, sample = sampled(objective, sequences)
    healthy = effective_rank(objective(model, sample).users_BD)
    with torch.no_grad():
        model.encoder.after.weight.zero_()
    assert effective_rank(objective(model, sample).users_BD) < 1.01 < healthy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"events": []}, "give a window"),
        ({"days": [-1.0]}, "above 0"),
        ({"momentum": 2.0}, "momentum"),
        ({"loss": "mse"}, "byol, dino"),
    ],
)
def test_a_wrong_option_is_named(sequences, options, said):
    with pytest.raises(FootpathError, match=said):
        build(sequences, **options)
