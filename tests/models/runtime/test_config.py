import pytest

from contracts.base.errors import FootpathError
from models.runtime.config import FinetuneConfig, TrainConfig, load_config, parse, plain

GOOD = {"sequences": "s.json", "out": "models/m_v1", "version": "m_v1", "recipe": "ptum_bert4rec"}


def test_method_and_encoder_follow_from_the_recipe():
    config = parse(TrainConfig, GOOD, "test")
    assert (config.method, config.encoder) == ("ptum", "bert4rec")
    assert parse(TrainConfig, plain(config), "test") == config


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dims": 64}, "unknown field 'dims': did you mean 'dim'?"),
        ({"dim": "64"}, "field 'dim': expected a whole number, found \"64\""),
        ({"dim": True}, "field 'dim': expected a whole number, found true"),
        ({"dim": 64.5}, "field 'dim': expected a whole number, found 64.5"),
        ({"epochs": 0}, "field 'epochs': expected a whole number of at least 1, found 0"),
        ({"lr": float("nan")}, "field 'lr': expected a finite number"),
        ({"warmup": 2}, "at least 0 and at most 1, found 2"),
        ({"out": 5}, "field 'out': expected a path, found 5"),
        ({"fields": "item"}, "field 'fields': expected a list"),
        ({"objective": []}, "field 'objective': expected an object"),
        ({"encoder": "gru4rec"}, "recipe 'ptum_bert4rec' does not say <method>_<encoder>"),
        ({"recipe": None}, "field 'recipe': expected a text, found null"),
    ],
)
def test_wrong_fields_are_named_with_what_was_expected(change, sentence):
    with pytest.raises(FootpathError) as fault:
        parse(TrainConfig, GOOD | change, "train.json")
    assert str(fault.value).startswith("train.json: ")
    assert sentence in str(fault.value)


def test_missing_fields_are_named():
    with pytest.raises(FootpathError, match="field 'recipe' is missing"):
        parse(TrainConfig, {k: v for k, v in GOOD.items() if k != "recipe"}, "train.json")


def test_wrong_fields_inside_lists_are_named_by_their_place():
    settings = {"sequences": "s", "labels": "l", "out": "o", "checkpoint": "c", "tasks": [{}]}
    with pytest.raises(FootpathError, match=r"field 'tasks'\[0\]: field 'name' is missing"):
        parse(FinetuneConfig, settings, "finetune.json")
    settings["tasks"] = [{"name": "age", "kind": "rank"}]
    with pytest.raises(FootpathError, match="expected one of classification, regression"):
        parse(FinetuneConfig, settings, "finetune.json")
    settings["tasks"] = []
    with pytest.raises(FootpathError, match="tasks is empty"):
        parse(FinetuneConfig, settings, "finetune.json")


def test_files_that_are_no_json_are_sentences(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(FootpathError, match=r"config\.json cannot be read"):
        load_config(TrainConfig, path)
    path.write_text("{")
    with pytest.raises(FootpathError, match=r"config\.json is not valid JSON"):
        load_config(TrainConfig, path)
    path.write_text("[]")
    with pytest.raises(FootpathError, match="expected an object of fields"):
        load_config(TrainConfig, path)
