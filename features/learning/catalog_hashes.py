"""Content hashes of the catalog, as far as events up to a day have met it.

In:  published events and the table of items. Out: for any day one hash of the categories, and one
of all texts, of the items in events up to it. Vectors of a day still follow from the catalog where
its hash is what it was: an item that is new in the catalog and in no event yet changes none.
"""

import datetime as dt
from bisect import bisect_right
from dataclasses import dataclass

from contracts.base.hashing import hash_json
from contracts.base.sql import literals, parquet
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from features.learning.encoding import load_catalog
from features.learning.sequences import FORMAT


@dataclass(frozen=True)
class CatalogHashes:
    """Hashes that hold from each day on which events meet items for the first time."""

    days: list[str]  # ISO 8601, ascending
    categories: list[str]
    texts: list[str]
    how: list[str | int | None]  # what else a text follows from

    @classmethod
    def up_to(cls, dataset: Dataset, lake: Lake, last: dt.date) -> "CatalogHashes":
        """Those of all days up to the last one, in one scan of the items of their events.

        A hash is DuckDB's, so that it holds for one version of DuckDB.
        """
        learning = dataset.learning
        how = [learning.query, learning.max_tokens]
        files = lake.existing("events", [day for day in lake.days("events") if day <= last])
        if not files or not lake.single("items").exists():
            return cls([], [], [], how)
        events = parquet(f"[{literals(files)}]", "filename = 'file'")
        with connect() as connection:
            load_catalog(connection, lake.single("items"))
            rows = connection.sql(
                # Of 2026-01-01.parquet, the day.
                "WITH met AS (SELECT item_id, right(min(file), 18)[:10] AS day "
                f"  FROM {events} WHERE item_id IS NOT NULL GROUP BY item_id), "
                "each AS (SELECT day, sum(hash(item_id, category)::HUGEINT) AS categories, "
                "  sum(hash(item_id, title, category, attributes::VARCHAR)::HUGEINT) AS texts "
                "  FROM met JOIN catalog USING (item_id) GROUP BY day) "
                "SELECT day, (sum(categories) OVER so_far)::VARCHAR, (sum(texts) OVER so_far)"
                "::VARCHAR FROM each WINDOW so_far AS (ORDER BY day) ORDER BY day"
            ).fetchall()
        days, categories, texts = ([row[n] for row in rows] for n in range(3))
        return cls(days, categories, texts, how)

    def of(self, day: dt.date, with_text: bool) -> str:
        """Hash of what the catalog says of the items of all events up to a day.

        Args:
          day: not after the last one.
          with_text: of their texts too, and not of their categories alone.
        """
        met = bisect_right(self.days, str(day))
        said = (self.texts if with_text else self.categories)[met - 1] if met else ""
        return hash_json([FORMAT, said, *(self.how if with_text else [])])
