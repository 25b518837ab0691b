"""Lines of a drafted YAML: scalars, how files are read, names in a comment."""

import json
import re
import textwrap
from collections.abc import Iterator

import yaml

from contracts.config.source import FileTable

# Marks what a person has to look at.
TODO = "# TODO:"
WIDTH = 96


def table_lines(
    table: FileTable, columns: dict[str, str], nulls: list[str], indent: str
) -> Iterator[str]:
    """How the files of a section are read.

    Args:
      table: as the sample was read.
      columns: those to declare.
      nulls: words that mean none.
      indent: before each line.
    """
    yield f"{indent}format: {table.format}"
    default = type(table.csv)()
    odd = {k: v for k, v in table.csv.model_dump().items() if v != getattr(default, k)}
    if odd:
        pairs = ", ".join(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in odd.items())
        yield f"{indent}csv: {{{pairs}}}"
    yield f"{indent}columns:"
    for column, kind in columns.items():
        yield f"{indent}  {scalar(column)}: {scalar(kind)}"
    optional = [column for column in columns if column in table.optional]
    if optional:
        yield f"{indent}# Some rows lack them, so a whole file may."
        yield f"{indent}optional: [{', '.join(map(scalar, optional))}]"
    if nulls:
        yield f"{indent}{TODO} these words mean none: leave out any that means something."
        yield f"{indent}nulls: [{', '.join(json.dumps(w, ensure_ascii=False) for w in nulls)}]"


def wrapped(start: str, names: list[str]) -> Iterator[str]:
    """Names with commas between them, as comment lines."""
    text = ", ".join(" ".join(each.split()) for each in names) + "."
    indent = start[: len(start) - len(start.lstrip())]
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=f"{indent}#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def scalar(value: str) -> str:
    """Text as YAML: bare where it reads back as itself, else quoted."""
    try:
        bare = yaml.safe_load(f"k: {value}") == {"k": value}
        bare = bare and yaml.safe_load(f"{value}: v") == {value: "v"}
    except (yaml.YAMLError, TypeError):
        bare = False
    # Inside [..] and {..} commas and brackets part values.
    bare = bare and not re.search(r"[,\[\]{}\n]", value)
    return value if bare else json.dumps(value, ensure_ascii=False)
