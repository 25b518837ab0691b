"""What the programs of this room may be told: JSON in, frozen dataclasses out.

A field that is unknown, missing or of the wrong type is one clear sentence, never a traceback.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from contracts.base.errors import FootpathError

T = TypeVar("T")

FIELDS = ("item", "action", "category", "gap", "position")
KNOWN_FIELDS = (*FIELDS, "age", "value", "text")


def number(default: float | None, minimum: float, maximum: float = math.inf) -> Any:
    """Returns a dataclass field of a number with bounds, both included."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """A task that judges the weights while they are trained: see models.probing.early_stopping."""

    labels: Path
    task: str
    kind: Literal["classification", "regression"] = "classification"
    every_epochs: int = number(1, 1)
    patience: int = number(5, 1)  # judgments without a better one


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One pre-training run. `method` and `encoder` follow from `recipe` where they are left out."""

    sequences: Path  # the pointer sequences/<as_of>.json
    out: Path  # the checkpoint folder models/<version>
    version: str
    recipe: str  # <method>_<encoder>
    method: str = ""
    encoder: str = ""
    dim: int = number(64, 2)
    max_length: int = number(100, 2)  # events of a user that the encoder sees at once
    fields: tuple[str, ...] = FIELDS  # what an event vector is the sum of
    encoder_options: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)  # options of models.nn.text, with that field
    objective: dict[str, Any] = field(default_factory=dict)
    epochs: int = number(20, 1)
    batch_size: int = number(64, 1)  # users
    lr: float = number(1e-3, 0)
    item_lr_factor: float = number(3.0, 0)  # the item table learns from few events a row
    bag_epochs: int = number(0, 0)  # the first of the epochs, with a bag in the encoder's place
    bag_lr: float = number(3e-3, 0)  # in those
    lr_users: int = number(0, 0)  # batch size that lr is for, going with its root; 0: with none
    weight_decay: float = number(0.01, 0)
    warmup: float = number(0.05, 0, 1)  # share of the steps
    clip: float = number(1.0, 0)
    ema: float = number(0.0, 0, 0.999999)  # decay of the averaged weights that are kept; 0: none
    validation: ValidationConfig | None = None  # stops early, and keeps the best weights
    collapse: Literal["warn", "stop", "off"] = "warn"  # where vectors are below the next two
    min_spread: float = number(1e-3, 0)
    min_effective_rank: float = number(2.0, 1)
    precision: Literal["fp32", "bf16"] = "fp32"  # of the encoder's matrix products
    compile: bool = False  # torch.compile of blocks and projectors: needs a C++ compiler on CPU
    prefetch: int = number(2, 0)  # samples made ahead in a thread
    seed: int = number(0, 0)
    max_seconds: float | None = number(None, 0)  # the schedule then follows the clock as well
    checkpoint_seconds: float = number(20.0, 0)
    device: str = "auto"
    threads: int = number(0, 0)  # 0: as many as torch takes by itself

    def __post_init__(self) -> None:
        method, _, encoder = self.recipe.partition("_")
        object.__setattr__(self, "method", self.method or method)
        object.__setattr__(self, "encoder", self.encoder or encoder)
        if self.bag_epochs and self.max_seconds is not None:
            raise ValueError(
                "bag_epochs counts epochs, and max_seconds ends training by the clock, perhaps "
                "before the encoder has begun: give one of them"
            )
        if self.bag_epochs >= self.epochs:
            raise ValueError(
                f"bag_epochs ({self.bag_epochs}) are among the epochs ({self.epochs}): "
                f"leave some to the encoder"
            )
        if self.recipe != f"{self.method}_{self.encoder}":
            raise ValueError(
                f"recipe '{self.recipe}' does not say <method>_<encoder> "
                f"of method '{self.method}' and encoder '{self.encoder}'"
            )


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One thing to predict, as the data set's YAML names it."""

    name: str
    kind: Literal["classification", "regression", "ranking"] = "classification"
    metric: str = "auc"
    exclude_history: bool = False  # ranking: items of the history do not compete
    candidates: bool = False  # ranking: of the rows of lists that were shown, not of all items
    numbers: tuple[str, ...] = ()  # what is known of a candidate


