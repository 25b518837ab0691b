"""Names and literals as SQL text.

For names and texts of ours and of the YAML, which is trusted like code. Values of the data never
become SQL text: they are parameters of a query.
"""

from collections.abc import Iterable


def name(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def names(identifiers: Iterable[str]) -> str:
    """Identifiers, quoted, with commas between them."""
    return ", ".join(map(name, identifiers))


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def numeral(value: float) -> str:
    """A number literal: a whole number as it is, any other as the very double."""
    return str(value) if isinstance(value, int) else f"{literal(repr(float(value)))}::DOUBLE"


def parquet(files: str, *options: str) -> str:
    """Table function over Parquet files, whose folders' names mean nothing.

    DuckDB would otherwise take a folder named key=value anywhere above a file for a column, which
    replaces the file's own of that name.

    Args:
      files: SQL that gives a path or a list of paths, such as a literal or a parameter.
      options: further ones of DuckDB, such as "filename = true".
    """
    return f"read_parquet({', '.join([files, 'hive_partitioning = false', *options])})"


def literals(texts: Iterable[str]) -> str:
    """String literals with commas between them: the inside of a list or of IN ()."""
    return ", ".join(map(literal, texts))
