"""Text of behaviors: what an encoder makes of documents, and how a model comes by them."""

import copy
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from contracts.base.errors import FootpathError
from contracts.recipes.jobs import TrainJob
from contracts.recipes.text import TextOptions
from models.checkpoint import load_checkpoint
from models.data.documents import Documents
from models.data.packed import UNK, pack
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.embed import embed
from models.finetune import finetune
from models.nn.behavior import attach_text
from models.nn.text import TextEncoder
from models.nn.user_model import build_model
from models.nn.vectors import user_vectors
from models.runtime.report import Reporter
from models.train import train
from tests.builders.jobs import embed_job, evaluation_job, train_job
from tests.builders.models import build_objective, model_config, small_model
from tests.builders.sequences import planted_labels, write_sequences

KINDS = ("mean", "cnn", "attention", "gru", "transformer")
TEXTS = [[], [5, 6, 7], [8], [5, 6, 7], [9, 10, 11, 12, 13, 14], [], [7, 6, 5]]


def documents_of(texts) -> Documents:
    tokens = [token for text in texts for token in text]
    return Documents(torch.tensor(tokens), torch.tensor([len(text) for text in texts]))


def encoder_of(kind, **options) -> TextEncoder:
    torch.manual_seed(0)
    encoder = TextEncoder(16, 20, 5, TextOptions(encoder=kind, **options)).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def model_of(sequences, fields=("text",), **text):
    model = small_model(sequences.sizes, fields=fields, text=text, dropout=0.0).eval()
    attach_text(model, sequences)
    return model


@pytest.fixture
def sequences(make_sequences):
    return open_sequences(make_sequences([30, 4, 17], text=True))


def test_documents_are_picked_kept_and_prefixed_as_lists_are():
    documents = documents_of(TEXTS)
    picked = documents.pick(torch.tensor([4, 0, 1, 4]))
    assert texts_of(picked) == [TEXTS[4], [], TEXTS[1], TEXTS[4]]
    odd = documents.keep(documents.tokens_K % 2 == 1)
    assert texts_of(odd) == [[t for t in text if t % 2] for text in TEXTS]
    prefix = torch.arange(14).reshape(7, 2) + 100
    assert texts_of(documents.behind(prefix)) == [
        [100 + 2 * n, 101 + 2 * n, *text] for n, text in enumerate(TEXTS)
    ]


def texts_of(documents) -> list[list[int]]:
    return [part.tolist() for part in documents.tokens_K.split(documents.lengths_M.tolist())]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_s_vector_does_not_depend_on_the_batch(kind):
    encoder, actions = encoder_of(kind), torch.zeros(len(TEXTS), dtype=torch.int64)
    together = encoder(documents_of(TEXTS), actions)
    assert together.shape == (len(TEXTS), 16)
    for n, text in enumerate(TEXTS):
        alone = encoder(documents_of([text]), actions[:1])
        assert torch.allclose(alone[0], together[n], atol=1e-5)
    assert torch.allclose(together[1], together[3])
    assert not torch.allclose(together[1], together[2], atol=1e-3)
    assert (together[[0, 5]] == 0).all()  # no words, nothing to say


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_mean_see_the_order_of_words(kind):
    vectors = encoder_of(kind)(documents_of(TEXTS), torch.zeros(7, dtype=torch.int64))
    assert torch.allclose(vectors[1], vectors[6], atol=1e-6) == (kind == "mean")


