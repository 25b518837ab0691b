import dataclasses
import datetime as dt
from functools import partial

import numpy as np
import pytest
import torch

from models.data.packed import MASK, age_buckets
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.nn.user_model import build_model
from models.objectives.byb import _weights
from models.training.health import effective_rank
from tests.builders.models import (
    FIELDS,
    build_objective,
    sampled,
    small_model,
    small_pair,
)

DAY = 86_400
LENGTHS = [30, 3, 17, 9, 29, 12]
USERS = np.arange(len(LENGTHS))
build = partial(small_pair, "byb", projector=8)


@pytest.fixture
def sequences(make_sequences):
    # One event a day, and a year of silence before the last event of the last user.
    time = np.concatenate([np.arange(n) * DAY for n in LENGTHS]).astype(np.int64)
    time[-1] += 365 * DAY
    return open_sequences(make_sequences(LENGTHS, time=time))


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
    before = model.behavior.items().detach().clone()
    with torch.no_grad():
        model.behavior.items().add_(1.0)
    objective.after_step(model, 0.0)
    torch.testing.assert_close(objective.teacher.behavior.items(), before + 0.1)
    objective.after_step(model, 1.0)  # at the end it stands still
    torch.testing.assert_close(objective.teacher.behavior.items(), before + 0.1)


@pytest.mark.parametrize("hidden_weight", [0.0, 1.0])  # without: few items have a gradient
def test_a_teacher_that_follows_row_by_row_is_the_one_that_follows_at_every_step(
    sequences, hidden_weight
):
    found = []
    for is_lazy in (False, True):
        torch.manual_seed(0)
        config = dataclasses.replace(
            small_model(sequences.sizes, dropout=0.0).config, is_lazy=is_lazy
        )
        model = build_model(config)
        options = {"projector": 8, "momentum": 0.9, "hidden_weight": hidden_weight}
        objective = build_objective("byb", config, options)
        trained = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.5)
        losses = []
        for epoch in range(12):
            _, sample = sampled(objective, sequences, epoch)
            loss = objective(model, sample).loss
            optimizer.zero_grad()
            loss.backward()
            objective.before_step(model)
            optimizer.step()
            objective.after_step(model, epoch / 24)
            losses.append(loss.detach())
        objective._catch_up(model, slice(None))
        found.append((torch.stack(losses), objective.teacher.behavior.items().detach()))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-4, atol=1e-5)


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


BY_TIME = {"cut": "time", "events": [], "days": [3.0], "hide_share": 0.0}
UNTIL = 40  # days that are known


@pytest.fixture
def timed(make_sequences):
    """One event a day from the first day on, and then nothing; the last is there since day 38."""
    days = [np.arange(n) for n in LENGTHS]
    days[-1] = 38 + np.arange(LENGTHS[-1]) / 8
    time = (np.concatenate(days) * DAY + 100 * DAY).astype(np.int64)
    cutoff = dt.datetime.fromtimestamp((100 + UNTIL) * DAY, dt.UTC).isoformat()
    return open_sequences(make_sequences(LENGTHS, time=time, train_cutoff=cutoff)).with_clock()


def test_cut_in_time_past_and_future_lie_on_either_side_of_the_instant(timed):
    _, objective = build(timed, **BY_TIME)
    silent = looks = 0
    for epoch in range(40):
        windows, sample = sampled(objective, timed, epoch)
        chance = Draw(0, epoch, USERS).uniform("cut", 1)[:, 0]
        for user in USERS.tolist():
            time = windows.time_T[windows.sequence_T == user]
            latest = max((100 + UNTIL - 3) * DAY, int(time[0]))
            at = int(time[0]) + int(chance[user] * (latest - int(time[0])))
            past = sample.past.item_T[sample.past.sequence_T == user]
            items = windows.item_T[windows.sequence_T == user]
            assert past.tolist() == items[time <= at].tolist()[-20:]
            ages = sample.past.age_T[sample.past.sequence_T == user]
            assert torch.equal(ages, age_buckets(at - time[time <= at])[-20:])
            ahead = items[(time > at) & (time <= at + 3 * DAY)]
            where = (sample.user_F == user).nonzero()[:, 0]
            assert len(where) == (len(ahead) > 0)
            if len(ahead):
                future = sample.future.item_T[sample.future.sequence_T == where]
                assert future.tolist() == ahead.tolist()[:20]
            is_known = at + 3 * DAY < (100 + UNTIL) * DAY
            assert (user in sample.silent_E) == (not len(ahead) and is_known)
            looks += 1
            silent += user in sample.silent_E
    assert 0.3 < silent / looks < 0.8


