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


def literals(texts: Iterable[str]) -> str:
    """String literals with commas between them: the inside of a list or of IN ()."""
    return ", ".join(map(literal, texts))