@dataclass(frozen=True, kw_only=True)
class LabeledConfig:
    """What every program that reads labels is told."""

    sequences: Path
    labels: Path
    out: Path  # the metrics, as Parquet
    tasks: tuple[TaskConfig, ...]
    label_shares: tuple[float, ...] = (1.0,)
    seeds: int = number(1, 1)
    first_seed: int = number(0, 0)
    head_features: Path | None = None  # head_features/<as_of>.parquet
    predictions: Path | None = None  # of whom what was predicted
    threads: int = number(0, 0)

    @property
    def seed_range(self) -> range:
        """The seeds to run."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty: name at least one")
        if any(not 0 < share <= 1 for share in self.label_shares) or not self.label_shares:
            raise ValueError("label_shares must be shares in (0, 1], at least one of them")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(LabeledConfig):
    """One checkpoint against the tasks."""

    checkpoint: Path
    model_out: Path | None = None  # task models go here, a folder each
    vectors: Path | None = None  # vectors and labels of test users go here, a file a task
    # With head_features: under which protocols heads see them beside the embedding as well.
    feature_protocols: tuple[Literal["frozen", "finetuned", "scratch"], ...] = ("frozen",)
    # native: a ranking by the score that pre-training itself trains
    protocols: tuple[Literal["frozen", "finetuned", "scratch", "native"], ...] = (
        "frozen",
        "finetuned",
    )
    epochs: int = number(8, 1)
    patience: int = number(2, 1)  # epochs without a better validation loss
    batch_size: int = number(64, 1)
    finetune_lr: float = number(2e-3, 0)
    scratch_lr: float = number(2e-3, 0)
    weight_decay: float = number(0.01, 0)
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """One vector a user, as of the instant at which the sequences end."""

    sequences: Path
    checkpoint: Path
    out: Path  # the Parquet object of the day
    event_timestamp: str  # as-of of the input, ISO 8601 in UTC
    created: str  # when it would have been known
    model_version: str
    device: str = "auto"
    threads: int = number(0, 0)


@dataclass(frozen=True, kw_only=True)
class BaselinesConfig(LabeledConfig):
    """What a practitioner would try first."""

    lsa_dim: int = number(64, 2)


def load_config(cls: type[T], path: Path) -> T:
    """Reads a JSON file as a config of the given class.

    Raises:
      FootpathError: the file cannot be read, or a field is unknown, missing or mistyped.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FootpathError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FootpathError(f"{path} is not valid JSON: {error}") from None
    return parse(cls, values, str(path))


def parse(cls: type[T], values: Any, where: str) -> T:
    """Turns plain JSON values into a frozen dataclass, checking every field.

    Raises:
      FootpathError: names `where`, the field, what was expected and what was found.
    """
    if not isinstance(values, dict):
        raise FootpathError(f"{where}: expected an object of fields, found {_shown(values)}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            advice = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(fields)}"
            raise FootpathError(f"{where}: unknown field '{name}': {advice}")
    for name, declared in fields.items():
        required = declared.default is declared.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise FootpathError(f"{where}: field '{name}' is missing")
    checked = {
        name: _typed(value, hints[name], f"{where}: field '{name}'", fields[name].metadata)
        for name, value in values.items()
    }
    try:
        return cls(**checked)
    except ValueError as error:
        raise FootpathError(f"{where}: {error}") from None


def plain(config: Any) -> dict[str, Any]:
    """Returns a config as values that JSON can hold."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def _typed(value: Any, hint: Any, where: str, bounds: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        hint = next(a for a in arguments if a is not type(None))
        return _typed(value, hint, where, bounds)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(v, arguments[0], f"{where}[{n}]", {}) for n, v in enumerate(value))
    if origin is Literal:
        return _expect(value, value in arguments, f"one of {', '.join(arguments)}", where)
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, where)  # type: ignore[arg-type]
    if origin is dict:
        return _expect(value, isinstance(value, dict), "an object", where)
    if hint is Path:
        return Path(_expect(value, isinstance(value, str) and value != "", "a path", where))
    if hint is str:
        return _expect(value, isinstance(value, str), "a text", where)
    if hint is bool:
        return _expect(value, isinstance(value, bool), "true or false", where)
    if hint in (int, float):
        return _number(value, hint, where, bounds)
    return _expect(value, False, "a list" if origin is tuple else str(hint), where)


def _number(value: Any, hint: type, where: str, bounds: Any) -> Any:
    kinds, named = ((int,), "a whole number") if hint is int else ((int, float), "a number")
    _expect(value, isinstance(value, kinds) and not isinstance(value, bool), named, where)
    _expect(value, math.isfinite(value), "a finite number", where)
    low, high = bounds.get("minimum", -math.inf), bounds.get("maximum", math.inf)
    limits = f"{named} of at least {low}" + (f" and at most {high}" if high < math.inf else "")
    return hint(_expect(value, low <= value <= high, limits, where))


def _expect(value: Any, holds: bool, what: str, where: str) -> Any:
    if not holds:
        raise FootpathError(f"{where}: expected {what}, found {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