def test_cut_in_time_the_student_does_not_know_when_the_future_comes(timed):
    model, objective = build(timed, **BY_TIME)
    model.eval()
    for epoch in range(10):
        _, told = sampled(objective, timed, epoch)
        chance = Draw(0, epoch, USERS).uniform("cut", 1)[:, 0]

        def change_future(windows, chance=chance):
            first = windows.time_T[windows.starts_B]
            span = ((100 + UNTIL - 3) * DAY - first).clamp(min=0)
            at = (first + torch.from_numpy(chance * span.numpy()).long())[windows.sequence_T]
            later = windows.time_T > at
            time = torch.where(later, windows.time_T + 2 * DAY, windows.time_T)
            item = torch.where(later, 3 + windows.item_T % 40, windows.item_T)
            return dataclasses.replace(windows, time_T=time, item_T=item)

        _, other = sampled(objective, timed, epoch, change_future)
        assert torch.equal(model(told.past), model(other.past))


def test_a_new_user_whose_window_is_not_over_counts_as_silent_for_nobody(make_sequences):
    time = np.full(len(USERS), 100 * DAY)
    cutoff = dt.datetime.fromtimestamp(102 * DAY, dt.UTC).isoformat()
    pointer = make_sequences([1] * len(USERS), time=time, train_cutoff=cutoff)
    new = open_sequences(pointer).with_clock()
    for days, silent in ((1.0, len(USERS)), (3.0, 0)):
        _, sample = sampled(build(new, **(BY_TIME | {"days": [days]}))[1], new)
        assert len(sample.user_F) == 0
        assert len(sample.silent_E) == silent


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("seen", "silent"), [(3, 17), (10, 10), (17, 3), (5, 0), (0, 6)])
def test_the_silent_weigh_at_most_their_share(share, seen, silent):
    is_silent = torch.arange(seen + silent) >= seen
    weights = _weights(is_silent, share)
    if seen:
        assert abs(float(weights.sum()) - 1) < 1e-6
        expected = min(share, silent / (seen + silent))
        assert abs(float(weights[is_silent].sum()) - expected) < 1e-6
    else:
        assert float(weights.sum()) == 0


def test_who_stays_silent_is_told_from_who_does_not(timed):
    """The prediction for a user with an empty window comes nearer to nothing than the others'."""
    fields = (*FIELDS, "age")
    torch.manual_seed(0)
    model = small_model(timed.sizes, fields=fields, dropout=0.0)
    options = BY_TIME | {"projector": 8, "hidden_weight": 0.0}
    objective = build_objective("byb", model.config, options)
    trained = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    for epoch in range(150):
        _, sample = sampled(objective, timed, epoch)
        outcome = objective(model, sample)
        share = 1 - len(sample.user_F) / len(USERS)
        assert float(outcome.figures["empty"]) == pytest.approx(share)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        objective.after_step(model, epoch / 150)
    near = {True: [], False: []}
    objective.eval()
    with torch.no_grad():
        nothing = objective.teacher_projector(objective.nothing_D.expand(1, -1))
        for epoch in range(200, 230):
            _, sample = sampled(objective, timed, epoch)
            users = model(sample.past) + objective.prompt(sample.window_B)
            told = objective.predictor(objective.projector(users))
            likeness = torch.cosine_similarity(told, nothing)
            near[True] += likeness[sample.silent_E].tolist()
            near[False] += likeness[sample.user_F].tolist()
    assert np.mean(near[True]) > np.mean(near[False]) + 0.08
