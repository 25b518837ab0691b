import math

import numpy as np
import pytest
import torch

from contracts.base.errors import FootpathError
from models.data.packed import MASK
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.objectives.barlow_twins import standardized
from models.objectives.coles import info_nce
from models.objectives.views import hidden, reordered, slices
from models.training.trainer import eligible_users
from tests.builders.models import small_pair

USERS = np.arange(6)


@pytest.fixture
def sequences(make_sequences):
    items = np.concatenate([np.arange(3, 3 + n) for n in (30, 3, 17, 9, 29, 12)]).astype(np.int32)
    return open_sequences(make_sequences([30, 3, 17, 9, 29, 12], item=items))


@pytest.fixture
def windows(sequences):
    return sequences.random_windows(Draw(0, 0, USERS), 64)


def parts(events, field="item_T"):
    return [part.tolist() for part in getattr(events, field).split(events.lengths_B.tolist())]


def test_a_slice_is_a_run_of_its_own_user_s_events(windows):
    for epoch in range(20):
        view = slices(windows, Draw(0, epoch, USERS), "a", 5, 20)
        for whole, part in zip(parts(windows), parts(view), strict=True):
            first = whole.index(part[0])
            assert part == whole[first : first + len(part)]
            assert min(5, len(whole)) <= len(part) <= 20
        assert parts(view, "position_T") == [list(range(n)) for n in view.lengths_B.tolist()]


def test_two_slices_of_a_user_are_drawn_apart(windows):
    draw = Draw(0, 0, USERS)
    assert parts(slices(windows, draw, "a", 5, 20)) != parts(slices(windows, draw, "b", 5, 20))


