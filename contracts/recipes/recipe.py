"""A recipe: all that a pre-trained encoder follows from, besides the data and the seed.

In YAML and JSON, `method` and `encoder` are a name, or a mapping of a name and options:

    {method: {name: ptum, negatives: 8}, encoder: gru4rec, epochs: 10}
"""

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    ValidationError,
    model_validator,
)

from contracts.base.schema import Count, Name, Positive, Share, Strict, Weight, Whole, relocated
from contracts.recipes.encoders import ENCODERS
from contracts.recipes.methods import METHODS
from contracts.recipes.rules import is_lazy, sampled_items, settings_of
from contracts.recipes.text import TextOptions

EventField = Literal["item", "action", "category", "gap", "position", "age", "value", "text"]
FIELDS: tuple[EventField, ...] = ("item", "action", "category", "gap", "value")

# Passes over the users where nothing is said.
STEPS, FEWEST_PASSES, MOST_PASSES = 3000, 3, 60

# Settings that the shape of a model follows from, and so its weights before training.
SHAPE = ("encoder", "dim", "max_length", "fields", "text", "summary")


def _named(what: str, known: dict[str, Any]) -> BeforeValidator:
    def check(value: Any) -> Any:
        given = {"name": value} if isinstance(value, str) else value
        if isinstance(given, dict) and given.get("name") not in known:
            name = given.get("name")
            found = f"there is no {what} '{name}'" if name else f"the {what} has no name"
            raise ValueError(f"{found}: the known ones are {', '.join(known)}")
        return given

    return BeforeValidator(check)


# Unions of all options by name; the tables are their one list.
Method = Annotated[
    reduce(or_, METHODS.values()), Field(discriminator="name"), _named("method", METHODS)
]
Encoder = Annotated[
    reduce(or_, ENCODERS.values()), Field(discriminator="name"), _named("encoder", ENCODERS)
]


class EarlyStopping(Strict):
    """What judges the weights between epochs, stops training, and picks the best weights.

    Without a task it is the method's own loss on users who are held out of training: no label is
    read. With one, a frozen probe is fitted on its training users, and its validation users judge.
    """

    task: Name | None = None
    kind: Literal["classification", "regression"] = "classification"  # of the task
    held_out: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.1  # share of users, without one
    every_epochs: Count = 1
    # Judgments without a better one: the rate falls to the end of the schedule, and what is best
    # often comes late (docs/results.md).
    patience: Count = 20


