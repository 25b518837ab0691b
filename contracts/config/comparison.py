"""A comparison: which recipes are measured on which tasks, label shares and seeds.

In: the options of a command, a YAML file that may say the same and names recipes, and the data
set's YAML. Out: one `Comparison`, resolved and checked before anything is built or trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from contracts.base.errors import FootpathError
from contracts.base.schema import Count, Strict, relocated, sentences
from contracts.config.dataset import Dataset
from contracts.config.learning import Validation
from contracts.config.yaml_file import load_yaml
from contracts.recipes.jobs import Finetuning, LabelShare, Protocol
from contracts.recipes.recipe import Recipe

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
DEFAULT_PROTOCOLS: tuple[Protocol, ...] = ("frozen", "finetuned", "scratch")
Percent = Annotated[float, Field(gt=0, le=100)]
Folds = Annotated[int, Field(ge=0, le=100)]
Settings = dict[str, Any]  # of a recipe, as YAML has them


class NamedRecipe(Strict):
    """A recipe under the name that the tables give it: `<label>_<encoder>`."""

    name: str
    recipe: Recipe

    @property
    def label(self) -> str:
        """The name without the encoder, which has a column of its own."""
        return self.name.removesuffix(f"_{self.recipe.encoder.name}")


class Comparison(Strict):
    """What is to be measured."""

    title: str = "Leaderboard"
    recipes: tuple[NamedRecipe, ...]
    tasks: tuple[str, ...]
    shares: tuple[LabelShare, ...]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    folds: Folds = 0  # K: the splits of each K seeds are the folds of one cross-validation
    protocols: tuple[Protocol, ...]
    finetuning: Finetuning = Finetuning()
    features: bool = True  # heads see the behavior features too, where a task has them
    batch_sizes: tuple[Count, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> "Comparison":
        if len({recipe.name for recipe in self.recipes}) < len(self.recipes):
            raise ValueError("two recipes share a name: name a method and encoder once")
        return self

    @model_validator(mode="after")
    def _folds_are_whole(self) -> "Comparison":
        if self.folds == 1:
            raise ValueError("folds: give 2 or more, each user is a test user of one of them")
        if self.folds and self.seeds != tuple(range(len(self.seeds) // self.folds * self.folds)):
            raise ValueError(f"folds: seeds are the folds, 0 to {self.folds - 1}, or so on")
        return self


class ComparisonFile(Strict):
    """The YAML file of recipes, and of whatever else it fixes."""

    title: str = ""
    common: Settings = Field({}, description="of all recipes")
    recipes: dict[str, Settings | None] = Field({})
    methods: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    labels: tuple[Percent, ...] = ()
    seeds: Annotated[int, Field(ge=0)] = 0  # 0: the data set's; with folds, 1
    folds: Folds = 0
    protocols: tuple[Protocol, ...] = ()
    batch_sizes: tuple[Count, ...] = ()
    finetuning: Settings = Field({})


@dataclass(frozen=True)
class Asked:
    """The options of the command; empty where one was not given."""

    methods: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    seeds: int = 0
    folds: int = 0
    protocols: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # key=value
    recipes: Path | None = None
    batch_sizes: tuple[int, ...] = ()
    features: bool = True


def comparison_of(dataset: Dataset, asked: Asked) -> Comparison:
    """Resolves what to compare: options, over the file, over the data set's YAML.

    Raises:
      FootpathError: something unknown is asked for, or nothing is.
    """
    if not asked.recipes:
        return _resolved(dataset, asked, ComparisonFile())
    found: list[Comparison] = []
    load_yaml(
        ComparisonFile, asked.recipes, lambda file: found.append(_resolved(dataset, asked, file))
    )
    return found[0]


def yaml_comparison(
    dataset: Dataset, recipes: dict[str, Recipe] | None = None, seed: int = 0
) -> Comparison:
    """What the data set's YAML measures: the plan under the assets of learning and evaluation.

    Args:
      dataset: whose `learning` and tasks.
      recipes: in the place of those of `learning`.
      seed: the first of them.
    """
    learning = dataset.learning
    named = dataset.recipes if recipes is None else recipes
    return Comparison(
        title=f"Leaderboard of {dataset.title}",
        recipes=tuple(NamedRecipe(name=name, recipe=recipe) for name, recipe in named.items()),
        tasks=tuple(task.name for task in dataset.daily_tasks),
        shares=tuple(learning.label_shares),
        seeds=tuple(range(seed, seed + learning.seeds)),
        protocols=DEFAULT_PROTOCOLS,
        finetuning=learning.finetuning,
    )


def random_recipes(recipes: tuple[NamedRecipe, ...]) -> tuple[NamedRecipe, ...]:
    """Recipes with random weights, one for each shape among the given that has none yet."""
    found: list[NamedRecipe] = [each for each in recipes if not each.recipe.method.trains]
    added: list[NamedRecipe] = []
    for each in recipes:
        if any(other.recipe.shape == each.recipe.shape for other in found):
            continue
        encoder = each.recipe.encoder.name
        alike = sum(other.recipe.encoder.name == encoder for other in found)
        name = f"none{f' {alike + 1}' if alike else ''}_{encoder}"
        recipe = Recipe.model_validate(each.recipe.shape | {"method": "none"})
        added.append(NamedRecipe(name=name, recipe=recipe))
        found.append(added[-1])
    return tuple(added)


def random_labels(recipes: tuple[NamedRecipe, ...]) -> dict[tuple[str, str], str]:
    """By label and encoder: the label of the recipe that is the same encoder untrained."""
    random = [each for each in recipes if not each.recipe.method.trains]
    return {
        (each.label, each.recipe.encoder.name): other.label
        for each in recipes
        for other in random
        if other.recipe.shape == each.recipe.shape
    }


def _resolved(dataset: Dataset, asked: Asked, file: ComparisonFile) -> Comparison:
    train, finetuning = _overrides(asked.settings)
    for share in asked.shares:
        if not 0 < share <= 1:
            raise FootpathError(f"--labels {share * 100:g}: give percentages above 0, up to 100")
    recipes = _recipes(dataset, asked, file, train)
    batch_sizes = asked.batch_sizes or file.batch_sizes
    protocols = asked.protocols or file.protocols or DEFAULT_PROTOCOLS
    shares = asked.shares or tuple(percent / 100 for percent in file.labels)
    folds = asked.folds or file.folds
    # Cross-validation is repeated where somebody asks for it: it has K runs as it is.
    seeds = asked.seeds or file.seeds or (1 if folds else dataset.learning.seeds)
    spread = _spread(recipes, batch_sizes)
    spread += random_recipes(spread)
    fields = {
        "title": file.title or f"What works on {dataset.title}",
        "recipes": spread,
        "tasks": _tasks(dataset, asked, file),
        "shares": tuple(sorted(set(shares or dataset.learning.label_shares))),
        "seeds": tuple(range(seeds * (folds or 1))),
        "folds": folds,
        "protocols": protocols,
        "finetuning": _finetuning(dataset, file).model_dump() | finetuning,
        "features": asked.features,
        "batch_sizes": batch_sizes,
    }
    try:
        return Comparison.model_validate(fields)
    except ValidationError as error:
        where = f"the comparison of {asked.recipes}" if asked.recipes else "the comparison"
        raise FootpathError(sentences(error, where)) from None


def _finetuning(dataset: Dataset, file: ComparisonFile) -> Finetuning:
    """Settings of fine-tuning: the file's over the data set's."""
    try:
        return Finetuning.model_validate(dataset.learning.finetuning.model_dump() | file.finetuning)
    except ValidationError as error:
        raise relocated(error, "finetuning") from None


def _recipes(
    dataset: Dataset, asked: Asked, file: ComparisonFile, train: Settings
) -> list[NamedRecipe]:
    methods, encoders = asked.methods or file.methods, asked.encoders or file.encoders
    if bool(methods) != bool(encoders):
        raise FootpathError("--methods and --encoders go together: each method with each encoder")
    named = {name: _merged(file.common, own or {}) for name, own in file.recipes.items()}
    for name in [f"{method}_{encoder}" for method in methods for encoder in encoders]:
        if name in named:
            raise FootpathError("two recipes share a name: name a method and encoder once")
        named[name] = file.common
    if not named:  # those of the data set, as its assets train them
        learned = dataset.learning
        named = {name: learned.settings.get(name, {}) for name in learned.recipes}
    found = []
    for name, settings in named.items():
        try:
            recipe = Recipe.named(name, dataset.common_settings | _merged(settings, train))
        except ValidationError as error:
            if name in file.recipes:
                raise relocated(error, "recipes", name) from None
            raise FootpathError(sentences(error, f"recipe {name}")) from None
        recipe = _stopped_early(dataset, name, recipe)
        end = f"_{recipe.encoder.name}"
        found.append(NamedRecipe(name=name.removesuffix(end) + end, recipe=recipe))
    return found


def _stopped_early(dataset: Dataset, name: str, recipe: Recipe) -> Recipe:
    """The recipe with what its data set knows of the task that stops it early."""
    if recipe.validation is None or recipe.validation.task is None:
        return recipe
    asked = Validation.model_validate(recipe.validation.model_dump(exclude={"kind", "held_out"}))
    try:
        return recipe.model_copy(update={"validation": dataset.early_stopping(asked)})
    except ValueError as error:
        raise FootpathError(f"recipe {name}: {error}") from None


def _merged(settings: Settings, more: Settings) -> Settings:
    """Settings with others on top; the options of method and encoder one by one."""
    found = dict(settings)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = found[key] | value if both else value
    return found


def _spread(recipes: list[NamedRecipe], batch_sizes: tuple[int, ...]) -> tuple[NamedRecipe, ...]:
    """Each recipe for each batch size; without any, as it is."""
    if not batch_sizes:
        return tuple(recipes)
    return tuple(
        NamedRecipe(
            name=f"{each.label} b{size}_{each.recipe.encoder.name}",
            recipe=each.recipe.model_copy(update={"batch_size": size}),
        )
        for each in recipes
        for size in batch_sizes
        if size == batch_sizes[0] or each.recipe.method.trains
    )


def _tasks(dataset: Dataset, asked: Asked, file: ComparisonFile) -> tuple[str, ...]:
    names, where = asked.tasks, "--tasks"
    if not names:
        names, where = file.tasks, f"{asked.recipes}: tasks"
    known = [task.name for task in dataset.tasks]
    if not known:
        raise FootpathError(
            f"data set '{dataset.name}' has no tasks: name some in datasets/{dataset.name}.yaml"
        )
    for name in names:
        if name not in known:
            raise FootpathError(
                f"{where}: data set '{dataset.name}' has no task '{name}': it has "
                f"{', '.join(known)}"
            )
    return tuple(dict.fromkeys(names)) or tuple(known)


def _overrides(settings: tuple[str, ...]) -> tuple[Settings, Settings]:
    """What `--set` says of pre-training and of fine-tuning (finetuning.<field>)."""
    train: Settings = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise FootpathError(f"--set {text}: write it as key=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise FootpathError(f"--set {text}: '{value}' is not a YAML value") from None
        first, _, rest = key.partition(".")
        if rest:
            options = train.setdefault(first, {})
            if not isinstance(options, dict):
                options = train[first] = {"name": options}
            options[rest] = parsed
        else:
            train[first] = parsed
    finetuning = train.pop("finetuning", {})
    if not isinstance(finetuning, dict):
        raise FootpathError(f"--set finetuning={finetuning}: write it as finetuning.<field>=value")
    return train, finetuning
