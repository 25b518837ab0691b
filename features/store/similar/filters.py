"""Filters of similar users: the rows of users with given attributes.

In:  the users table (one row a user, attributes as text) and an open index. Out: which rows of the
index. The values of an attribute are read once a process, as long as table and index are the same.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.reading import read_table, stamps
from features.store.similar.index import SimilarIndex

Filters = Mapping[str, str | Collection[str]]


def parse_filters(words: list[str]) -> dict[str, list[str]]:
    """Filters as they are typed: ATTRIBUTE=VALUE; one attribute again adds a value.

    Raises:
      FootpathError: a word has no attribute or no equals sign.
    """
    filters: dict[str, list[str]] = {}
    for word in words:
        attribute, equals, value = word.partition("=")
        if not attribute or not equals:
            raise FootpathError(f"'{word}' is no filter: write ATTRIBUTE=VALUE, as in city=Berlin")
        filters.setdefault(attribute, []).append(value)
    return filters


def rows_where(lake: Lake, index: SimilarIndex, filters: Filters) -> np.ndarray:
    """Whether the attributes of each row's user have these values, all of them: bool[users].

    Args:
      lake: of the data set.
      index: whose rows.
      filters: attribute -> the value, or several of which a user has one. A user without a value
        has none of them.

    Raises:
      FootpathError: the data set has no users table, or no such attribute.
    """
    path = lake.single("users")
    stamp = stamps(path.parent, path.name).get(path.name)
    if stamp is None:
        raise FootpathError(
            f"{lake.root.name} has no users to filter by the attributes of: give the data set "
            "a section `users`, and materialize users"
        )
    wanted = np.ones(len(index.users), bool)
    for attribute, values in filters.items():
        known, codes = _values(path, stamp, index, attribute)
        one_of = [values] if isinstance(values, str) else list(values)
        if other := [value for value in one_of if not isinstance(value, str)]:
            raise FootpathError(f"{attribute}={other[0]!r}: attributes are text, so give text")
        wanted_codes = np.zeros(len(known) + 1, bool)  # the last one is that of no value, -1
        wanted_codes[[known[value] for value in one_of if value in known]] = True
        wanted &= wanted_codes[codes]
    return wanted


def _values(
    path: Path, stamp: str, index: SimilarIndex, attribute: str
) -> tuple[dict[str, int], np.ndarray]:
    """Values of an attribute with a code each, and the code of every row; -1 is none."""
    if attribute in index.codes and index.codes[attribute][0] == stamp:
        return index.codes[attribute][1:]
    table = read_table(path)
    attributes = table.column("attributes").combine_chunks()
    values = pc.map_lookup(attributes, pa.scalar(attribute), "first")
    if values.null_count == len(values):
        names = sorted(pc.unique(attributes.keys).to_pylist())
        raise FootpathError(
            f"no user has an attribute '{attribute}': users have {', '.join(names) or 'none'}"
        )
    ids = table.column("user_id").cast(index.users.type)
    encoded = values.dictionary_encode().take(pc.index_in(index.users, value_set=ids))
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    known = {value: code for code, value in enumerate(encoded.dictionary.to_pylist())}
    index.codes[attribute] = (stamp, known, codes)
    return known, codes
