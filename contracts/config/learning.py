"""The YAML's section `learning`: what is trained and compared by default."""

import datetime as dt
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from contracts.base.schema import Name, Strict
from contracts.recipes.jobs import Finetuning
from contracts.recipes.recipe import Recipe


class Validation(Strict):
    """What stops pre-training early, and picks its best weights.

    Without a task, the method's own loss on a tenth of the users, who are held out of training.
    With one, a frozen probe is fitted on its training users every few epochs, and judged by its
    loss on the validation users. Test users are never looked at.
    """

    task: Name | None = Field(
        None, description="one whose examples end with the as-of day; none: the method's own loss"
    )
    every_epochs: int = Field(1, ge=1, description="epochs between two judgments")
    patience: int = Field(20, ge=1, description="judgments without a better one, then it stops")


class _RecipeFields:
    """JSON schema of a recipe's settings: its fields, none of which must be given.

    What they may be is checked where the recipe is resolved, with the data set (dataset.py).
    """

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        recipe = handler.resolve_ref_schema(handler(Recipe.__pydantic_core_schema__))
        # A name, or options of the one that the recipe's own name has.
        options = {"type": ["string", "object"]}
        fields = recipe["properties"] | {"method": options, "encoder": options}
        del fields["validation"]
        return {"type": "object", "properties": fields, "additionalProperties": False}


class Learning(Strict):
    """What is trained and compared by default."""

    as_of: dt.date | None = Field(
        None, description="inputs end with this day; default: the last that leaves every horizon"
    )
    max_length: int | None = Field(
        None, ge=2, description="events of a user that an encoder sees; default: as its recipe says"
    )
    min_item_count: int = Field(2, ge=1, description="rarer items become [UNK]")
    query: Name | None = Field(
        None, description="key of events.properties with the text of events without an item"
    )
    min_token_count: int = Field(2, ge=1, description="words of fewer events become [UNK]")
    max_tokens: int = Field(32, ge=2, description="of a document, field markers counted")
    dim: int | None = Field(None, ge=8, description="width of the vectors; default: 64")
    epochs: int | None = Field(
        None, ge=1, description="passes of pre-training; default: they follow from the users"
    )
    validation: Validation | None = Field(
        None, description="stops pre-training early; default: the method's own loss, where it tells"
    )
    finetuning: Finetuning = Field(Finetuning(), description="how task models are trained")
    recipes: list[Name] = Field(["future_bag", "coles_bag", "none_bag"])
    settings: dict[Name, Annotated[dict[str, Any], _RecipeFields()]] = Field(
        {}, description="of a recipe: fields of contracts.recipes.recipe.Recipe"
    )
    label_shares: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.2, 1.0])
    seeds: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _known_recipes(self) -> "Learning":
        for recipe, settings in self.settings.items():
            if recipe not in self.recipes:
                raise ValueError(f"settings of '{recipe}': recipes has {', '.join(self.recipes)}")
            if "validation" in settings:
                raise ValueError(
                    f"settings of '{recipe}': validation is learning.validation, for all recipes"
                )
        return self
