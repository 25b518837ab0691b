"""UBM: views that only take away, losses of the equations, and a stage that survives a kill."""

import json
import math

import numpy as np
import pytest
import torch

from contracts.recipes.jobs import TrainJob
from contracts.recipes.methods import UbmOptions
from models.checkpoint import load_checkpoint
from models.data.documents import Documents
from models.data.packed import MASK, UNK
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.nn.behavior import attach_text
from models.objectives.ubm.contrasts import contrast, follow_loss
from models.objectives.ubm.sessions import chosen_events, chosen_sessions, sessions_of
from models.objectives.ubm.text_views import text_view
from models.ranking.zero_shot import native
from models.runtime.report import Reporter
from models.train import build, train
from models.training.trainer import Trainer
from tests.builders.jobs import train_job
from tests.builders.models import build_objective, model_config, small_pair
from tests.builders.sequences import write_sequences

RATES = ("attribute_drop", "category_drop", "word_drop", "word_mask", "word_swap")
# [TITLE] 4 5 6 7 [CATEGORY] 8 9 [COLOR] 10 | 11 12 | [COLOR] 10 [SIZE] 13
KINDS = torch.tensor([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1])
TEXTS = [[3, 4, 5, 6, 7, 14, 8, 9, 15, 10], [11, 12], [15, 10, 16, 13], []]
FIELDS = ("item", "action", "gap", "position", "text")
LENGTHS = [30, 3, 17, 9, 29, 12]
USERS = np.arange(6)


def view_of(seed=0, **rates) -> list[list[int]]:
    lengths = [len(text) for text in TEXTS]
    documents = Documents(torch.tensor([t for x in TEXTS for t in x]), torch.tensor(lengths))
    chance = torch.from_numpy(np.random.default_rng(seed).random((4, 16, 2)))
    nothing = dict.fromkeys(RATES, 0.0)
    view = text_view(documents, KINDS, chance, UbmOptions(**(nothing | rates)))
    return [part.tolist() for part in view.tokens_K.split(view.lengths_M.tolist())]


def test_without_rates_a_view_is_the_text_itself():
    assert view_of() == TEXTS


def test_a_dropped_field_goes_as_a_whole_and_titles_stay():
    seen = set()
    for seed in range(40):
        first, bare, attributes, empty = view_of(seed, attribute_drop=0.5, category_drop=0.5)
        assert first[:5] == TEXTS[0][:5]
        assert first[5:] in ([], [14, 8, 9], [15, 10], [14, 8, 9, 15, 10])
        assert (bare, empty) == ([11, 12], [])
        assert attributes in ([15, 10], [16, 13], [15, 10, 16, 13])  # something is left
        seen.add((len(first), len(attributes)))
    assert len(seen) >= 6


def test_words_are_dropped_hidden_and_swapped_within_their_field():
    for seed in range(40):
        for text, view in zip(TEXTS, view_of(seed, word_drop=0.9), strict=True):
            it = iter(text)
            assert all(token in it for token in view)  # in order, nothing new
            assert [t for t in view if KINDS[t] > 0] == [t for t in text if KINDS[t] > 0]
            assert not text or any(KINDS[t] == 0 for t in view)
        for text, view in zip(TEXTS, view_of(seed, word_mask=0.5), strict=True):
            assert all(b in (a, MASK) for a, b in zip(text, view, strict=True))
        title, category, color = split(view_of(seed, word_swap=0.5)[0])
        assert sorted(title) == [4, 5, 6, 7]
        assert sorted(category) == [8, 9]
        assert color == [10]
    assert len({str(view_of(seed, word_swap=0.5)) for seed in range(20)}) > 5


def split(tokens) -> list[list[int]]:
    parts = []
    for token in tokens:
        if KINDS[token] > 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def test_something_of_every_text_is_left():
    for seed in range(40):
        views = view_of(seed, word_drop=0.9, attribute_drop=0.9, category_drop=0.9)
        assert all(any(KINDS[t] == 0 for t in view) for view in views[:3])


def test_contrast_is_that_of_the_equation_and_equal_rows_are_no_negatives():
    a, b = torch.randn(2, 4, 8)
    key = torch.tensor([5, 6, 5, 7])
    loss, _ = contrast(a, b, key, 0.3)
    views = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    expected = 0.0
    for v in range(8):
        others = [
            math.exp(float(views[v] @ views[u]) / 0.3)
            for u in range(8)
            if u != v and (u % 4 == v % 4 or key[u % 4] != key[v % 4])
        ]
        right = math.exp(float(views[v] @ views[(v + 4) % 8]) / 0.3)
        expected -= math.log(right / sum(others)) / 8
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_collapsed_vectors_cost_what_guessing_does():
    same = torch.ones(6, 8)
    loss, _ = contrast(same, same, torch.arange(6), 0.1)
    assert float(loss) == pytest.approx(math.log(11), rel=1e-5)