def test_the_mean_is_that_of_the_word_vectors():
    encoder = encoder_of("mean")
    vectors = encoder(documents_of(TEXTS), torch.zeros(7, dtype=torch.int64))
    assert torch.allclose(vectors[1], encoder.tables["token"][[5, 6, 7]].mean(0), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_in_front_tells_events_of_one_text_apart(kind):
    encoder = encoder_of(kind, action=True)
    view, buy = (encoder(documents_of(TEXTS), torch.full((7,), n)) for n in (3, 4))
    assert not torch.isclose(view, buy, atol=1e-4).all(dim=1).any()


def test_each_distinct_text_of_a_batch_is_encoded_once(sequences):
    model = model_of(sequences)
    seen = []
    assert model.behavior.text
    model.behavior.text.register_forward_hook(lambda _, args, __: seen.append(args[0].count))
    windows = sequences.windows(np.array([0, 2]), np.array([0, 0]), np.array([30, 17]))
    model(pack(windows))
    assert seen == [len(windows.document_T.unique())]


@pytest.mark.parametrize("fields", [("text",), ("item", "text"), ("item", "action", "text")])
def test_an_event_s_vector_is_the_sum_of_its_fields(sequences, fields):
    model = model_of(sequences, fields)
    behavior = model.behavior
    events = pack(sequences.windows(np.array([0]), np.array([0]), np.array([30])))
    assert behavior.text
    expected = behavior.text.read(events.document_T, events.action_T)
    for name in set(fields) - {"text"}:
        expected = expected + behavior.tables[name][getattr(events, f"{name}_T")]
    assert torch.allclose(behavior(events), expected, atol=1e-6)
    items = behavior.items()
    assert items.shape == (sequences.sizes["item"], 16)
    text = behavior.text.read(torch.tensor([7]), torch.tensor([0]))[0]  # document 7 is of item 8
    table = behavior.tables["item"][8] if "item" in fields else 0
    assert torch.allclose(items[8], text + table, atol=1e-6)


def test_items_that_no_vocabulary_knows_are_told_apart_by_their_text(make_sequences):
    unknown = np.full(8, 2, np.int32)
    pointer = make_sequences(
        [4, 4], text=True, item=unknown, document=np.array([5] * 4 + [23] * 4, np.int32)
    )
    sequences = open_sequences(pointer)
    users = np.array([0, 1])
    one, two = user_vectors(model_of(sequences), sequences, users)
    assert not torch.allclose(one, two, atol=1e-4)
    one, two = user_vectors(model_of(sequences, ("item",)), sequences, users)
    assert torch.allclose(one, two)


def test_only_the_fields_that_are_asked_for_are_read(sequences):
    titles = model_of(sequences, markers=["[TITLE]"]).behavior.text
    assert titles
    words = sequences.vocabulary["token"]
    read = [words[t] for t in titles.documents.pick(torch.tensor([5])).tokens_K]
    assert read == ["[TITLE]", "item", "n3", "ten0"]
    assert titles.documents.count == sequences.documents.count
    assert titles.documents.pick(torch.tensor([1])).tokens_K.tolist() == [1]  # [MASK] stays
    with pytest.raises(FootpathError, match=r"markers names \[SIZE\]"):
        model_of(sequences, markers=["[SIZE]"])


def test_what_is_hidden_is_read_as_mask(sequences):
    windows = sequences.windows(np.array([1]), np.array([0]), np.array([4]))
    hidden = windows.hide(torch.tensor([True, False, False, False]))
    behavior = model_of(sequences).behavior
    vector = behavior(pack(hidden))[0]
    assert behavior.text
    assert torch.allclose(vector, behavior.text.tables["token"][1])


def config_of(folder, pointer, **changes) -> TrainJob:
    common = {"recipe": "ptum_bag", "dim": 16, "max_length": 20, "epochs": 1}
    common |= {"fields": ("item", "text"), "text": {"encoder": "cnn"}, "batch_size": 8}
    return train_job(common | {"sequences": pointer, "out": folder / "m_v1"} | changes)


def test_a_model_that_reads_text_is_kept_fine_tuned_and_embeds(
    make_sequences, make_labels, tmp_path
):
    pointer = make_sequences([12] * 40, text=True)
    train(config_of(tmp_path, pointer), Reporter())
    kept = json.loads((tmp_path / "m_v1" / "config.json").read_text())
    assert kept["recipe"]["text"]["encoder"] == "cnn"
    tensors = load_checkpoint(tmp_path / "m_v1").model.state_dict()
    assert not any("document" in name for name in tensors)  # they belong to the data
    embed(
        embed_job(
            {
                "sequences": pointer,
                "checkpoint": tmp_path / "m_v1",
                "out": tmp_path / "vectors.parquet",
                "event_timestamp": "2026-02-01T00:00:00+00:00",
                "created": "2026-02-01T00:00:00+00:00",
                "model_version": "m_v1",
            }
        ),
        Reporter(),
    )
    written = np.stack(pq.read_table(tmp_path / "vectors.parquet")["embedding"].to_pylist())
    sequences, model = open_sequences(pointer), load_checkpoint(tmp_path / "m_v1").model
    attach_text(model, sequences)
    assert np.allclose(written, user_vectors(model, sequences, np.arange(40)), atol=1e-5)
    figures = finetune(
        evaluation_job(
            {
                "sequences": pointer,
                "checkpoint": tmp_path / "m_v1",
                "labels": make_labels(planted_labels(40)),
                "tasks": [{"name": "half"}],
                "out": tmp_path / "metrics.parquet",
                "epochs": 1,
            }
        ),
        Reporter(),
    )
    assert figures["rows"] > 0


def test_sequences_without_text_are_named(tmp_path, sequences):
    events = pack(sequences.windows(np.array([0]), np.array([0]), np.array([5])))
    model = small_model(sequences.sizes, fields=("text",))
    with pytest.raises(FootpathError, match="the model reads text, and has been given none"):
        model(events)
    older = open_sequences(write_sequences(tmp_path / "older", [5, 3]))
    with pytest.raises(FootpathError, match="these sequences have none: rebuild"):
        attach_text(model, older)


def test_sequences_without_text_open(make_sequences):
    sequences = open_sequences(make_sequences([5, 3]))
    assert not sequences.has_text
    assert (sequences.document[:] == 0).all()
    with pytest.raises(FootpathError, match="the vocabulary has no words"):
        small_model(sequences.sizes, fields=("item", "text"))


def test_texts_in_another_vocabulary_are_refused(sequences):
    sizes = sequences.sizes | {"token": 99}
    model = small_model(sizes, fields=("text",))
    with pytest.raises(FootpathError, match=r"reads 99 words and 43 items.*have 26 and 43"):
        attach_text(model, sequences)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"document": np.full(5, 99, np.int32)}, "document.npy: an id is outside the 45"),
        ({"document_tokens": np.full(247, 50, np.int32)}, "outside the vocabulary of 26 tokens"),
        ({"document_offsets": np.array([0, 1, 2])}, "does not divide the 247 tokens"),
        ({"item_document": np.zeros(3, np.int32)}, "the item vocabulary differ in length"),
        ({"item_document": np.full(43, 77, np.int32)}, "names a document that is not there"),
    ],
)
def test_broken_texts_are_refused_with_a_sentence(make_sequences, change, sentence):
    with pytest.raises(FootpathError, match=sentence):
        open_sequences(make_sequences([3, 2], text=True, **change))


