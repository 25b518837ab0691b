"""What one data set is: where its files land, what their columns mean, what to learn from them.

A data set is one YAML file in `datasets/`. Its SQL expressions are DuckDB SQL over the columns
declared under `landing.columns`; they are trusted like code.
"""

import datetime as dt
import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from contracts.errors import FootpathError
from contracts.lake import home, read_json

DATASETS = Path(__file__).parent.parent / "datasets"

# Names that become columns, asset keys and file names.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Sql = Annotated[str, StringConstraints(min_length=1)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"'{name}' is not an IANA time zone such as Europe/Berlin") from None
    return name


class Strict(BaseModel):
    """A section of the YAML: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Csv(Strict):
    """How delimited text is laid out."""

    delimiter: str = Field(",", description="one character or a string such as '::'")
    header: bool = True
    quote: str = '"'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"


class FileTable(Strict):
    """Files of one layout, and the names and DuckDB types of their columns."""

    url: str = Field(description="path or glob below the source folder, or any absolute URL")
    format: Literal["jsonl", "csv", "parquet"]
    csv: Csv = Csv()
    columns: dict[str, str] = Field(min_length=1, description="column name -> DuckDB type")


class Landing(FileTable):
    """The event files. Date fields {year} {month} {day} {hour} in the URL give the arrival day."""

    arrival_timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "UTC", description="the zone that the date fields in the URL are written in"
    )

    @property
    def is_dated(self) -> bool:
        """Tells whether files arrive by day (true) or lie there once and for all."""
        return "{day}" in self.url

    @model_validator(mode="after")
    def _dates_are_whole(self) -> "Landing":
        fields = set(re.findall(r"{(\w+)}", self.url))
        if unknown := fields - {"year", "month", "day", "hour"}:
            raise ValueError(f"url has unknown fields {sorted(unknown)}")
        if fields and not {"year", "month", "day"} <= fields:
            raise ValueError("url needs {year}, {month} and {day} together, or none of them")
        return self


class EventMapping(Strict):
    """SQL expressions that turn a landing row into a canonical event."""

    event_id: Sql | None = Field(None, description="the source's own id; without it, content")
    user_id: Sql
    timestamp: Sql = Field(description="gives a TIMESTAMPTZ, null where it cannot be read")
    action: Sql
    item_id: Sql | None = None
    value: Sql | None = None
    session_id: Sql | None = None
    properties: dict[Name, Sql] = {}


class Items(FileTable):
    """The catalogue: SQL over the columns of its files."""

    item_id: Sql
    title: Sql | None = None
    category: Sql | None = None
    attributes: dict[Name, Sql] = {}


class Users(FileTable):
    """User attributes: SQL over the columns of their files."""

    user_id: Sql
    attributes: dict[Name, Sql] = Field(min_length=1)


class Sessions(Strict):
    """When a run of events ends."""

    gap_minutes: int = Field(30, ge=1, le=24 * 60)


class Quality(Strict):
    """What the gate lets through."""

    max_broken_share: float = Field(
        0.05, ge=0, le=1, description="rows of a day that may be quarantined before the day stops"
    )
    allow_empty_days: bool = Field(
        False, description="true where the source really has days without an event"
    )
    min_value: float | None = None
    max_value: float | None = None


class Task(Strict):
    """One thing to predict for a user as of a day: a user attribute, or SQL over a future window.

    `column` names an attribute of the users table. `sql` is an aggregate over the user's events
    in [as-of, as-of + horizon), such as `count(*) FILTER (action = 'purchase') > 0`; a user
    without events there gets the aggregate of no rows.
    """

    name: Name
    kind: Literal["classification", "regression"] = "classification"
    column: Name | None = None
    sql: Sql | None = None
    horizon_days: int | None = Field(None, ge=1)
    metric: Literal["auc", "accuracy", "macro_f1", "mae"] = Field(
        description="the one that the leaderboard sorts by"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Task":
        if (self.column is None) == (self.sql is None):
            raise ValueError("give either column (a user attribute) or sql (a future window)")
        if (self.sql is None) != (self.horizon_days is None):
            raise ValueError("horizon_days goes with sql")
        if (self.kind == "regression") != (self.metric == "mae"):
            raise ValueError("metric mae is for regression, and regression takes only mae")
        return self


class Features(Strict):
    """Behaviour features: per user, over windows that end with the day."""

    windows: list[Annotated[int, Field(ge=1, le=366)]] = Field([1, 7, 30], min_length=1)
    delay_minutes: int = Field(60, ge=0, description="from the window's end until it is known")
    # Declared, not discovered: column names must not depend on data (a registered feature view and
    # the asset graph are made before any data is there).
    categories: list[str] = Field([], max_length=50, description="a share of events column each")


class Learning(Strict):
    """What is trained and compared by default."""

    as_of: dt.date | None = Field(
        None, description="inputs end with this day; default: the last that leaves every horizon"
    )
    max_length: int = Field(100, ge=2, description="events of a user that an encoder sees")
    min_item_count: int = Field(2, ge=1, description="rarer items become [UNK]")
    dim: int = Field(64, ge=8)
    epochs: int = Field(10, ge=1, description="passes of pre-training over the users")
    finetune_epochs: int = Field(8, ge=1, description="at most; fine-tuning stops early")
    recipes: list[Name] = ["ptum_bert4rec", "ptum_gru4rec", "none_bert4rec", "none_gru4rec"]
    label_shares: list[Annotated[float, Field(gt=0, le=1)]] = [0.2, 1.0]
    seeds: int = Field(1, ge=1)


class Partitions(Strict):
    """The days that exist."""

    start: dt.date
    end: dt.date | None = Field(None, description="last day; none for a source that goes on")

    @model_validator(mode="after")
    def _in_order(self) -> "Partitions":
        if self.end and self.end < self.start:
            raise ValueError("end is before start")
        return self


class Dataset(Strict):
    """One data set, whole. Load it with `load_dataset`."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
    title: str
    timezone: Annotated[str, AfterValidator(_known_zone)]
    partitions: Partitions
    landing: Landing
    events: EventMapping
    actions: list[Name] = Field(min_length=1, description="every action that may occur")
    items: Items | None = None
    users: Users | None = None
    sessions: Sessions = Sessions()
    quality: Quality = Quality()
    features: Features = Features()
    tasks: list[Task] = []
    learning: Learning = Learning()

    @property
    def slug(self) -> str:
        """The name where only letters, digits and underscores may stand."""
        return self.name.replace("-", "_")

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


def link_source(dataset: str, folder: str) -> None:
    """Remembers, in the home folder, where a data set's source files lie."""
    path = home() / "sources.json"
    known = read_json(path) if path.exists() else {}
    known[dataset] = folder if "://" in folder else str(Path(folder).absolute())
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    os.replace(staged, path)


def source_folder(dataset: str) -> str:
    """Returns the folder or URL below which a data set's files lie.

    FOOTPATH_SOURCE_<NAME> (upper case, dashes as underscores) wins over what was linked.

    Raises:
      FootpathError: it was never said.
    """
    variable = "FOOTPATH_SOURCE_" + dataset.upper().replace("-", "_")
    if folder := os.environ.get(variable):
        return folder
    path = home() / "sources.json"
    known = read_json(path) if path.exists() else {}
    if dataset not in known:
        raise FootpathError(
            f"nobody has said where the files of data set '{dataset}' lie: "
            f"run `footpath datasets link {dataset} FOLDER` or set {variable}"
        )
    return known[dataset]
