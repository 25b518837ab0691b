"""What is compared: recipes, tasks, label shares, seeds, protocols.

In: the options of the command, and a YAML file that may say the same and names recipes. Out: one
`Comparison`, checked as far as can be known before anything runs.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.tasks import Task
from orchestration.compare.recipe_file import expect, read_file
from orchestration.compare.recipes import (
    Recipe,
    check_recipes,
    recipe_of,
    scratch_of,
    spread,
)

PROTOCOLS = ("frozen", "finetuned", "scratch", "native")
DEFAULT_PROTOCOLS = ("frozen", "finetuned", "scratch")

# Settings of fine-tuning that are not to be chosen here: what every cell says itself.
MEASURED = (
    "sequences", "labels", "out", "tasks", "label_shares", "seeds", "first_seed", "head_features",
    "predictions", "checkpoint", "model_out", "vectors", "protocols", "threads", "device",
)  # fmt: skip


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
    features: bool = True  # heads see the behavior features too, where a task has them
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
        recipe_of(name, said or {}, common, train) for name, said in file.get("recipes", {}).items()
    ]
    methods = asked.methods or tuple(file.get("methods", ()))
    encoders = asked.encoders or tuple(file.get("encoders", ()))
    if bool(methods) != bool(encoders):
        raise FootpathError("--methods and --encoders go together: each method with each encoder")
    named += [recipe_of(f"{m}_{e}", {}, common, train) for m in methods for e in encoders]
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
    _check_finetune(file.get("finetune", {}), f"{asked.recipes}: finetune")
    _check_finetune(finetune, "--set finetune")
    recipes = spread(named, batch_sizes)
    check_recipes(recipes)
    return Comparison(
        dataset=dataset,
        recipes=recipes + (scratch_of(recipes) if "scratch" in protocols else ()),
        tasks=_tasks(dataset, asked.tasks or tuple(file.get("tasks", ()))),
        shares=tuple(sorted(set(shares))),
        seeds=seeds,
        protocols=protocols,
        finetune={"epochs": learning.finetune_epochs} | file.get("finetune", {}) | finetune,
        features=asked.features,
        title=file.get("title", f"What works on {dataset.title}"),
        batch_sizes=batch_sizes,
    )


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


def _check_finetune(finetune: dict[str, Any], where: str) -> None:
    """Checks the fields of fine-tuning and their values before anything is built or trained."""
    from models.runtime.config import FinetuneConfig, parse

    known = [f.name for f in dataclasses.fields(FinetuneConfig) if f.name not in MEASURED]
    for name in finetune:
        expect(
            name in known,
            f"{where}: fine-tuning has no field '{name}' to choose: {', '.join(known)}",
        )
    paths = dict.fromkeys(("sequences", "labels", "out", "checkpoint"), "not yet known")
    parse(FinetuneConfig, paths | {"tasks": [{"name": "any"}]} | finetune, where)


def _overrides(settings: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what `--set` says of pre-training and of fine-tuning (finetune.<field>)."""
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
            finetune[rest] = parsed
        elif rest:
            train.setdefault(first, {})[rest] = parsed
        else:
            train[first] = parsed
    return train, finetune
