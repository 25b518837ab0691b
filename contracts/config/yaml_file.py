"""A YAML file read as one validated object; a slip is told by file, line, field and reason."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from contracts.base.errors import FieldError, FootpathError
from contracts.base.schema import Strict, faults

_DATE = "tag:yaml.org,2002:timestamp"

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
        if slips := list(_slips(root)):
            raise FootpathError("\n".join(f"{path}:{slip}" for slip in slips))
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
        found = kind.model_validate(values)
        if check:
            check(found)
    except (ValidationError, FieldError) as error:
        wrong = faults(error) if isinstance(error, ValidationError) else error.faults
        raise FootpathError(
            "\n".join(
                f"{path}:{line_of(root, place)}: {'.'.join(map(str, place)) or 'the file'}: {text}"
                for place, text in wrong
            )
        ) from None
    return found


def _slips(root: yaml.Node | None) -> Iterator[str]:
    """What YAML would take without a word, or not tell by its line: keys given twice, odd dates."""
    seen: set[int] = set()  # of what an alias names, or holds itself
    todo: list[tuple[tuple[str, ...], yaml.Node]] = [((), root)] if root else []
    while todo:
        place, node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += [((*place, str(n)), item) for n, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                inner = (*place, str(key.value))
                todo.append((inner, value))
                if key.value in keys and isinstance(key, yaml.ScalarNode):
                    yield f"{key.start_mark.line + 1}: {'.'.join(inner)}: is here a second time"
                keys.add(str(key.value))
        elif node.tag == _DATE:
            try:
                yaml.SafeLoader("").construct_yaml_timestamp(node)
            except ValueError as error:
                where = f"{node.start_mark.line + 1}: {'.'.join(place)}"
                yield f"{where}: {node.value} looks like a date and is none ({error})"


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