class Recipe(Strict):
    """One way to pre-train an encoder."""

    method: Method
    encoder: Encoder
    dim: Annotated[int, Field(ge=2, strict=True)] = 64
    max_length: Annotated[int, Field(ge=2, strict=True)] = (
        100  # events of a user that the encoder sees at once
    )
    fields: Annotated[tuple[EventField, ...], Field(min_length=1)] = FIELDS  # summed to a vector
    text: TextOptions | None = None  # with the field `text`
    # The vector joins the last max_length events with a summary of the whole history (counts,
    # values, times since); without one it is the average over the history in such pieces.
    summary: StrictBool | None = None  # by default with the method that is trained for it
    epochs: Whole = 0  # passes over the users; 0: as many as `passes` says
    batch_size: Count = 64  # users
    lr: Positive = 1e-3
    item_lr_factor: Weight = 3.0  # the item table learns from few events a row
    # Others that a softmax over all items reads beside the right ones, drawn at each step; 0: all
    # items. Where it is left out, it follows from how many there are, and so does the next.
    sampled_items: Whole | None = None
    lazy_items: StrictBool | None = None  # a step updates the rows of the items that it met alone
    bag_epochs: Whole = 0  # warm-start epochs, with mean pooling in the encoder's place
    bag_lr: Weight = 3e-3  # in those
    lr_users: Whole = 0  # batch size that lr is for, going with its root; 0: with none
    weight_decay: Weight = 0.01
    warmup: Share = 0.05  # share of the steps
    clip: Weight = 1.0
    ema: Annotated[float, Field(ge=0, le=0.999999, strict=True)] = (
        0.0  # decay of the averaged weights; 0: none
    )
    validation: EarlyStopping | None = None  # stops early, and keeps the best weights
    collapse: Literal["warn", "stop", "off"] = "warn"  # where vectors are below the next two
    min_spread: Weight = 1e-3
    min_effective_rank: Annotated[float, Field(ge=1, strict=True)] = 2.0
    precision: Literal["fp32", "bf16"] = "fp32"  # of the encoder's matrix products
    compile: StrictBool = (
        False  # torch.compile of blocks and projectors: needs a C++ compiler on CPU
    )
    max_seconds: Positive | None = None  # the schedule then follows the clock as well

    @classmethod
    def named(cls, name: str, settings: dict[str, Any]) -> "Recipe":
        """Validates settings; method and encoder follow from `<method>_<encoder>` where left out.

        What is left out of the rest follows from the rules (contracts/recipes/rules.py).

        Raises:
          ValidationError: a setting is unknown or out of bounds, or the pair cannot be.
        """
        method, _, encoder = name.partition("_")
        given = dict(settings)
        for field, default in (("method", method), ("encoder", encoder)):
            value = given.get(field, {})
            given[field] = {"name": default} | (
                value if isinstance(value, dict) else {"name": value}
            )
        rules = settings_of(given["method"]["name"], given["encoder"]["name"])
        given["encoder"] = rules.pop("encoder", {}) | given["encoder"]
        return cls.model_validate(rules | given)

    @property
    def name(self) -> str:
        """`<method>_<encoder>`."""
        return f"{self.method.name}_{self.encoder.name}"

    def passes(self, users: int) -> int:
        """How often training sees each of so many users.

        So often that it makes STEPS steps where nothing is said: few users are seen often, and of
        many each is seen a few times.
        """
        if self.epochs:
            return self.epochs
        return min(MOST_PASSES, max(FEWEST_PASSES, -(-STEPS * self.batch_size // max(1, users))))

    def sampled_of(self, items: int) -> int:
        """How many others stand for all of so many items in a softmax; 0: all do."""
        return sampled_items(items) if self.sampled_items is None else self.sampled_items

    def is_lazy_of(self, items: int) -> bool:
        """Whether a step of training leaves rows of so many items alone that it has not met."""
        return is_lazy(items) if self.lazy_items is None else self.lazy_items

    @property
    def judged_by(self) -> str | None:
        """The task whose labels stop training early."""
        return self.validation.task if self.validation and self.method.trains else None

    @property
    def looks_at_now(self) -> bool:
        """Whether a user's vector changes with the time that passes since their last event.

        Ages do, and so does a summary, which counts in windows that end with the present. Without
        either, and with most encoders, a vector follows from the user's events alone.
        """
        return self.reads_clock or bool(self.summary)

    @property
    def reads_clock(self) -> bool:
        """Whether windows have to say when they are looked at."""
        return "age" in self.fields or self.encoder.reads_now

    @property
    def shape(self) -> dict[str, Any]:
        """What the shape of the model follows from, as JSON."""
        return self.model_dump(mode="json", include=set(SHAPE))

    def identity(self) -> dict[str, Any]:
        """All that the weights follow from besides data and seed, defaults included, as JSON.

        Without training they follow from the shape alone: random weights of one shape are one
        recipe, whatever else its settings are.
        """
        if self.method.trains:
            return self.model_dump(mode="json")
        return self.shape | {"method": self.method.name}

    @model_validator(mode="wrap")
    @classmethod
    def _plain_places(cls, data: Any, handler: ModelWrapValidatorHandler["Recipe"]) -> "Recipe":
        """Tells places of errors as the YAML has them: without the names of union members."""
        try:
            return handler(data)
        except ValidationError as error:
            raise relocated(error, drop=(METHODS.keys() | ENCODERS.keys())) from None

    @model_validator(mode="after")
    def _reads_something(self) -> "Recipe":
        if not {"item", "text"} & set(self.fields):
            raise ValueError("fields: expected 'item', 'text' or both among them")
        if self.text and "text" not in self.fields:
            raise ValueError("there are options of text, and fields leave 'text' out: add it there")
        if "text" in self.fields and self.text is None:
            object.__setattr__(self, "text", TextOptions())  # resolved: nothing is left open
        if self.summary is None:
            object.__setattr__(self, "summary", self.method.summarizes)
        if self.summary != self.method.summarizes and self.method.trains:
            does = "has" if self.method.summarizes else "has no"
            raise ValueError(f"summary: the encoder of method {self.method.name} {does} summary")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "Recipe":
        self.encoder.check(self.dim)
        self.method.check(self.encoder, self.fields)
        if self.text:
            self.text.check(self.dim)
        return self

    @model_validator(mode="after")
    def _leaves_epochs(self) -> "Recipe":
        if self.bag_epochs and self.max_seconds is not None:
            raise ValueError(
                "bag_epochs counts epochs, and max_seconds ends training by the clock, perhaps "
                "before the encoder has begun: give one of them"
            )
        epochs = self.epochs or FEWEST_PASSES
        if self.bag_epochs and self.bag_epochs >= epochs:
            raise ValueError(
                f"bag_epochs ({self.bag_epochs}) are among the epochs ({epochs}): "
                f"leave some to the encoder"
            )
        return self
