"""A YAML file read as one validated object; a slip is told by file, line, field and reason."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from contracts.base.errors import FieldError, FootpathError
from contracts.base.schema import Strict, faults

SectionT = TypeVar("SectionT", bound=Strict)


def load_yaml(
    kind: type[SectionT], path: Path, check: Callable[[SectionT], object] | None = None
) -> SectionT:
    """Reads a YAML file as an object.

    Args:
      kind: of the object.
      path: of the file.
      check: looks at the object too; its ValidationError or FieldError is told by line as well.

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
        found = kind.model_validate(values)
        if check:
            check(found)
    except (ValidationError, FieldError) as error:
        found = faults(error) if isinstance(error, ValidationError) else error.faults
        raise FootpathError(
            "\n".join(
                f"{path}:{line_of(root, place)}: {'.'.join(map(str, place)) or 'the file'}: {text}"
                for place, text in found
            )
        ) from None
    return found


def line_of(node: yaml.Node, place: tuple) -> int:
    """Line, from 1, of the deepest part of a place that stands in the YAML."""
    line = node.start_mark.line + 1
    for part in place:
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