def test_reordering_moves_only_a_part_of_each_sequence(windows):
    moved = 0
    for epoch in range(20):
        view = reordered(windows, Draw(0, epoch, USERS), "a", 0.5)
        for whole, part in zip(parts(windows), parts(view), strict=True):
            assert sorted(part) == whole  # items of these sequences rise
            differs = [n for n, item in enumerate(part) if item != whole[n]]
            moved += len(differs)
            if differs:
                assert differs[-1] - differs[0] < max(1, len(whole) // 2)
    assert moved > 100


def test_hiding_leaves_something_of_every_user(windows):
    view = hidden(windows, Draw(0, 0, USERS), "a", 0.99)
    seen = [sum(item != MASK for item in part) for part in parts(view)]
    assert min(seen) >= 1
    assert sum(seen) < 20


def test_info_nce_is_the_mean_of_both_directions(windows):
    a, b = torch.randn(2, 4, 8)
    loss, _ = info_nce(torch.cat([a, b]), 0.5)
    views = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    expected = 0.0
    for n in range(8):
        others = [math.exp(float(views[n] @ views[m]) / 0.5) for m in range(8) if m != n]
        expected -= math.log(math.exp(float(views[n] @ views[(n + 4) % 8]) / 0.5) / sum(others)) / 8
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_coles_adds_the_mean_loss_of_what_its_slices_hide(sequences, windows):
    model, plain = small_pair("coles", sequences, hide_share=0.5)
    helped = small_pair("coles", sequences, hide_share=0.5, hidden_weight=2.0)[1]
    sample = helped.sample(windows, windows, Draw(0, 0, USERS))
    whole = slices(windows, Draw(0, 0, USERS), "a", 5, model.config.max_length)
    seen = hidden(whole, Draw(0, 0, USERS), "a", 0.5)
    pairs = zip(sample.hidden.view_N.tolist(), sample.hidden.item_N.tolist(), strict=True)
    told = [(view, item) for view, item in pairs if view < len(USERS)]
    is_hidden = seen.item_T == MASK
    assert told == list(
        zip(whole.sequence_T[is_hidden].tolist(), whole.item_T[is_hidden].tolist(), strict=True)
    )
    logs_VI = (model(sample.views) @ model.behavior.items().T).log_softmax(dim=1)
    helper = -logs_VI[sample.hidden.view_N, sample.hidden.item_N].mean()
    difference = helped(model, sample).loss - plain(model, sample).loss
    assert float(difference) == pytest.approx(2 * float(helper), rel=1e-4)


def test_barlow_twins_loss_is_that_of_the_equation(sequences, windows):
    model, objective = small_pair("barlow", sequences, projector=8, redundancy=0.1)
    objective.eval()
    sample = objective.sample(windows, windows, Draw(0, 0, USERS))
    outcome = objective(model, sample)
    z = objective.projector(model(sample)).detach()
    a, b = ((part - part.mean(0)) / part.std(0, correction=0) for part in (z[:6], z[6:]))
    expected = 0.0
    for i in range(8):
        for j in range(8):
            c = float((a[:, i] * b[:, j]).sum()) / 6
            expected += (1 - c) ** 2 if i == j else 0.1 * c**2
    assert float(outcome.loss) == pytest.approx(expected, rel=1e-3)


def test_small_batches_share_their_correlations_with_those_before(sequences, windows):
    options = {"projector": 8, "redundancy": 0.1, "hide_share": 0.0}
    model, objective = small_pair("barlow", sequences, **options, memory_users=24)
    model.eval()
    samples = [objective.sample(windows, windows, Draw(0, n, USERS)) for n in range(3)]

    def correlation(sample):
        a, b = map(standardized, objective.projector(model(sample)).chunk(2))
        return a.T @ b / 6

    with torch.no_grad():
        alone = [correlation(sample) for sample in samples]
    for sample in samples:
        outcome = objective(model, sample)
    # Each step fades by a share of 6 in 24 users.
    parts = [0.75**2 * alone[0], 0.75 * alone[1], alone[2]]
    averaged = sum(parts) / (0.75**2 + 0.75 + 1)
    diagonal = averaged.diagonal()
    overlap = averaged.square().sum() - diagonal.square().sum()
    expected = (1 - diagonal).square().sum() + 0.1 * overlap
    assert float(outcome.loss) == pytest.approx(float(expected), rel=1e-4)

    weights = list(objective.projector.parameters())
    found = torch.autograd.grad(outcome.loss, weights)
    now = correlation(samples[2])
    slope = 0.2 * averaged
    slope.diagonal().copy_(-2 * (1 - diagonal))
    for mine, its in zip(found, torch.autograd.grad(now, weights, slope), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-4)


def test_a_batch_of_enough_users_is_its_own_average_and_so_is_the_short_one_after(
    sequences, windows
):
    options = {"projector": 8, "hide_share": 0.0}
    model, objective = small_pair("barlow", sequences, **options, memory_users=6)
    _, plain = small_pair("barlow", sequences, **options, memory_users=0)
    plain.load_state_dict(objective.state_dict())
    model.eval()
    few = sequences.random_windows(Draw(0, 0, USERS[:4]), 64)
    for n, (seen, users) in enumerate([(windows, USERS), (few, USERS[:4])] * 2):
        sample = objective.sample(seen, seen, Draw(0, n, users))
        assert float(objective(model, sample).loss) == float(plain(model, sample).loss)


def test_a_collapsed_dimension_costs_its_whole_agreement():
    collapsed = standardized(torch.ones(5, 3))
    assert torch.isfinite(collapsed).all()
    assert float((1 - (collapsed.T @ collapsed / 5).diagonal()).square().sum()) == 3


@pytest.mark.parametrize(("method", "options"), [("coles", {}), ("barlow", {"projector": 4})])
def test_the_loss_falls(method, options, sequences, windows):
    model, objective = small_pair(method, sequences, **options)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    losses = []
    for epoch in range(60):
        sample = objective.sample(windows, windows, Draw(0, epoch, USERS))
        outcome = objective(model, sample)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(float(outcome.loss))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


def test_one_user_cannot_be_compared(make_sequences):
    sequences = open_sequences(make_sequences([12, 1]))
    _, objective = small_pair("barlow", sequences)
    with pytest.raises(FootpathError, match="at least 2"):
        eligible_users(sequences, objective)
