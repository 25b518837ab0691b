"""Recipes: named settings of pre-training, checked, spread over batch sizes, and from scratch."""

from dataclasses import dataclass
from typing import Any

from contracts.base.errors import FootpathError
from contracts.config.learning import CHOSEN
from orchestration.compare.recipe_file import expect

# Settings of training that an encoder's shape follows from.
SHAPE = ("dim", "max_length", "fields", "encoder_options", "text")

# Settings of training that say where or how fast, not what: they are not to be chosen here.
OURS = (*sorted(CHOSEN), "threads", "device")


@dataclass(frozen=True)
class Recipe:
    """One way to make an encoder. `label` is the method as the table names it."""

    name: str
    method: str
    encoder: str
    train: dict[str, Any]  # fields of models.runtime.config.TrainConfig

    @property
    def label(self) -> str:
        """The name without the encoder, which has a column of its own."""
        return self.name.removesuffix(f"_{self.encoder}")


def check_recipes(recipes: tuple[Recipe, ...]) -> None:
    """Checks method, encoder and settings of recipes.

    Raises:
      FootpathError: one of them is unknown.
    """
    from models.nn.encoders import ENCODERS
    from models.objectives import OBJECTIVES
    from models.runtime.config import TrainConfig, parse

    for recipe in recipes:
        for what, name, known in (
            ("method", recipe.method, OBJECTIVES), ("encoder", recipe.encoder, ENCODERS),
        ):  # fmt: skip
            expect(
                name in known, f"there is no {what} '{name}': the known ones are {', '.join(known)}"
            )
        for name in OURS:
            expect(
                name not in recipe.train,
                f"recipe {recipe.name}: '{name}' is chosen by the comparison, not by a recipe",
            )
        expect(
            not recipe.train.get("validation"),
            f"recipe {recipe.name}: 'validation' does not go with a comparison: its labels have "
            f"one split of the users, and here every seed has its own",
        )
        parse(TrainConfig, train_settings(recipe, 0), f"recipe {recipe.name}")
        resolved(recipe)


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Returns the options of objective, encoder and text with all their defaults.

    A default that changes in the code then changes what a recipe is, and its cells.

    Raises:
      FootpathError: an option is unknown or out of bounds.
    """
    from models.nn.encoders import ENCODERS
    from models.nn.text import Options as TextOptions
    from models.objectives import OBJECTIVES
    from models.runtime.config import parse, plain

    kinds = {
        "objective": OBJECTIVES[recipe.method].options_class,
        "encoder_options": ENCODERS[recipe.encoder].options_class,
        "text": TextOptions,
    }
    return {
        name: plain(parse(kind, recipe.train.get(name, {}), f"recipe {recipe.name}: {name}"))
        for name, kind in kinds.items()
        if name != "text" or recipe.train.get("text") or "text" in recipe.train.get("fields", ())
    }


def train_settings(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Returns fields of TrainConfig, without those that say where things lie."""
    return recipe.train | {
        "sequences": "-", "out": "-", "version": recipe.name, "seed": seed,
        "recipe": f"{recipe.method}_{recipe.encoder}",
        "method": recipe.method, "encoder": recipe.encoder,
    }  # fmt: skip


def recipe_of(name: str, said: dict[str, Any], common: dict, overrides: dict) -> Recipe:
    """Returns what a file says of a recipe, on top of what all have; overrides come last."""
    method, _, encoder = name.partition("_")
    own = {key: value for key, value in said.items() if key not in ("method", "encoder")}
    settings = common
    for more in (own, overrides):
        settings = _merged(settings, more)
    return Recipe(name, said.get("method", method), said.get("encoder", encoder), settings)


def _merged(settings: dict, more: dict) -> dict:
    """Returns settings with others on top; the options of objective and encoder one by one."""
    found = dict(settings)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = found[key] | value if both else value
    return found


def spread(recipes: list[Recipe], batch_sizes: tuple[int, ...]) -> tuple[Recipe, ...]:
    """Returns each recipe for each batch size; without any, as it is. Names stay apart."""
    if len({(recipe.label, recipe.encoder) for recipe in recipes}) < len(recipes):
        raise FootpathError("two recipes share a name: name a method and encoder once")
    if not batch_sizes:
        return tuple(recipes)
    return tuple(
        Recipe(
            f"{recipe.label} b{size}_{recipe.encoder}",
            recipe.method,
            recipe.encoder,
            recipe.train | {"batch_size": size},
        )
        for recipe in recipes
        for size in batch_sizes
        if size == batch_sizes[0] or recipe.method != "none"
    )


def scratch_of(recipes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
    """Returns what is trained from scratch: an encoder of each shape, with random weights."""
    found: dict[str, Recipe] = {}
    for recipe in recipes:
        shape = _shape_of(recipe)
        alike = [each for each in found.values() if each.encoder == recipe.encoder]
        if recipe.method == "none" or any(each.train == shape for each in alike):
            continue
        nth = f" {len(alike) + 1}" if alike else ""
        name = f"none{nth}_{recipe.encoder}"
        found[name] = Recipe(name, "none", recipe.encoder, shape)
    known = {recipe.name for recipe in recipes}
    return tuple(recipe for recipe in found.values() if recipe.name not in known)


def scratch_labels(recipes: tuple[Recipe, ...]) -> dict[tuple[str, str], str]:
    """Returns by label and encoder which recipe is the same encoder from scratch, by its label."""
    random = [recipe for recipe in recipes if recipe.method == "none"]
    return {
        (recipe.label, recipe.encoder): other.label
        for recipe in recipes
        for other in random
        if (other.encoder, _shape_of(other)) == (recipe.encoder, _shape_of(recipe))
    }


def _shape_of(recipe: Recipe) -> dict[str, Any]:
    return {key: recipe.train[key] for key in SHAPE if key in recipe.train}
