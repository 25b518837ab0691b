"""What one data set is: where its files land, what their columns mean, what to learn from them.

A data set is one YAML file in a folder of FOOTPATH_DATASETS or in `datasets/`. Its SQL
expressions are DuckDB SQL over the columns declared under `landing.columns`; they are trusted like
code.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, model_validator

from contracts.base.errors import FieldError, FootpathError
from contracts.base.schema import Name, Strict, Zone, located, relocated
from contracts.config.automation import Automation
from contracts.config.feature_list import Features, feature_faults
from contracts.config.learning import Learning, Validation
from contracts.config.policy import Lateness, Quality, Sessions
from contracts.config.promotion import Promotion
from contracts.config.source import EventMapping, Items, Landing, Partitions, Users
from contracts.config.tasks import Task
from contracts.config.yaml_file import load_yaml
from contracts.recipes.recipe import EarlyStopping, Recipe

NAME = r"^[a-z][a-z0-9-]*$"  # it becomes a folder of the lake
DATASETS = Path(__file__).parents[2] / "datasets"  # that come with Footpath


class Dataset(Strict):
    """One data set, whole. Load it with `load_dataset`."""

    name: Annotated[str, StringConstraints(pattern=NAME, max_length=40)]
    title: str
    owner: str = Field("", description="whom to ask about its features: a team or an address")
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
    promotion: Promotion = Promotion()
    automation: Automation = Automation()

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
        names: set[str] = set()
        wrong: list[tuple[tuple[str | int, ...], str]] = []
        for number, task in enumerate(self.tasks):
            if task.column and task.column not in known:
                text = (
                    f"task {task.name} asks for user attribute '{task.column}', "
                    f"and users.attributes has {', '.join(sorted(known)) or 'none'}"
                )
                wrong.append((("tasks", number, "column"), text))
            if task.name in names:
                wrong.append((("tasks", number, "name"), f"two tasks are called {task.name}"))
            names.add(task.name)
        if wrong:
            raise located("Dataset", wrong)
        return self

    @model_validator(mode="after")
    def _what_is_expected_is_there(self) -> "Dataset":
        known = ", ".join(self.events.properties) or "none"
        wrong: list[tuple[tuple[str | int, ...], str]] = []
        for number, entry in enumerate(self.quality.expect):
            place = ("quality", "expect", number)
            if unknown := sorted(set(entry.actions) - set(self.actions)):
                text = f"{', '.join(unknown)} is not among `actions`: {', '.join(self.actions)}"
                wrong.append(((*place, "actions"), text))
            key = entry.column.partition(".")[2]
            if key and key not in self.events.properties:
                text = f"events.properties has no '{key}', it has {known}"
                wrong.append(((*place, "column"), text))
        if wrong:
            raise located("Dataset", wrong)
        return self

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The recipes of `learning` by name, resolved: what is left out is its default.

        Raises:
          ValidationError: a setting is unknown or out of bounds, or a pair cannot be.
        """
        return {name: self._recipe(name) for name in self.learning.recipes}

    @property
    def common_settings(self) -> dict[str, Any]:
        """Settings of every recipe, below its own."""
        learning = self.learning
        given = {
            "dim": learning.dim,
            "max_length": learning.max_length,
            "epochs": learning.epochs,
            "validation": self.early_stopping(learning.validation),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _recipe(self, name: str) -> Recipe:
        return Recipe.named(name, self.common_settings | self.learning.settings.get(name, {}))

    def early_stopping(self, asked: Validation | None) -> EarlyStopping | None:
        """What stops pre-training early, with the kind of its task.

        Raises:
          ValueError: there is no such task.
        """
        if asked is None:
            return None
        if asked.task is None:
            return EarlyStopping.model_validate(asked.model_dump())
        known = {task.name: task for task in self.daily_tasks}
        if asked.task not in known:
            raise ValueError(
                f"validation asks for task '{asked.task}', and the tasks whose examples end with "
                f"the as-of day are {', '.join(known) or 'none'}"
            )
        kind = known[asked.task].kind
        return EarlyStopping.model_validate(asked.model_dump() | {"kind": kind})

    @model_validator(mode="after")
    def _recipes_can_be(self) -> "Dataset":
        self.early_stopping(self.learning.validation)
        for index, name in enumerate(self.learning.recipes):
            try:
                self._recipe(name)
            except ValidationError as error:
                has_settings = name in self.learning.settings
                place = ("settings", name) if has_settings else ("recipes", index)
                raise relocated(error, "learning", *place) from None
        return self

    @model_validator(mode="after")
    def _lateness_has_an_arrival(self) -> "Dataset":
        if self.lateness.allowed_days is not None and not self.landing.is_dated:
            text = (
                "lateness.allowed_days needs the day on which a file arrived: "
                "put {year}, {month} and {day} into landing.url, or leave lateness out"
            )
            raise located("Dataset", [(("lateness", "allowed_days"), text)])
        return self

    @model_validator(mode="after")
    def _sessions_have_an_id(self) -> "Dataset":
        if self.sessions.by == "source" and self.events.session_id is None:
            text = "source needs events.session_id, the id that the source gives to sessions"
            raise located("Dataset", [(("sessions", "by"), text)])
        return self

    @model_validator(mode="after")
    def _features_can_be_made(self) -> "Dataset":
        has_categories = self.items is not None and self.items.category is not None
        if wrong := list(feature_faults(self.features, self.actions, has_categories)):
            places = ((("features", "declared", number), text) for number, text in wrong)
            raise located("Dataset", places)
        return self


def dataset_folders() -> list[Path]:
    """Where YAMLs of data sets lie: the folders of FOOTPATH_DATASETS, then the shipped ones.

    Raises:
      FootpathError: a folder of FOOTPATH_DATASETS is not there.
    """
    own = [Path(each) for each in os.environ.get("FOOTPATH_DATASETS", "").split(os.pathsep) if each]
    for folder in own:
        if not folder.is_dir():
            raise FootpathError(
                f"FOOTPATH_DATASETS names {folder}, which is no folder: it takes folders with "
                f"YAMLs of data sets, separated by '{os.pathsep}'"
            )
    return [*own, DATASETS]


def dataset_names() -> list[str]:
    """The names of all configured data sets, in order."""
    return sorted({path.stem for folder in dataset_folders() for path in folder.glob("*.yaml")})


def dataset_file(name: str) -> Path:
    """The YAML of a data set: of two of one name, the one of the folder that is named first.

    Raises:
      FootpathError: there is no such data set.
    """
    folders = dataset_folders()
    for folder in folders if re.fullmatch(NAME, name) else ():
        if (path := folder / f"{name}.yaml").exists():
            return path
    raise FootpathError(
        f"there is no data set '{name}' (no {name}.yaml in {', '.join(map(str, folders))}): "
        f"the configured ones are {', '.join(dataset_names())}"
    )


def load_dataset(name: str) -> Dataset:
    """Loads the YAML of a data set.

    Raises:
      FootpathError: there is no such data set, or its YAML is wrong (file, line, field, reason).
    """
    return load_dataset_file(dataset_file(name))


def load_dataset_file(path: Path, check: Callable[[Dataset], object] | None = None) -> Dataset:
    """Loads a data set's YAML from any path.

    Args:
      path: of the file.
      check: looks at the data set too; its FieldError is told by line as well.

    Raises:
      FootpathError: the file cannot be read or is wrong: file, line, field, reason.
    """

    def check_all(dataset: Dataset) -> None:
        if dataset.name != path.stem:
            text = f"is '{dataset.name}', and the file's name says '{path.stem}': make them equal"
            raise FieldError(str(path), [(("name",), text)])
        if check:
            check(dataset)

    return load_yaml(Dataset, path, check_all)