def training_model(sequences, **text):
    """A model in training whose dropout does nothing, so that it can be computed twice."""
    model = model_of(sequences, ("item", "text"), dropout=0.0, **text).train()
    seen = []
    assert model.behavior.text
    model.behavior.text.register_forward_hook(lambda _, args, __: seen.append(args[0].count))
    return model, seen


def test_a_step_of_training_encodes_inputs_and_catalog_once(sequences):
    model, seen = training_model(sequences)
    events = pack(sequences.windows(np.array([0]), np.array([0]), np.array([30])))
    of_items = sequences.item_document[np.unique(sequences.item[:30])]
    (model(events).sum() + model.behavior.items().sum()).backward()
    everything = len(np.unique(sequences.item_document))
    assert sum(seen) == everything > len(of_items)
    assert model.behavior.text
    shared = model.behavior.text.tables["token"].grad.clone()
    # The gradient is what two separate encodings give.
    model.zero_grad()
    model(events).sum().backward()
    model.behavior.items().sum().backward()
    torch.testing.assert_close(model.behavior.text.tables["token"].grad, shared)
    assert sum(seen) == 2 * everything + len(of_items)


def test_no_text_outlives_the_weights_that_encoded_it(sequences):
    model, _ = training_model(sequences)
    assert model.behavior.text
    before = model.behavior.items()  # no gradient is ever taken of it
    with torch.no_grad():
        model.behavior.text.tables["token"].mul_(2.0)
    assert not torch.allclose(model.behavior.items(), before)
    again = copy.deepcopy(model.behavior)
    torch.testing.assert_close(again.items(), model.behavior.items())
    with torch.no_grad():
        fresh = model.behavior.items()
    assert not fresh.requires_grad


def test_a_large_catalog_is_sampled_and_right_on_average(sequences):
    model, seen = training_model(sequences, sampled=8)
    needed_N = torch.tensor([7, 12, 7, 30])
    query_ND = torch.randn(3, 16)
    with torch.no_grad():
        whole = (query_ND @ model.behavior.items().T).exp()[:, 3:].sum(1)
        found = []
        for _ in range(400):
            catalog = model.behavior.catalog(needed_N)
            assert catalog.item_C is not None
            assert len(catalog.item_C) == 3 + 8
            assert catalog.item_C[catalog.place(needed_N)].tolist() == needed_N.tolist()
            assert len(catalog.item_C.unique()) == 11
            assert int(catalog.item_C.min()) > UNK
            found.append(catalog.scores(query_ND).exp().sum(1))
    torch.testing.assert_close(torch.stack(found).mean(0), whole, rtol=0.02, atol=0)
    assert max(seen[1:]) <= 11


@pytest.mark.parametrize("method", ["next", "masked", "manymask"])
def test_methods_that_score_all_items_learn_from_a_sample_of_them(sequences, method):
    torch.manual_seed(0)
    fields = ("item", "text")
    config = model_config("gru4rec", 16, 20, fields, {}, sequences.sizes, {"sampled": 8})
    model, objective = build_model(config), build_objective(method, config, {})
    attach_text(model, sequences)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for epoch in range(40):
        draw = Draw(0, epoch, np.arange(3))
        windows = sequences.random_windows(draw, 20)
        others = sequences.others(draw, objective.others)
        loss = objective(model, objective.sample(windows, others, draw)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
