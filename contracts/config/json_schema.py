"""JSON schema of a data set's YAML, with which an editor completes and checks it while it is typed.

It is made from the typed configuration. `datasets/schema.json` is what `footpath datasets schema`
prints; a YAML names it in its first line, as yaml-language-server and what builds on it read it.
"""

import json
import os
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from contracts.config.dataset import DATASETS, Dataset

SCHEMA_FILE = DATASETS / "schema.json"


class _Untitled(GenerateJsonSchema):
    """Without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def schema_text() -> str:
    """The schema as JSON."""
    schema = Dataset.model_json_schema(schema_generator=_Untitled)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "A data set of Footpath"}
    return json.dumps(head | schema, indent=1, ensure_ascii=False) + "\n"


def schema_line(folder: Path) -> str:
    """The first line of a YAML in a folder: where its schema lies, seen from there."""
    path, folder = SCHEMA_FILE.resolve(), folder.resolve()
    is_ours = folder.is_relative_to(DATASETS.resolve().parent)
    where = os.path.relpath(path, folder) if is_ours else str(path)
    return f"# yaml-language-server: $schema={where}\n"
