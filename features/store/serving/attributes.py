"""Attributes of users as a filter: which rows of an index have the values that are asked for.

In: the published table `users`. Out: a mask over the users of an index. A column is coded once,
when it is first asked for; a user whom the table lacks has no attributes and matches nothing.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.reading import read_table
from features.store.similar import Index

if TYPE_CHECKING:
    import numpy as np

MAX_NAMES = 20  # in a sentence


class UserAttributes:
    """The attributes of an index's users."""

    def __init__(self, lake: Lake, index: Index) -> None:
        """Reads the table of users.

        Args:
          lake: where it is published.
          index: its users are the rows.

        Raises:
          FootpathError: there is no table of users.
        """
        path = lake.single("users")
        if not path.exists():
            raise FootpathError(f"{lake.root.name} has no table of users to filter by")
        table = read_table(path, columns=["user_id", "attributes"])
        self.index = index
        rows = pc.index_in(index.users, table["user_id"].combine_chunks())
        self._maps = table["attributes"].combine_chunks().take(rows)
        self._columns: dict[str, pa.Array] = {}

    def mask(self, filters: Mapping[str, list[str]]) -> "np.ndarray":
        """Who has, of every attribute that is named, one of the values: bool [users].

        Raises:
          FootpathError: nobody has an attribute of that name.
        """
        import numpy as np

        found = np.ones(len(self._maps), bool)
        for name, values in filters.items():
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = self._column(name)
            same = pc.is_in(column, value_set=pa.array(values, pa.string()))
            found &= same.to_numpy(zero_copy_only=False)
        return found

    def _column(self, name: str) -> pa.Array:
        column = pc.map_lookup(self._maps, pa.scalar(name), "first")
        if column.null_count == len(column):
            keys = pc.unique(self._maps.keys).drop_null().to_pylist()
            known = ", ".join(sorted(keys)[:MAX_NAMES]) or "none"
            raise FootpathError(f"users have no attribute '{name}': they have {known}")
        return column.dictionary_encode()
