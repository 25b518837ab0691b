"""The YAML file of recipes: read, and checked as far as its form goes."""

from pathlib import Path
from typing import Any

import yaml

from contracts.base.errors import FootpathError

MAPPINGS = ("recipes", "common", "finetune")
LISTS = ("tasks", "labels", "protocols", "batch_sizes", "methods", "encoders")
FILE_FIELDS = ("title", "seeds", *MAPPINGS, *LISTS)


def read_file(path: Path) -> dict[str, Any]:
    """Reads a YAML file of recipes.

    Raises:
      FootpathError: it cannot be read, or says something that no comparison has.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FootpathError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise FootpathError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(said, dict):
        raise FootpathError(f"{path}: expected a mapping with 'recipes', found {said!r}")
    for name in said:
        known = ", ".join(FILE_FIELDS)
        expect(name in FILE_FIELDS, f"{path}: unknown field '{name}': known are {known}")
    for name in MAPPINGS:
        expect(isinstance(said.get(name, {}), dict), f"{path}: field '{name}' must be a mapping")
    for name in LISTS:
        expect(isinstance(said.get(name, []), list), f"{path}: field '{name}' must be a list")
    for number in (*said.get("labels", ()), said.get("seeds", 1), *said.get("batch_sizes", ())):
        expect(isinstance(number, int | float), f"{path}: expected a number, found {number!r}")
    for name, recipe in said.get("recipes", {}).items():
        fits = recipe is None or isinstance(recipe, dict)
        expect(fits, f"{path}: recipe '{name}' must be a mapping of settings, found {recipe!r}")
    return said


def expect(holds: bool, otherwise: str) -> None:
    """Raises a FootpathError with the sentence where something does not hold."""
    if not holds:
        raise FootpathError(otherwise)
