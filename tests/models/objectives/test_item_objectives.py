import dataclasses

import numpy as np
import pytest
import torch

from models.data.packed import MASK, pack
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.objectives.masked_item import sampled_loss
from tests.builders.models import FIELDS, sampled, small_pair

LENGTHS = [30, 3, 17, 9, 29, 12]
USERS = np.arange(len(LENGTHS))
WAYS = [
    ("next", "gru4rec", {}),
    ("next", "bert4rec", {"causal": True}),
    ("masked", "bert4rec", {}),
    ("dual", "bag", {}),
    ("msdp", "bag", {}),
]


@pytest.fixture
def sequences(make_sequences):
    return open_sequences(make_sequences(LENGTHS))


def build(method, encoder, sequences, shape=None, **options):
    return small_pair(method, sequences, encoder, FIELDS, 40, shape, **options)


def changed_after(cut_B):
    """Returns what puts other items behind the cut of each sequence."""

    def change(windows):
        is_after = windows.position_T >= cut_B[windows.sequence_T]
        item_T = torch.where(is_after, 3 + windows.item_T % 40, windows.item_T)
        return dataclasses.replace(windows, item_T=item_T)

    return change


@pytest.mark.parametrize(("encoder", "options"), [("gru4rec", {}), ("bert4rec", {"causal": True})])
def test_no_state_of_a_causal_encoder_sees_a_later_event(sequences, encoder, options):
    model, objective = build("next", encoder, sequences, options)
    cut_B = torch.tensor([n // 2 for n in LENGTHS])
    _, told = sampled(objective, sequences)
    _, other = sampled(objective, sequences, change=changed_after(cut_B))
    states = [model.encoder.states(model.behavior(part), part) for part in (told, other)]
    before = told.position_T < cut_B[told.sequence_T]
    torch.testing.assert_close(states[0][before], states[1][before])
    assert not torch.equal(states[0][~before], states[1][~before])


def test_the_next_item_of_each_event_is_its_target(sequences):
    model, objective = build("next", "gru4rec", sequences, chunk=7)
    windows, sample = sampled(objective, sequences)
    states = model.encoder.states(model.behavior(sample), sample)
    losses = []
    for user in range(len(LENGTHS)):
        state = states[sample.sequence_T == user]
        items = windows.item_T[windows.sequence_T == user]
        logits = state[:-1] @ model.behavior.items().T
        losses.append(torch.nn.functional.cross_entropy(logits, items[1:], reduction="sum"))
    expected = torch.stack(losses).sum() / (sum(LENGTHS) - len(LENGTHS))
    torch.testing.assert_close(objective(model, sample).loss, expected)


def test_what_is_masked_does_not_reach_the_states(sequences):
    model, objective = build("masked", "bert4rec", sequences, hide_share=0.5)
    windows, sample = sampled(objective, sequences)
    is_hidden = sample.view.item_T == MASK
    assert 0.3 < is_hidden.float().mean() < 0.6
    whole = pack(windows)
    assert torch.equal(sample.view.item_T[~is_hidden], whole.item_T[~is_hidden])
    assert torch.equal(sample.hidden_N, torch.nonzero(is_hidden)[:, 0])
    assert torch.equal(sample.item_N, whole.item_T[is_hidden])
    other = dataclasses.replace(sample, item_N=3 + sample.item_N % 40)
    before, after = objective(model, sample), objective(model, other)
    assert torch.equal(before.users_BD, after.users_BD)
    assert not torch.equal(before.loss, after.loss)


def test_masked_users_are_the_means_of_their_hidden_states(sequences):
    model, objective = build("masked", "bert4rec", sequences, hide_share=0.2)
    model.eval()
    _, sample = sampled(objective, sequences)
    states = model.encoder.states(model.behavior(sample.view), sample.view)
    whose = sample.view.sequence_T[sample.hidden_N]
    means = [states[sample.hidden_N[whose == user]].mean(0) for user in whose.unique()]
    torch.testing.assert_close(objective(model, sample).users_BD, torch.stack(means))


@pytest.mark.parametrize("method", ["dual", "msdp"])
def test_the_past_holds_nothing_of_what_is_predicted(sequences, method):
    model, objective = build(method, "bag", sequences)
    for epoch in range(5):
        cut_B = 1 + torch.from_numpy(
            Draw(0, epoch, USERS).integers("cut", np.array(LENGTHS) - 1)[:, 0]
        )
        _, told = sampled(objective, sequences, epoch)
        _, other = sampled(objective, sequences, epoch, changed_after(cut_B))
        assert torch.equal(model(told.past), model(other.past))


def test_msdp_s_targets_are_the_shares_of_the_items_to_come(sequences):
    _, objective = build("msdp", "bag", sequences, events=[4], agreement=0.0)
    windows, sample = sampled(objective, sequences)
    cut = 1 + Draw(0, 0, USERS).integers("cut", np.array(LENGTHS) - 1)[:, 0]
    for user, length in enumerate(LENGTHS):
        items = windows.item_T[windows.sequence_T == user][cut[user] : cut[user] + 4]
        expected = torch.bincount(items, minlength=43) / len(items)
        torch.testing.assert_close(sample.shares_WBK[0, user], expected)
        assert length > cut[user]


def test_an_item_twice_in_a_batch_is_no_negative_of_itself(sequences):
    model, objective = build("dual", "bag", sequences)
    objective.eval()
    _, sample = sampled(objective, sequences)
    same = dataclasses.replace(sample, item_B=torch.full_like(sample.item_B, 5))
    assert float(objective(model, same).loss.detach()) == 0.0


@pytest.mark.parametrize(("method", "encoder", "encoder_options"), WAYS)
def test_the_loss_falls(method, encoder, encoder_options, sequences):
    model, objective = build(method, encoder, sequences, encoder_options)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    losses = []
    for epoch in range(50):
        _, sample = sampled(objective, sequences, epoch)
        loss = objective(model, sample).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:5])


def test_a_sampled_softmax_is_the_full_one_over_the_target_and_its_others():
    torch.manual_seed(0)
    states_ND, table_VD = torch.randn(3, 8), torch.randn(6, 8)
    item_N, other_NP = torch.tensor([5, 4, 3]), torch.tensor([[3, 4], [4, 3], [5, 5]])
    candidate_NC = torch.cat([item_N[:, None], other_NP], dim=1)
    loss, _ = sampled_loss(states_ND, candidate_NC, table_VD[candidate_NC])
    logits_NV = states_ND @ table_VD.T
    rows = [[5, 3, 4], [4, 3], [3, 5, 5]]  # the target drawn as its own other does not count
    each = [logits_NV[n, row].logsumexp(0) - logits_NV[n, row[0]] for n, row in enumerate(rows)]
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_masked_item_with_negatives_learns_from_others_of_the_same_user(sequences):
    model, objective = build("masked", "bert4rec", sequences, negatives=4)
    draw = Draw(0, 0, USERS)
    others = sequences.others(draw, objective.others)
    sample = objective.sample(sequences.random_windows(draw, 40), others, draw)
    whose = sample.view.sequence_T[sample.hidden_N]
    assert torch.equal(sample.other_NP, others.item_T.view(len(USERS), 4)[whose])
    objective(model, sample).loss.backward()
    assert model.behavior.tables["item"].grad.abs().sum() > 0
