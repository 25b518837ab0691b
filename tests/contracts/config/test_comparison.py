"""What may be asked of a comparison, and the one sentence for what may not."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.base.errors import FootpathError
from contracts.config.comparison import (
    Asked,
    Comparison,
    comparison_of,
    random_labels,
    yaml_comparison,
)
from contracts.config.dataset import load_dataset
from contracts.recipes.recipe import EarlyStopping, Recipe

BAG = {"methods": ("coles",), "encoders": ("bag",)}


def asked(**changes) -> Asked:
    return Asked(**BAG | changes)


def compared(**changes) -> Comparison:
    return comparison_of(load_dataset("shop"), asked(**changes))


FAULTS = {
    "recipe colse_bag: method: there is no method 'colse': the known": {"methods": ("colse",)},
    "recipe coles_bagg: encoder: there is no encoder 'bagg': the": {"encoders": ("bagg",)},
    "--tasks: data set 'shop' has no task 'gendr': it has gender, age": {"tasks": ("gendr",)},
    "--labels 500: give percentages above 0, up to 100": {"shares": (5.0,)},
    "--labels 0: give percentages above 0, up to 100": {"shares": (0.0,)},
    "the comparison: protocols.0: Input should be 'frozen', 'finetuned', 'scr": {
        "protocols": ("thawed",)
    },
    "--set epochs: write it as key=value": {"settings": ("epochs",)},
    "--set epochs=\\[: '\\[' is not a YAML value": {"settings": ("epochs=[",)},
    "recipe coles_bag: epoch: there is no such field: did you mean 'epochs'": {
        "settings": ("epoch=3",)
    },
    "recipe coles_bag: epochs: Input should be a valid integer": {"settings": ("epochs=many",)},
    "the comparison: finetuning.epoch: there .* you mean 'epochs'": {
        "settings": ("finetuning.epoch=3",)
    },
    "the comparison: finetuning.epochs: Input should be a valid integer": {
        "settings": ("finetuning.epochs=three",)
    },
    "the comparison: finetuning.seeds: there is no such field: known": {
        "settings": ("finetuning.seeds=3",)
    },
    "--set finetuning=3: write it as finetuning.<field>=value": {"settings": ("finetuning=3",)},
    "recipe coles_bag: seed: there is no such field: known": {"settings": ("seed=3",)},
    "recipe coles_bag: method.temprature: .* mean 'temperature'": {
        "settings": ("method.temprature=1",)
    },
    "recipe coles_bag: encoder.layers: there is no such field: known": {
        "settings": ("encoder.layers=2",)
    },
    "recipe coles_bag: method.temperature: Input should be greater than 0": {
        "settings": ("method.temperature=0",)
    },
    "recipe coles_bag: validation asks for task 'gendr', and the tasks whose": {
        "settings": ("validation.task=gendr",)
    },
    "recipe next_bag: method next needs an encoder that reads forwards": {"methods": ("next",)},
    "--methods and --encoders go together": {"encoders": ()},
    "two recipes share a name": {"methods": ("ptum", "ptum")},
    "the comparison: seeds: Tuple should have at least 1 item": {"seeds": -1},
    "the comparison: folds: give 2 or more": {"folds": 1},
    "the comparison: folds: Input should be less than or equal to 100": {"folds": 200},
    "the comparison: batch_sizes.0: Input should be greater": {"batch_sizes": (0,)},
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_what_cannot_be_compared_is_told_before_anything_runs(sentence):
    with pytest.raises(FootpathError, match=f"^{sentence}") as fault:
        compared(**FAULTS[sentence])
    assert "\n" not in str(fault.value)


def test_without_names_the_recipes_of_the_data_set_are_compared_as_its_assets_train_them():
    shop = load_dataset("shop")
    found = compared(methods=(), encoders=())
    named = {each.name: each.recipe for each in found.recipes}
    assert {name: named[name] for name in shop.recipes} == shop.recipes
    # From scratch: the encoder with a summary, and the slow one.
    assert [n for n in named if n not in shop.recipes] == ["none 2_bag", "none_bert4rec"]
    beside = yaml_comparison(shop)
    assert beside.recipes == found.recipes[: len(shop.recipes)]
    assert (beside.shares, beside.seeds, beside.protocols) == (
        found.shares, found.seeds, found.protocols,
    )  # fmt: skip
    assert beside.finetuning == found.finetuning == shop.learning.finetuning


def test_the_same_encoder_with_random_weights_is_always_beside():
    found = compared(methods=("coles", "ptum"), encoders=("bag", "gru4rec"))
    names = [recipe.name for recipe in found.recipes]
    assert names == [
        "coles_bag", "coles_gru4rec", "ptum_bag", "ptum_gru4rec", "none_bag", "none_gru4rec",
    ]  # fmt: skip
    frozen = compared(protocols=("frozen",))
    assert [recipe.name for recipe in frozen.recipes] == ["coles_bag", "none_bag"]


def test_folds_are_the_seeds_of_a_cross_validation_and_repeated_where_asked(tmp_path):
    shop = load_dataset("shop")
    learned = shop.learning.model_copy(update={"seeds": 3})
    several = shop.model_copy(update={"learning": learned})
    once = comparison_of(several, asked(folds=5))
    assert (once.folds, once.seeds) == (5, (0, 1, 2, 3, 4))
    twice = comparison_of(several, asked(folds=5, seeds=2))
    assert twice.seeds == tuple(range(10))
    file = Asked(recipes=written(tmp_path, "folds: 4\nrecipes: {coles_bag: }"))
    assert comparison_of(several, file).seeds == (0, 1, 2, 3)
    assert comparison_of(several, asked()).seeds == (0, 1, 2)
    assert comparison_of(several, asked()).folds == 0
    with pytest.raises(ValidationError, match="seeds are the folds"):
        Comparison.model_validate(once.model_dump() | {"seeds": (0, 1, 2)})


def test_settings_go_on_top_option_by_option():
    found = compared(settings=("epochs=7", "method.hide_share=0.3", "finetuning.epochs=2"))
    plain = compared().recipes[0].recipe
    assert found.recipes[0].recipe == plain.model_copy(
        update={"epochs": 7, "method": plain.method.model_copy(update={"hide_share": 0.3})}
    )
    assert found.recipes[1].recipe.method.model_dump() == {"name": "none"}  # has no options
    learned = load_dataset("shop").learning.finetuning
    assert found.finetuning == learned.model_copy(update={"epochs": 2})


def test_a_method_said_by_name_takes_options_too():
    found = compared(settings=("method=ptum", "method.negatives=3", "encoder.dropout=0.3"))
    recipe = found.recipes[0].recipe
    assert (recipe.name, recipe.method.negatives, recipe.encoder.dropout) == ("ptum_bag", 3, 0.3)


def test_a_task_that_stops_training_early_is_of_the_kind_that_the_data_set_says():
    recipe = compared(settings=("validation.task=age", "validation.patience=2")).recipes[0].recipe
    assert recipe.validation == EarlyStopping(task="age", kind="classification", patience=2)


def test_each_shape_of_an_encoder_has_its_own_from_scratch(tmp_path):
    recipes = "recipes: {coles_bag: , wide_bag: {method: coles, dim: 16}}"
    asked_for = Asked(recipes=written(tmp_path, recipes))
    found = comparison_of(load_dataset("shop"), asked_for).recipes
    assert random_labels(found) == {
        ("coles", "bag"): "none", ("wide", "bag"): "none 2",
        ("none", "bag"): "none", ("none 2", "bag"): "none 2",
    }  # fmt: skip


def test_an_encoder_of_another_shape_is_not_the_same_from_scratch():
    shop = load_dataset("shop")
    settings = {"wide_bag": {"method": "ptum", "dim": 32}, "long_bag": {"method": "ptum"}}
    recipes = {
        name: Recipe.named(name, {"dim": 64} | settings.get(name, {}))
        for name in ("ptum_bag", "wide_bag", "long_bag", "none_bag")
    }
    found = random_labels(yaml_comparison(shop, recipes).recipes)
    assert found == {("ptum", "bag"): "none", ("long", "bag"): "none", ("none", "bag"): "none"}


def test_from_scratch_reads_text_by_the_same_encoder():
    reads = ("fields=[item, text]", "text.encoder=cnn")
    pretrained, scratch = (each.recipe for each in compared(settings=reads).recipes)
    assert scratch.text == pretrained.text
    assert scratch.text is not None
    assert scratch.text.encoder == "cnn"
    assert scratch.shape == pretrained.shape


def test_each_batch_size_is_a_recipe():
    found = compared(methods=("barlow", "dual"), batch_sizes=(16, 64))
    labels = [recipe.label for recipe in found.recipes]
    assert labels == ["barlow b16", "barlow b64", "dual b16", "dual b64", "none"]
    assert found.recipes[1].recipe.batch_size == 64


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    return path


def test_a_file_names_recipes_and_the_options_overrule_it(tmp_path):
    path = written(
        tmp_path,
        """
        title: A table
        common: {dim: 16, method: {hide_share: 0.1}}
        recipes:
          coles_bag:
          coles long_bag:
            {method: {name: coles, temperature: 0.2}, encoder: bag, epochs: 30}
        tasks: [gender]
        labels: [5, 100]
        seeds: 3
        finetuning: {epochs: 3, patience: 1}
        """,
    )
    options = Asked(recipes=path, seeds=2, settings=("finetuning.epochs=5",))
    found = comparison_of(load_dataset("shop"), options)
    assert [recipe.label for recipe in found.recipes] == ["coles", "coles long", "none"]
    long = found.recipes[1].recipe
    assert (long.method.name, long.method.hide_share, long.method.temperature) == (
        "coles", 0.1, 0.2,
    )  # fmt: skip
    assert (long.epochs, long.dim) == (30, 16)
    assert (found.shares, found.seeds, found.title) == ((0.05, 1.0), (0, 1), "A table")
    assert found.tasks == ("gender",)
    assert (found.finetuning.epochs, found.finetuning.patience) == (5, 1)
    scratch = found.recipes[2].recipe
    assert (scratch.dim, scratch.max_length) == (16, 200)


SLIPS = {
    "recipe: {}": "table.yaml:1: recipe: there is no such field: did you mean 'recipes'",
    "recipes: [": "table.yaml:1: not valid YAML",
    "recipes: {ptum_bag: 3}": "table.yaml:1: recipes.ptum_bag: Input should be a valid dict",
    "labels: 5": "table.yaml:1: labels: Input should be a valid tuple",
    "labels: [all]": "table.yaml:1: labels.0: Input should be a valid number",
    "title: T\nlabels: [5,\n  500]": "table.yaml:3: labels.1: Input should be less than or equal",
    "recipes:\n  coles_bag:\n  ptum_bag: {epoch: 3}": (
        "table.yaml:3: recipes.ptum_bag.epoch: there is no such field: did"
    ),
    "recipes:\n  ptum_bag:\n    method: {negative: 3}": (
        "table.yaml:3: recipes.ptum_bag.method.negative: there is no such field: did"
    ),
    "recipes:\n  next_bag:\n": "table.yaml:2: recipes.next_bag: method next needs an encoder",
    "recipes: {coles_bag: }\nfinetuning:\n  epoch: 2": (
        "table.yaml:3: finetuning.epoch: there is no such field: did"
    ),
    "recipes: {ptum: {encoder: bag}, ptum_bag: }": "table.yaml: two recipes share a name",
    "title: T\ntasks: [gendr]": "table.yaml: tasks: data set 'shop' has no task 'gendr'",
}


@pytest.mark.parametrize("text", SLIPS)
def test_a_slip_in_a_file_is_told_by_file_line_and_field(tmp_path, text):
    with pytest.raises(FootpathError) as fault:
        comparison_of(load_dataset("shop"), Asked(recipes=written(tmp_path, text)))
    assert SLIPS[text] in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FootpathError, match="cannot be read: No such file"):
        comparison_of(load_dataset("shop"), Asked(recipes=tmp_path / "none.yaml"))


def test_a_comparison_never_changes_and_is_read_as_it_was_written():
    found = compared()
    with pytest.raises(ValidationError, match="frozen"):
        found.seeds = (3,)  # type: ignore[misc]
    assert Comparison.model_validate_json(found.model_dump_json()) == found
