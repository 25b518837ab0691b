"""UBM: views that only take away, losses of the equations, and a stage that survives a kill."""

import json
import math

import numpy as np
import pytest
import torch

from contracts.errors import FootpathError
from models.behaviour import attach_text
from models.config import TrainConfig
from models.data import open_sequences
from models.documents import Documents
from models.draw import Draw
from models.objectives import build_objective
from models.objectives.sessions import chosen_events, chosen_sessions, sessions_of
from models.objectives.text_views import Rates, text_view
from models.objectives.ubm import contrast
from models.packed import MASK
from models.report import Reporter
from models.train import build, train
from models.trainer import Trainer
from models.user_model import ModelConfig, build_model

# [TITLE] 4 5 6 7 [CATEGORY] 8 9 [COLOUR] 10 | 11 12 | [COLOUR] 10 [SIZE] 13
KINDS = torch.tensor([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1])
TEXTS = [[3, 4, 5, 6, 7, 14, 8, 9, 15, 10], [11, 12], [15, 10, 16, 13], []]
FIELDS = ("item", "action", "gap", "position", "text")
LENGTHS = [30, 3, 17, 9, 29, 12]
USERS = np.arange(6)


def view_of(seed=0, **rates) -> list[list[int]]:
    lengths = [len(text) for text in TEXTS]
    documents = Documents(torch.tensor([t for x in TEXTS for t in x]), torch.tensor(lengths))
    chance = torch.from_numpy(np.random.default_rng(seed).random((4, 16, 2)))
    nothing = dict.fromkeys(Rates.__dataclass_fields__, 0.0)
    view = text_view(documents, KINDS, chance, Rates(**(nothing | rates)))
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
        title, category, colour = split(view_of(seed, word_swap=0.5)[0])
        assert sorted(title) == [4, 5, 6, 7]
        assert sorted(category) == [8, 9]
        assert colour == [10]
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
    found = sessions_of(windows, 1800)
    first = windows.starts_B.numpy()[found.window_S] + found.start_S
    time = windows.time_T.numpy()
    for start, length in zip(first, found.length_S, strict=True):
        assert (np.diff(time[start : start + length]) <= 1800).all()
    assert found.length_S.sum() == len(time)
    later = first[found.start_S > 0]
    assert (time[later] - time[later - 1] > 1800).all()


def test_chosen_sessions_are_whole_and_no_more_than_asked_for(windows):
    events, own, window = chosen_sessions(windows, Draw(0, 0, USERS), 1800, 2, 3, 4)
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
    torch.manual_seed(0)
    model = build_model(ModelConfig("bag", 16, 20, FIELDS, {"dropout": 0.0}, sequences.sizes))
    objective = build_objective("ubm", model.config, options)
    attach_text(model, sequences)
    return model, objective


def test_a_query_goes_with_the_next_item_of_its_session(sequences, windows):
    _, objective = ubm(sequences)
    sample = objective.sample(windows, windows, Draw(0, 0, USERS))
    assert len(sample.queries.item_N) > 5
    assert (sample.queries.item_N == 0).all()
    time = {}
    item, session = windows.item_T.numpy(), sessions_of(windows, 1800).session_T
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
        sessions, _, _ = chosen_sessions(windows, draw, 1800, 2, 4, 20)
        own = [set(part.tolist()) for part in sessions.item_T.split(sessions.lengths_B.tolist())]
        for n in range(len(sample.sessions.lengths_B)):
            seen = sample.sessions.item_T[sample.sessions.sequence_T == n].tolist()
            assert set(seen) - {MASK} <= own[n % len(own)]


def test_the_past_of_a_user_is_all_that_a_sample_sees(sequences):
    _, objective = ubm(sequences)
    users, zero = np.array([0, 2]), np.array([0, 0])
    short = sequences.windows(users, zero, np.array([10, 10]))
    draw = Draw(0, 0, users)
    sample = objective.sample(short, short, draw)
    seen = set(short.item_T.tolist()) | {MASK}
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

    def config(name) -> TrainConfig:
        return TrainConfig(
            sequences=pointer, out=tmp_path / name, version=name, recipe="ubm_bert4rec", dim=16,
            max_length=10, epochs=3, batch_size=8, fields=("text", "position"), prefetch=0,
            text={"encoder": "transformer", "layers": 1, "action": True},
            objective={"first_share": 0.5}, checkpoint_seconds=0.0,
        )  # fmt: skip

    whole = config("whole_v1")
    train(whole, Reporter())
    half = config("killed_v1")
    half.out.mkdir()
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
    assert told["objective"]["first_share"] == 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"word_drop": 0.6, "word_mask": 0.5}, "leave no word"),
        ({"attribute_drop": 1.0}, "rates of dropping"),
        ({"first_share": 1.5}, "first_share"),
        ({"sessions": 0}, "sessions"),
    ],
)
def test_a_wrong_option_is_named(sequences, options, said):
    with pytest.raises(FootpathError, match=said):
        ubm(sequences, **options)


def test_a_first_stage_without_text_is_refused(sequences):
    config = ModelConfig("bag", 16, 20, ("item",), {}, sequences.sizes)
    with pytest.raises(FootpathError, match="fields leave 'text' out"):
        build_objective("ubm", config, {})
    build_objective("ubm", config, {"first_share": 0.0})
