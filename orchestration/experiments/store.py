"""Where comparisons lie, and what the data set's YAML has measured.

<lake>/comparisons/<name>/plan.json                 what is compared, resolved
<name>.md, .html, ...     what came out
"""

import dataclasses
import datetime as dt
import re
from pathlib import Path

from pydantic import ValidationError

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.comparison import Comparison, yaml_comparison
from contracts.config.dataset import Dataset
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json, publish_text
from contracts.lake.reading import read_json, read_texts
from contracts.lake.versions import ModelVersion, latest_finished
from contracts.recipes.checkpoint import CheckpointFacts, load_facts
from contracts.recipes.recipe import Recipe
from models.experiments.cells import local_model, read_measured
from models.experiments.planning import Plan, Planner, unmeasurable
from orchestration.experiments.inputs import Say, day_source, prepare


def comparison_folder(lake: Lake, name: str) -> Path:
    """The folder of a comparison.

    Raises:
      FootpathError: the name, which may be a partition that a person has added, is no name.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise FootpathError(f"'{name}' is no name of a comparison: give letters, digits and dashes")
    return lake.root / "comparisons" / name


def part_keys(name: str, parts: int) -> list[str]:
    """Partitions that each measure a part of a comparison: `<name>.<i>of<n>`, on any machine."""
    return [f"{name}.{part}of{parts}" for part in range(1, parts + 1)] if parts > 1 else []


def parse_part(key: str) -> tuple[str, int, int]:
    """Name, part and number of parts that a partition stands for; the whole is part 0 of 1."""
    found = re.fullmatch(r"(.+)\.(\d+)of(\d+)", key)
    return (found[1], int(found[2]) - 1, int(found[3])) if found else (key, 0, 1)


def write_comparison(lake: Lake, name: str, comparison: Comparison) -> None:
    """Keeps what is to be compared, for who runs it."""
    text = comparison.model_dump_json(indent=2)
    publish_text(lake, text, comparison_folder(lake, name) / "plan.json")


def read_comparison(lake: Lake, name: str) -> Comparison:
    """Reads what is to be compared.

    Raises:
      FootpathError: nobody has planned it, or the plan is of another format.
    """
    path = comparison_folder(lake, name) / "plan.json"
    if not path.exists():
        raise FootpathError(f"{path} is not there: plan it by `footpath compare --name {name}`")
    try:
        return Comparison.model_validate_json(read_texts([path])[0] or "")
    except ValidationError:
        raise FootpathError(
            f"{path} is not of this Footpath: plan it again by `footpath compare --name {name}`"
        ) from None


def planned(
    dataset: Dataset, lake: Lake, comparison: Comparison, say: Say, same_code: bool = False
) -> Plan:
    """The trials and cells of a comparison, with its inputs built."""
    from features.learning.labels import default_as_of

    sources = prepare(comparison, dataset, lake, default_as_of(dataset, lake), say)
    plan = Planner(comparison, dataset, lake, sources, same_code=same_code).plan()
    done = sum(cell.is_done() for cell in plan.cells)
    say(f"{len(plan.cells)} cells, {done} of them measured; {len(plan.jobs)} processes to run")
    return plan


def planner_of(
    dataset: Dataset,
    lake: Lake,
    recipes: dict[str, Recipe],
    as_of: str,
    seed: int = 0,
    measures: bool = True,
) -> Planner:
    """What plans trials and cells of recipes, as the data set's YAML has them measured.

    Args:
      dataset: whose tasks, label shares and seeds.
      lake: of the data set.
      recipes: by name; none for the baselines alone.
      as_of: the day with which inputs end.
      seed: the first of the seeds.
      measures: cells are planned, which need labels; without, trainings alone. Tasks for which
        the labels are of too few users are left out (`not_measured`).

    Raises:
      FootpathError: the inputs are not built, or are of too few users for any task.
    """
    day = dt.date.fromisoformat(as_of)
    labels = lake.day("labels", day)
    judged = any(r.judged_by for r in recipes.values())
    if (measures or judged) and not labels.exists():
        raise FootpathError(f"{labels} is not there: materialize labels of {as_of} first")
    source = day_source(dataset, lake, day, with_features=measures)
    comparison = yaml_comparison(dataset, recipes, seed)
    if measures:
        left_out = not_measured(dataset, lake, as_of, seed)
        tasks = tuple(task for task in comparison.tasks if task not in left_out)
        if not tasks:
            raise FootpathError(
                f"no task of data set '{dataset.name}' can be measured as of {as_of}: each needs "
                f"more users: {'; '.join(f'{task}: {why}' for task, why in left_out.items())}"
            )
        comparison = comparison.model_copy(update={"tasks": tasks})
    return Planner(comparison, dataset, lake, {"day": source}, keep_models=True)


def not_measured(dataset: Dataset, lake: Lake, as_of: str, seed: int = 0) -> dict[str, str]:
    """Tasks that cannot be measured on the labels of a day, by name, and why."""
    source = day_source(dataset, lake, dt.date.fromisoformat(as_of), with_features=False)
    return unmeasurable(dataset.daily_tasks, source, yaml_comparison(dataset, {}, seed).seeds)


def planner_of_version(dataset: Dataset, lake: Lake, version: ModelVersion) -> Planner:
    """The same of the recipe that a finished version was trained by.

    Raises:
      FootpathError: what it was trained on is not there any more, so that others would be measured.
    """
    facts = facts_of(lake, version)
    recipes = {version.recipe: facts.recipe}
    planner = planner_of(dataset, lake, recipes, version.as_of, facts.seed)
    (named,) = planner.comparison.recipes
    if planner.training(named, planner.sources["day"], facts.seed).trial != version.trial:
        raise FootpathError(
            f"{version.version} was trained on what sequences of {version.as_of} were before "
            f"they were built anew: materialize pretrained_encoder of {version.recipe} first"
        )
    return planner


def plan_of_served(dataset: Dataset, lake: Lake, version: ModelVersion, as_of: str) -> Plan:
    """The frozen probes, with all labels, of a finished version on the labels of another day.

    Its sequences are of that day, in the vocabulary that the version was trained with.
    """
    from features.learning.sequences import build_sequences

    facts, day = facts_of(lake, version), dt.date.fromisoformat(as_of)
    planner = planner_of(dataset, lake, {version.recipe: facts.recipe}, as_of, facts.seed)
    words = local_model(lake, version.trial) / "vocabulary.json"
    pointer = build_sequences(dataset, lake, day, words).pointer
    local_copy(lake, pointer.parent / read_json(pointer)["folder"])
    source = dataclasses.replace(planner.sources["day"], sequences=local_copy(lake, pointer))
    asked = {"protocols": ("frozen",), "shares": (1.0,), "seeds": (facts.seed,)}
    comparison = planner.comparison.model_copy(update=asked)
    planner = dataclasses.replace(
        planner, comparison=comparison, sources={"day": source}, keep_models=False
    )
    return planner.plan(trained=version.trial)


def board_inputs(dataset: Dataset, lake: Lake) -> str:
    """Hash of all that the leaderboard shows: the cells of the newest versions, and baselines."""
    names = board_names(dataset, lake)
    cells = {
        name: sorted(cell.key for each in read_measured(lake, name) for cell in each.cells)
        for name in names
    }
    return hash_json(cells)


def board_names(dataset: Dataset, lake: Lake) -> list[str]:
    """What the leaderboard shows: the baselines and the newest version of every recipe."""
    newest = [latest_finished(lake, recipe) for recipe in dataset.learning.recipes]
    return ["baselines", *(version.version for version in newest if version)]


def keep_board_inputs(lake: Lake, made_from: str) -> None:
    """Keeps what the leaderboard was made from."""
    publish_json(lake, {"made_from": made_from}, _board(lake))


def read_board_inputs(lake: Lake) -> str:
    """What the leaderboard was made from; empty where there is none."""
    path = _board(lake)
    return read_json(path)["made_from"] if path.exists() else ""


def _board(lake: Lake) -> Path:
    return lake.root / "leaderboard" / "made_from.json"


def facts_of(lake: Lake, version: ModelVersion) -> CheckpointFacts:
    """What is known of a version without its weights."""
    return load_facts(version.folder(lake))
