"""What may be asked of a comparison, and the one sentence for what may not."""

import dataclasses
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from orchestration.compare.recipes import scratch_labels
from orchestration.compare.settings import Asked, comparison_of

BAG = {"methods": ("coles",), "encoders": ("bag",)}


def asked(**changes) -> Asked:
    return Asked(**BAG | changes)


def compared(**changes):
    return comparison_of(load_dataset("shop"), asked(**changes))


FAULTS = {
    "there is no method 'colse': the known ones are": {"methods": ("colse",)},
    "there is no encoder 'bagg': the known ones are": {"encoders": ("bagg",)},
    "data set 'shop' has no task 'gendr': it has gender, age": {"tasks": ("gendr",)},
    "label share 500: give percentages above 0, up to 100": {"shares": (5.0,)},
    "label share 0: give percentages above 0": {"shares": (0.0,)},
    "there is no protocol 'thawed': they are frozen": {"protocols": ("thawed",)},
    "--set epochs: write it as key=value": {"settings": ("epochs",)},
    "unknown field 'epoch': did you mean 'epochs'": {"settings": ("epoch=3",)},
    "field 'epochs': expected a whole number": {"settings": ("epochs=many",)},
    "fine-tuning has no field 'epoch'": {"settings": ("finetune.epoch=3",)},
    "--set finetune: field 'epochs': expected a whole number": {
        "settings": ("finetune.epochs=three",)
    },
    "'seed' is chosen by the comparison": {"settings": ("seed=3",)},
    "--methods and --encoders go together": {"encoders": ()},
    "there is nothing to compare": {"methods": (), "encoders": ()},
    "two recipes share a name": {"methods": ("ptum", "ptum")},
    "'validation' does not go with a comparison": {"settings": ("validation.task=gender",)},
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_what_cannot_be_compared_is_told_before_anything_runs(sentence):
    with pytest.raises(FootpathError, match=sentence):
        compared(**FAULTS[sentence])


def test_a_file_that_misspells_fine_tuning_is_named_before_anything_runs(tmp_path):
    recipes = tmp_path / "mine.yaml"
    recipes.write_text("recipes: {coles_bag: }\nfinetune: {epoch: 2}\n")
    with pytest.raises(FootpathError, match=r"mine.yaml: finetune: .* no field 'epoch'"):
        compared(methods=(), encoders=(), recipes=recipes)


def test_the_same_encoder_from_scratch_is_always_beside():
    found = compared(methods=("coles", "ptum"), encoders=("bag", "gru4rec"))
    names = [recipe.name for recipe in found.recipes]
    assert names == [
        "coles_bag", "coles_gru4rec", "ptum_bag", "ptum_gru4rec", "none_bag", "none_gru4rec",
    ]  # fmt: skip
    assert len(compared(protocols=("frozen",)).recipes) == 1


def test_settings_go_on_top_option_by_option():
    found = compared(settings=("epochs=7", "objective.hide_share=0.3", "finetune.epochs=2"))
    assert found.recipes[0].train["epochs"] == 7
    assert found.recipes[0].train["objective"] == {"hide_share": 0.3}
    assert found.recipes[1].train.get("objective") is None  # random weights have none
    assert found.finetune["epochs"] == 2


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("objective.temprature=1", "did you mean 'temperature'"),
        ("encoder_options.layers=2", "unknown field 'layers'"),
        ("objective.temperature=0", "temperature must be above 0"),
        ("finetune.seeds=3", "fine-tuning has no field 'seeds' to choose: "),
    ],
)
def test_an_unknown_option_is_told_before_anything_runs(setting, said):
    with pytest.raises(FootpathError, match=said):
        compared(settings=(setting,))


def test_each_shape_of_an_encoder_has_its_own_from_scratch(tmp_path):
    recipes = "recipes: {coles_bag: , wide_bag: {method: coles, dim: 16}}"
    asked_for = Asked(recipes=written(tmp_path, recipes))
    found = comparison_of(load_dataset("shop"), asked_for).recipes
    assert scratch_labels(found) == {
        ("coles", "bag"): "none", ("wide", "bag"): "none 2",
        ("none", "bag"): "none", ("none 2", "bag"): "none 2",
    }  # fmt: skip


def test_from_scratch_reads_text_by_the_same_encoder():
    reads = ("fields=[item, text]", "text.encoder=cnn")
    found = compared(settings=reads)
    assert found.recipes[1].train["text"] == found.recipes[0].train["text"] == {"encoder": "cnn"}


def test_each_batch_size_is_a_recipe():
    found = compared(methods=("barlow", "dual"), batch_sizes=(16, 64))
    labels = [recipe.label for recipe in found.recipes]
    assert labels == ["barlow b16", "barlow b64", "dual b16", "dual b64", "none"]
    assert found.recipes[1].train["batch_size"] == 64


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    return path


def test_a_file_names_recipes_and_the_options_overrule_it(tmp_path):
    path = written(
        tmp_path,
        """
        title: A table
        common: {dim: 16, objective: {hide_share: 0.1}}
        recipes:
          coles_bag:
          coles long_bag: {method: coles, encoder: bag, epochs: 30, objective: {temperature: 0.2}}
        tasks: [gender]
        labels: [5, 100]
        seeds: 3
        """,
    )
    found = comparison_of(load_dataset("shop"), Asked(recipes=path, seeds=2))
    assert [recipe.label for recipe in found.recipes] == ["coles", "coles long", "none"]
    assert found.recipes[1].train["objective"] == {"hide_share": 0.1, "temperature": 0.2}
    assert (found.shares, found.seeds, found.title) == ((0.05, 1.0), 2, "A table")
    assert [task.name for task in found.tasks] == ["gender"]
    assert found.recipes[2].train == {"dim": 16, "max_length": 50}


def test_a_file_with_an_unknown_field_is_refused(tmp_path):
    with pytest.raises(FootpathError, match="unknown field 'recipe': known are title"):
        comparison_of(load_dataset("shop"), Asked(recipes=written(tmp_path, "recipe: {}")))
    with pytest.raises(FootpathError, match="is not valid YAML"):
        comparison_of(load_dataset("shop"), Asked(recipes=written(tmp_path, "recipes: [")))
    with pytest.raises(FootpathError, match="recipe 'ptum_bag' must be a mapping"):
        comparison_of(
            load_dataset("shop"), Asked(recipes=written(tmp_path, "recipes: {ptum_bag: 3}"))
        )
    with pytest.raises(FootpathError, match="field 'labels' must be a list"):
        comparison_of(load_dataset("shop"), Asked(recipes=written(tmp_path, "labels: 5")))
    with pytest.raises(FootpathError, match="expected a number, found 'all'"):
        comparison_of(load_dataset("shop"), Asked(recipes=written(tmp_path, "labels: [all]")))
    twice = "recipes: {ptum: {encoder: bag}, ptum_bag: }"
    with pytest.raises(FootpathError, match="two recipes share a name"):
        comparison_of(load_dataset("shop"), Asked(recipes=written(tmp_path, twice)))
    with pytest.raises(FootpathError, match="cannot be read: No such file"):
        comparison_of(load_dataset("shop"), Asked(recipes=tmp_path / "none.yaml"))


def test_a_comparison_never_changes():
    with pytest.raises(dataclasses.FrozenInstanceError):
        compared().seeds = 3  # type: ignore[misc]