@pytest.fixture
def sequences(make_sequences):
    events = sum(LENGTHS)
    item = (3 + np.arange(events) % 40).astype(np.int32)
    item[::4] = 0  # queries
    # a pause of two hours after every fifth event
    time = np.cumsum(np.where(np.arange(events) % 5 == 0, 7200, 60)).astype(np.int64)
    return open_sequences(make_sequences(LENGTHS, text=True, item=item, time=time))


@pytest.fixture
def windows(sequences):
    return sequences.random_windows(Draw(0, 0, USERS), 40)


def test_sessions_are_runs_without_a_pause(windows):
    found = sessions_of(windows)
    first = windows.starts_B.numpy()[found.window_S] + found.start_S
    time = windows.time_T.numpy()
    for start, length in zip(first, found.length_S, strict=True):
        assert (np.diff(time[start : start + length]) <= 1800).all()
    assert found.length_S.sum() == len(time)
    later = first[found.start_S > 0]
    assert (time[later] - time[later - 1] > 1800).all()


def test_chosen_sessions_are_whole_and_no_more_than_asked_for(windows):
    events, own, window = chosen_sessions(windows, Draw(0, 0, USERS), 2, 3, 4)
    assert np.bincount(window.numpy(), minlength=6).max() <= 3
    assert set(window.tolist()) == set(range(6))
    assert len(np.unique(own.users_B)) == len(events.lengths_B)
    whole = windows.time_T.split(windows.lengths_B.tolist())
    for part, n in zip(events.time_T.split(events.lengths_B.tolist()), window, strict=True):
        assert set(part.tolist()) <= set(whole[n].tolist())
        assert 2 <= len(part) <= 4
        assert (part.diff() <= 1800).all()


def test_chosen_events_are_of_those_asked_for(windows):
    asked = windows.item_T.numpy() == 0
    chosen = chosen_events(windows, Draw(0, 0, USERS), "x", asked, 2)
    assert asked[chosen].all()
    expected = np.minimum(2, np.bincount(windows.sequence_T.numpy()[asked], minlength=6))
    found = np.bincount(windows.sequence_T.numpy()[chosen], minlength=6)
    assert found.tolist() == expected.tolist()


def ubm(sequences, **options):
    model, objective = small_pair("ubm", sequences, fields=FIELDS, **options)
    attach_text(model, sequences)
    return model, objective


def test_a_query_goes_with_the_next_item_of_its_session(sequences, windows):
    _, objective = ubm(sequences)
    sample = objective.sample(windows, windows, Draw(0, 0, USERS))
    assert len(sample.queries.item_N) > 5
    assert (sample.queries.item_N == 0).all()
    time = {}
    item, session = windows.item_T.numpy(), sessions_of(windows).session_T
    for n in np.flatnonzero(item == 0):
        later = [m for m in range(n + 1, len(item)) if session[m] == session[n] and item[m]]
        if later:
            time.setdefault(int(windows.document_T[n]), set()).add(int(item[later[0]]))
    pairs = zip(sample.queries.document_N.tolist(), sample.answers.item_N.tolist(), strict=True)
    assert all(answer in time[query] for query, answer in pairs)


def test_views_of_a_session_hold_only_its_own_events(sequences, windows):
    _, objective = ubm(sequences)
    for epoch in range(10):
        draw = Draw(0, epoch, USERS)
        sample = objective.sample(windows, windows, draw)
        sessions, _, _ = chosen_sessions(windows, draw, 2, 4, 20)
        own = [set(part.tolist()) for part in sessions.item_T.split(sessions.lengths_B.tolist())]
        for n in range(len(sample.sessions.lengths_B)):
            seen = sample.sessions.item_T[sample.sessions.sequence_T == n].tolist()
            assert set(seen) - {MASK, UNK} <= own[n % len(own)]


def test_the_past_of_a_user_is_all_that_a_sample_sees(sequences):
    _, objective = ubm(sequences)
    users, zero = np.array([0, 2]), np.array([0, 0])
    short = sequences.windows(users, zero, np.array([10, 10]))
    draw = Draw(0, 0, users)
    sample = objective.sample(short, short, draw)
    seen = set(short.item_T.tolist()) | {MASK, UNK}
    assert set(sample.sessions.item_T.tolist()) <= seen
    assert set(sample.interactions.item_N.tolist()) | set(sample.answers.item_N.tolist()) <= seen
    assert set(sample.interactions.document_N.tolist()) <= set(short.document_T.tolist())


