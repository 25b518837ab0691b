"""Small models with fixed random weights, and objectives on them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from contracts.recipes.methods import METHODS
from contracts.recipes.recipe import Recipe
from models.data.packed import Events
from models.data.rng import Draw
from models.data.sequences import Sequences
from models.nn.user_model import ModelConfig, UserModel, build_model
from models.objectives import OBJECTIVES, Objective

FIELDS = ("item", "action", "category", "gap", "position")


def model_config(
    encoder: str,
    dim: int,
    max_length: int,
    fields: Any,
    options: dict[str, Any],
    sizes: dict[str, int],
    text: dict[str, Any] | None = None,
) -> ModelConfig:
    """The shape of a recipe's model; the method plays no part in it."""
    settings = {"method": "none", "encoder": {"name": encoder} | options, "dim": dim}
    settings |= {"max_length": max_length, "fields": fields, "text": text or None}
    return ModelConfig.of(Recipe.model_validate(settings), sizes)


def build_objective(method: str, model: ModelConfig, options: dict[str, Any]) -> Objective:
    """An objective of a pair that can be."""
    chosen = METHODS[method].model_validate({"name": method} | options)
    chosen.check(model.encoder, model.fields)
    return OBJECTIVES[method](model, chosen)


def small_model(
    sizes: dict[str, int],
    encoder: str = "bag",
    fields: Any = FIELDS,
    max_length: int = 20,
    dim: int = 16,
    text: dict[str, Any] | None = None,
    **options: Any,
) -> UserModel:
    """A model whose weights are the same every time; options are those of its encoder."""
    torch.manual_seed(0)
    return build_model(model_config(encoder, dim, max_length, fields, options, sizes, text))


def small_pair(
    method: str,
    sequences: Sequences,
    encoder: str = "bag",
    fields: Any = FIELDS,
    max_length: int = 20,
    shape: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[UserModel, Objective]:
    """A model without dropout and an objective on it; options are those of the method."""
    shape = {"dropout": 0.0} | (shape or {})
    model = small_model(sequences.sizes, encoder, fields, max_length, **shape)
    return model, build_objective(method, model.config, options)


def sampled(
    objective: Objective,
    sequences: Sequences,
    epoch: int = 0,
    change: Callable[[Events], Events] | None = None,
) -> tuple[Events, Any]:
    """Windows of all users, changed if asked for, and what an objective samples from them."""
    draw = Draw(0, epoch, np.arange(sequences.users))
    windows = sequences.random_windows(draw, 40)
    windows = change(windows) if change else windows
    return windows, objective.sample(windows, windows, draw)
