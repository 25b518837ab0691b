"""What one data set is: where its files land, what their columns mean, what to learn from them.

A data set is one YAML file in `datasets/`. Its SQL expressions are DuckDB SQL over the columns
declared under `landing.columns`; they are trusted like code.
"""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from contracts.base.errors import FootpathError
from contracts.base.schema import Name, Strict, Zone
from contracts.config.feature_list import Features, check_features
from contracts.config.learning import Learning
from contracts.config.policy import Lateness, Quality, Sessions
from contracts.config.source import EventMapping, Items, Landing, Partitions, Users
from contracts.config.tasks import Task

DATASETS = Path(__file__).parents[2] / "datasets"


class Dataset(Strict):
    """One data set, whole. Load it with `load_dataset`."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
    title: str
    timezone: Zone
    partitions: Partitions
    landing: Landing
    events: EventMapping
    actions: list[Name] = Field(min_length=1, description="every action that may occur")
    items: Items | None = None
    users: Users | None = None
    sessions: Sessions = Sessions()
    lateness: Lateness = Lateness()
    quality: Quality = Quality()
    features: Features = Features()
    tasks: list[Task] = Field([])
    learning: Learning = Learning()

    @property
    def slug(self) -> str:
        """The name where only letters, digits and underscores may stand."""
        return self.name.replace("-", "_")

    @property
    def daily_tasks(self) -> list[Task]:
        """The tasks whose examples end with the as-of day: those that have assets."""
        return [task for task in self.tasks if task.source == "day"]

    @model_validator(mode="after")
    def _tasks_have_columns(self) -> "Dataset":
        known = set(self.users.attributes) if self.users else set()
        for task in self.tasks:
            if task.column and task.column not in known:
                raise ValueError(
                    f"task {task.name} asks for user attribute '{task.column}', "
                    f"and users.attributes has {sorted(known) or 'none'}"
                )
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise ValueError("two tasks share a name")
        return self

    @model_validator(mode="after")
    def _validation_has_a_task(self) -> "Dataset":
        known = [task.name for task in self.daily_tasks]
        if self.learning.validation and self.learning.validation.task not in known:
            raise ValueError(
                f"learning.validation asks for task '{self.learning.validation.task}', and the "
                f"tasks whose examples end with the as-of day are {', '.join(known) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _lateness_has_an_arrival(self) -> "Dataset":
        if self.lateness.allowed_days is not None and not self.landing.is_dated:
            raise ValueError(
                "lateness.allowed_days needs the day on which a file arrived: "
                "put {year}, {month} and {day} into landing.url, or leave lateness out"
            )
        return self

    @model_validator(mode="after")
    def _features_can_be_made(self) -> "Dataset":
        has_categories = self.items is not None and self.items.category is not None
        check_features(self.features, self.actions, has_categories)
        return self


def dataset_names() -> list[str]:
    """Returns the names of all configured data sets, in order."""
    return sorted(path.stem for path in DATASETS.glob("*.yaml"))


def load_dataset(name: str) -> Dataset:
    """Loads `datasets/<name>.yaml`.

    Raises:
      FootpathError: there is no such data set, or its YAML is wrong (file, line, field, reason).
    """
    path = DATASETS / f"{name}.yaml"
    if not path.exists():
        raise FootpathError(
            f"there is no data set '{name}' ({path} is missing): "
            f"the configured ones are {', '.join(dataset_names())}"
        )
    return load_dataset_file(path)


def load_dataset_file(path: Path) -> Dataset:
    """Loads a data set's YAML from any path.

    Raises:
      FootpathError: the file cannot be read or is wrong: file, line, field, reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except OSError as error:
        raise FootpathError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FootpathError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise FootpathError(f"{path}:{line}: not valid YAML: {problem}") from None
    except ValueError as error:  # what looks like a date and is none
        raise FootpathError(f"{path}: a date in it is none ({error})") from None
    if not isinstance(values, dict):
        raise FootpathError(f"{path}:1: expected a mapping of fields, such as 'name: shop'")
    try:
        dataset = Dataset.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{path}:{_line_of(root, fault['loc'])}: "
            f"{'.'.join(str(part) for part in fault['loc']) or 'the file'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise FootpathError("\n".join(faults)) from None
    if dataset.name != path.stem:
        raise FootpathError(
            f"{path}:{_line_of(root, ('name',))}: name is '{dataset.name}', "
            f"and the file's name says '{path.stem}': make them equal"
        )
    return dataset


def _line_of(node: yaml.Node, loc: tuple) -> int:
    """Returns the line, from 1, of the deepest part of loc that stands in the YAML."""
    line = node.start_mark.line + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pairs = [pair for pair in node.value if pair[0].value == str(part)]
            if not pairs:
                break
            key, node = pairs[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