@pytest.mark.parametrize("first_share", [1.0, 0.0])
def test_the_loss_of_each_stage_falls(first_share, sequences, windows):
    model, objective = ubm(sequences, first_share=first_share)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    losses = []
    for epoch in range(40):
        outcome = objective(model, objective.sample(windows, windows, Draw(0, epoch, USERS)))
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(float(outcome.loss.detach()))
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_the_stage_follows_the_share_of_training(sequences, windows):
    model, objective = ubm(sequences, first_share=0.5)
    sample = objective.sample(windows, windows, Draw(0, 0, USERS))
    assert "interaction_loss" in objective(model, sample).figures
    assert objective.encoded_events(sample) > 2 * len(sample.interactions.item_N)
    objective.after_step(model, 0.49)
    assert objective.is_first
    objective.after_step(model, 0.5)
    assert "session_loss" in objective(model, sample).figures
    assert objective.encoded_events(sample) == len(sample.sessions.item_T)


@pytest.mark.parametrize("kill_at", [2, 7])
def test_a_killed_run_goes_on_in_its_stage_bit_for_bit(make_sequences, tmp_path, kill_at):
    pointer = make_sequences([12] * 20, text=True)
    sequences = open_sequences(pointer)

    def config(name) -> TrainJob:
        settings = {"sequences": pointer, "out": tmp_path / name, "recipe": "ubm_bert4rec"}
        settings |= {"dim": 16, "max_length": 10, "epochs": 3, "batch_size": 8}
        settings |= {"fields": ("text", "position"), "method": {"first_share": 0.5}}
        settings |= {"text": {"encoder": "transformer", "layers": 1, "action": True}}
        return train_job(settings | {"prefetch": 0, "checkpoint_seconds": 0.0})

    whole = config("whole_v1")
    train(whole, Reporter())
    half = config("killed_v1")
    half.io.out.mkdir()
    model, objective = build(half, sequences)
    trainer = Trainer(half, sequences, model, objective)
    for _ in range(kill_at):
        trainer.step()
    trainer._save()
    train(half, Reporter())
    one, two = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole_v1", "killed_v1")
    )
    assert one == two
    told = json.loads((tmp_path / "killed_v1" / "config.json").read_text())
    assert told["recipe"]["method"]["first_share"] == 0.5


def test_items_go_with_the_next_other_item_of_their_session(sequences, windows):
    _, objective = ubm(sequences, interactions=40)
    sample = objective.sample(windows, windows, Draw(0, 0, USERS))
    item, session = windows.item_T.numpy(), sessions_of(windows).session_T
    expected = set()
    for n in np.flatnonzero(item > UNK):
        later = [m for m in range(n + 1, len(item)) if session[m] == session[n] and item[m] > UNK]
        if later and item[later[0]] != item[n]:
            expected.add((int(item[n]), int(item[later[0]])))
    found = set(zip(sample.items.item_N.tolist(), sample.nexts.item_N.tolist(), strict=True))
    assert found == expected


def follows_of(sequences, windows, encoder, **options):
    config = model_config(encoder, 16, 20, FIELDS, {}, sequences.sizes)
    objective = build_objective("ubm", config, options)
    return objective.sample(windows, windows, Draw(0, 0, USERS))


@pytest.mark.parametrize("session_weight", [0.0, 0.5])
def test_what_follows_is_told_from_the_event_right_before_it(sequences, windows, session_weight):
    options = {"read_hide": 0.0, "session_weight": session_weight, "follows": 40}
    sample = follows_of(sequences, windows, "gru4rec", **options)
    packed, at_M = sample.sessions, sample.before_M
    assert torch.equal(packed.item_T[at_M + 1], sample.follows.item_N)
    assert torch.equal(packed.document_T[at_M + 1], sample.follows.document_N)
    assert torch.equal(packed.sequence_T[at_M + 1], packed.sequence_T[at_M])
    sessions = len(sample.owner_N)
    views = 2 * sessions if session_weight else 0
    assert (packed.sequence_T[at_M] >= views).all()
    assert len(at_M) == int((packed.lengths_B[views:] - 1).sum())  # each but the first


def test_an_encoder_that_sees_all_is_shown_a_beginning_of_what_follows(sequences, windows):
    sample = follows_of(sequences, windows, "bag", read_hide=0.0, session_weight=0.0)
    sessions, _, _ = chosen_sessions(windows, Draw(0, 0, USERS), 2, 4, 20)
    whole = sessions.item_T.split(sessions.lengths_B.tolist())
    assert len(sample.before_M) == sum(len(items) > 1 for items in whole)
    for n, item in zip(sample.before_M.tolist(), sample.follows.item_N.tolist(), strict=True):
        seen = sample.sessions.item_T[sample.sessions.sequence_T == n].tolist()
        assert seen == whole[n][: len(seen)].tolist()
        assert item == whole[n][len(seen)]


