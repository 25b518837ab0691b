"""What is compared: recipes, tasks, label shares, seeds, protocols.

In: the options of the command, and a YAML file that may say the same and names recipes. Out: one
`Comparison`, checked as far as can be known before anything runs.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from contracts.dataset import Dataset
from contracts.errors import FootpathError
from contracts.learning import CHOSEN
from contracts.tasks import Task
from orchestration.compare.recipe_file import expect, read_file

PROTOCOLS = ("frozen", "finetuned", "scratch", "native")
DEFAULT_PROTOCOLS = ("frozen", "finetuned", "scratch")
# Settings of training that an encoder's shape follows from.
SHAPE = ("dim", "max_length", "fields", "encoder_options", "text")

# Settings of training that say where or how fast, not what: they are not to be chosen here.
OURS = (*sorted(CHOSEN), "threads", "device")
# The same of fine-tuning: what every cell says itself.
MEASURED = (
    "sequences", "labels", "out", "tasks", "label_shares", "seeds", "first_seed", "head_features",
    "predictions", "checkpoint", "model_out", "vectors", "protocols", "threads", "device",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """One way to make an encoder. `label` is the method as the table names it."""

    name: str
    method: str
    encoder: str
    train: dict[str, Any]  # fields of models.config.TrainConfig

    @property
    def label(self) -> str:
        """The name without the encoder, which has a column of its own."""
        return self.name.removesuffix(f"_{self.encoder}")


@dataclass(frozen=True)
class Comparison:
    """What is to be measured."""

    dataset: Dataset
    recipes: tuple[Recipe, ...]
    tasks: tuple[Task, ...]
    shares: tuple[float, ...]
    seeds: int
    protocols: tuple[str, ...]
    finetune: dict[str, Any] = field(default_factory=dict)  # fields of FinetuneConfig
    features: bool = True  # heads see the behaviour features too, where a task has them
    title: str = "Leaderboard"
    batch_sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Asked:
    """The options of the command; empty where one was not given."""

    methods: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    seeds: int = 0
    protocols: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # key=value
    recipes: Path | None = None
    batch_sizes: tuple[int, ...] = ()
    features: bool = True


def comparison_of(dataset: Dataset, asked: Asked) -> Comparison:
    """Returns what to compare: options, then the file, then what the data set's YAML says.

    Raises:
      FootpathError: something unknown is asked for, or nothing is.
    """
    file = read_file(asked.recipes) if asked.recipes else {}
    train, finetune = _overrides(asked.settings)
    learning = dataset.learning
    common = {
        "dim": learning.dim, "max_length": learning.max_length, "epochs": learning.epochs,
    } | file.get("common", {})  # fmt: skip
    batch_sizes = asked.batch_sizes or tuple(file.get("batch_sizes", ()))
    protocols = asked.protocols or tuple(file.get("protocols", DEFAULT_PROTOCOLS))
    named = [
        _recipe(name, said or {}, common, train) for name, said in file.get("recipes", {}).items()
    ]
    methods = asked.methods or tuple(file.get("methods", ()))
    encoders = asked.encoders or tuple(file.get("encoders", ()))
    if bool(methods) != bool(encoders):
        raise FootpathError("--methods and --encoders go together: each method with each encoder")
    named += [_recipe(f"{m}_{e}", {}, common, train) for m in methods for e in encoders]
    if not named:
        raise FootpathError(
            "there is nothing to compare: give --methods and --encoders, or --recipes FILE"
        )
    known = ", ".join(PROTOCOLS)
    for protocol in protocols:
        expect(protocol in PROTOCOLS, f"there is no protocol '{protocol}': they are {known}")
    shares = asked.shares or tuple(float(s) / 100 for s in file.get("labels", ()))
    shares = shares or tuple(learning.label_shares)
    for share in shares:
        expect(0 < share <= 1, f"label share {share * 100:g}: give percentages above 0, up to 100")
    seeds = asked.seeds or int(file.get("seeds", learning.seeds))
    expect(seeds >= 1, f"{seeds} seeds: give 1 or more")
    recipes = _spread(named, batch_sizes)
    check_recipes(recipes)
    return Comparison(
        dataset=dataset,
        recipes=recipes + (_scratch_of(recipes) if "scratch" in protocols else ()),
        tasks=_tasks(dataset, asked.tasks or tuple(file.get("tasks", ()))),
        shares=tuple(sorted(set(shares))),
        seeds=seeds,
        protocols=protocols,
        finetune={"epochs": learning.finetune_epochs} | file.get("finetune", {}) | finetune,
        features=asked.features,
        title=file.get("title", f"What works on {dataset.title}"),
        batch_sizes=batch_sizes,
    )


def check_recipes(recipes: tuple[Recipe, ...]) -> None:
    """Checks method, encoder and settings of recipes.

    Raises:
      FootpathError: one of them is unknown.
    """
    from models.config import TrainConfig, parse
    from models.encoders import ENCODERS
    from models.objectives import OBJECTIVES

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
    from models.config import parse, plain
    from models.encoders import ENCODERS
    from models.objectives import OBJECTIVES
    from models.text import Options as TextOptions

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


def _recipe(name: str, said: dict[str, Any], common: dict, overrides: dict) -> Recipe:
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


def _spread(recipes: list[Recipe], batch_sizes: tuple[int, ...]) -> tuple[Recipe, ...]:
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


def _scratch_of(recipes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
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


def _tasks(dataset: Dataset, names: tuple[str, ...]) -> tuple[Task, ...]:
    known = {task.name: task for task in dataset.tasks}
    if not known:
        raise FootpathError(
            f"data set '{dataset.name}' has no tasks: name some in datasets/{dataset.name}.yaml"
        )
    for name in names:
        expect(
            name in known,
            f"data set '{dataset.name}' has no task '{name}': it has {', '.join(known)}",
        )
    return tuple(known[name] for name in dict.fromkeys(names)) or tuple(known.values())


def _overrides(settings: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what `--set` says of pre-training and of fine-tuning (finetune.<field>)."""
    from models.config import FinetuneConfig

    train: dict[str, Any] = {}
    finetune: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        expect(bool(equals) and bool(key), f"--set {text}: write it as key=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise FootpathError(f"--set {text}: '{value}' is not a YAML value") from None
        first, _, rest = key.partition(".")
        if first == "finetune":
            known = [f.name for f in dataclasses.fields(FinetuneConfig) if f.name not in MEASURED]
            expect(
                rest in known,
                f"--set {text}: fine-tuning has no field '{rest}' to choose: {', '.join(known)}",
            )
            finetune[rest] = parsed
        elif rest:
            train.setdefault(first, {})[rest] = parsed
        else:
            train[first] = parsed
    return train, finetune
