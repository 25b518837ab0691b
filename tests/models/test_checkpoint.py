"""A checkpoint that is damaged or hostile is one sentence, before it costs memory or time."""

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_bytes
from contracts.recipes.checkpoint import LARGEST
from contracts.recipes.recipe import Recipe
from models.checkpoint import load_checkpoint, save_checkpoint
from models.nn.user_model import ModelConfig, build_model
from tests.builders.sequences import SPECIAL

SIZES = {"item": 9, "action": 5, "category": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished checkpoint of random weights."""
    recipe = Recipe.named("none_bert4rec", {"dim": 8, "fields": ["item", "position"]})
    vocabulary = json.dumps(dict.fromkeys(SIZES, SPECIAL))
    texts = ("train_cutoff", "data_fingerprint", "labels_fingerprint", "identity")
    facts = dict.fromkeys(texts, "") | {"recipe": recipe, "seed": 0, "sizes": SIZES}
    facts["vocabulary_hash"] = hash_bytes(vocabulary.encode())
    model = build_model(ModelConfig.of(recipe, SIZES))
    save_checkpoint(tmp_path / "m", model.state_dict(), facts, {}, vocabulary)
    return tmp_path / "m"


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "config.json"
    found = json.loads(path.read_text())
    for place, value in change.items():
        *above, last = place.split(".")
        section = found
        for name in above:
            section = section[name]
        section[last] = value
    path.write_text(json.dumps(found))


def test_a_whole_checkpoint_is_loaded(folder: Path):
    assert load_checkpoint(folder).facts.sizes == SIZES


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recipe.encoder.layers": 10**9}, r"tensors, which are no 1,000,000,000 layers"),
        ({"recipe.dim": 10**8}, r"is of shape \("),
        ({"sizes.item": 10**12}, r"\(9, 8\), not \(1000000000000, 8\)"),
        ({"sizes.item": 10**40}, "does not fit its config"),
        ({"recipe.max_length": 10**13}, "does not fit its config"),
        ({"recipe.dim": 16}, r"is of shape \("),
        ({"recipe.encoder.name": "gru4rec"}, "recipe.encoder"),
    ],
)
def test_a_config_of_another_size_than_its_weights_is_a_sentence(folder, change, sentence):
    rewrite(folder, change)
    with pytest.raises(FootpathError, match=f"{sentence}.*: train the model again"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": ' * 100_000, "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "is no JSON object"),
        ("\ud83d", "is not valid JSON"),
        (f'{{"format": {"9" * 5000}}}', "is not valid JSON"),
        (" " * (LARGEST + 1), "bytes, and no more than"),
    ],
    ids=["deep object", "deep array", "array", "no UTF-8", "long number", "huge"],
)
def test_a_config_that_is_no_config_is_a_sentence(folder, text, sentence):
    (folder / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(FootpathError, match=sentence):
        load_checkpoint(folder)


def test_a_reordered_vocabulary_is_refused(folder: Path):
    path = folder / "vocabulary.json"
    path.write_text(json.dumps(dict.fromkeys(SIZES, SPECIAL[::-1])))
    with pytest.raises(FootpathError, match=r"vocabulary\.json is missing or damaged"):
        load_checkpoint(folder)


def test_weights_that_are_pickled_are_refused(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    rewrite(folder, {"weights_hash": hash_bytes(path.read_bytes())})
    with pytest.raises(FootpathError, match=r"model\.safetensors is damaged"):
        load_checkpoint(folder)