def test_some_items_are_read_by_their_text_alone_and_told_all_the_same(sequences, windows):
    plain, sample = (
        follows_of(sequences, windows, "gru4rec", read_hide=rate, session_weight=0.0)
        for rate in (0.0, 0.5)
    )
    hidden = plain.sessions.item_T != sample.sessions.item_T
    assert 0.2 < hidden.float().mean() < 0.7
    assert (sample.sessions.item_T[hidden] == UNK).all()
    assert (sample.sessions.document_T[hidden] > MASK).all()
    assert torch.equal(plain.sessions.document_T, sample.sessions.document_T)
    assert torch.equal(plain.follows.item_N, sample.follows.item_N)
    assert (sample.follows.read_N == UNK).any()


def test_rare_actions_are_not_drowned_by_frequent_ones(make_sequences):
    action = np.full(60, 3, np.int32)
    action[[7, 25, 48]] = 4
    time = np.arange(60, dtype=np.int64) + 1_767_000_000
    sequences = open_sequences(make_sequences([20, 20, 20], text=True, action=action, time=time))
    windows = sequences.random_windows(Draw(0, 0, USERS[:3]), 40)
    for epoch in range(10):
        config = model_config("gru4rec", 16, 20, FIELDS, {}, sequences.sizes)
        objective = build_objective("ubm", config, {"follows": 3})
        sample = objective.sample(windows, windows, Draw(0, epoch, USERS[:3]))
        assert sorted(sample.follows.action_N.tolist()) == [3] * 6 + [4] * 3


def test_the_loss_of_what_follows_is_that_of_the_equation():
    seen, vectors = torch.randn(2, 5, 8, dtype=torch.float64)
    key, share = torch.tensor([9, 4, 9, 7, 4]), torch.tensor([0.3, 0.1, 0.3, 0.05, 0.1])
    vectors[2], vectors[4] = vectors[0], vectors[1]
    loss, _ = follow_loss(seen, vectors, key, share.double())
    expected = 0.0
    for m in range(5):
        logits = {
            int(key[u]): float(seen[m] @ vectors[u]) - math.log(1 - (1 - float(share[u])) ** 5)
            for u in range(5)
        }
        total = sum(math.exp(x) for x in logits.values())
        expected -= math.log(math.exp(logits[int(key[m])]) / total) / 5
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Users who go through 3..22 or 23..42 in order; items 10 and 30 are never met."""
    rng = np.random.default_rng(0)
    lengths = [6] * 300
    starts = np.where(np.arange(300) % 2, 3, 23) + rng.integers(0, 10, 300)
    item = (starts[:, None] + np.arange(6)).reshape(-1)
    item[np.isin(item, (10, 30))] += 1
    time = np.cumsum(np.tile([100_000, 60, 60, 60, 60, 60], 300))
    pointer = write_sequences(
        tmp_path_factory.mktemp("chain"), lengths, text=True,
        item=item.astype(np.int32), time=time.astype(np.int64) + 1_600_000_000,
    )  # fmt: skip
    settings = {"sequences": pointer, "out": pointer.parent.parent / "m_v1", "dim": 32}
    settings |= {"recipe": "ubm_gru4rec", "max_length": 10, "epochs": 15, "batch_size": 50}
    settings |= {"lr": 5e-3, "fields": ("item", "text"), "encoder": {"pooling": "last"}}
    config = train_job(settings | {"method": {"first_share": 0.2}})
    train(config, Reporter())
    sequences = open_sequences(pointer)
    checkpoint = load_checkpoint(config.io.out)
    attach_text(checkpoint.model, sequences)
    return checkpoint, sequences


def test_the_native_score_ranks_what_follows_first(trained):
    checkpoint, sequences = trained
    score = native(checkpoint.recipe.method, checkpoint.model, sequences)
    assert score is not None
    users = np.arange(100)
    scores = score(sequences.windows(users, np.zeros(100, int), np.full(100, 4)))
    right = torch.from_numpy(sequences.item[sequences.offsets[users] + 4].astype(np.int64))
    top = scores[:, 3:].topk(3).indices + 3
    assert (top == right[:, None]).any(1).float().mean() > 0.8


def test_no_score_is_native_where_nothing_that_follows_was_told(trained):
    checkpoint, sequences = trained
    for change in ({"follow_weight": 0.0}, {"first_share": 1.0}):
        told = checkpoint.recipe.method.model_copy(update=change)
        assert native(told, checkpoint.model, sequences) is None


def test_an_item_that_training_never_met_lies_with_those_of_its_text(trained):
    checkpoint, _ = trained
    checkpoint.model.eval()
    with torch.no_grad():
        items = torch.nn.functional.normalize(checkpoint.model.behavior.items(), dim=1)
    met = [n for n in range(3, 43) if n not in (10, 30)]
    halves = [[n for n in met if n < 23], [n for n in met if n >= 23]]
    for cold, own in ((10, 0), (30, 1)):
        near = [float((items[cold] @ items[half].T).mean()) for half in halves]
        assert near[own] > near[1 - own] + 0.1
