"""Which refused rows are of some users: by the id that the YAML makes of them, or by their text.

In:  rows of quarantine, or repaired ones. Out: which of them go. A row that could be read has its
columns as JSON, and the YAML's expression gives its user; an event has its `user_id`. Any other row
is of a user if it has the id as a word, as landing judges it (contracts/lake/forgotten.py).
"""

import json

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.sql import literal
from contracts.config.dataset import Dataset
from features.expressions import text_of
from orchestration.forgetting.ids import Ids


class Refused:
    """Judges refused rows.

    Args:
      connection: DuckDB.
      dataset: maps landing rows to events.
      ids: who goes.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, dataset: Dataset, ids: Ids) -> None:
        self._connection, self._ids = connection, ids
        self._sql = f"nullif({text_of(dataset.events.user_id)}, '')"
        self._kinds = literal(json.dumps(dataset.landing.columns))

    def gone(self, rows: pa.Table) -> pa.ChunkedArray:
        """Which rows go; the text of a row is in `raw`, or of a repaired one in `row`."""
        column = "raw" if "raw" in rows.column_names else "row"
        users = self._users(rows, column)
        by_id = self._ids.among(users)
        by_text = [
            user is None and self._ids.is_word_of(text)
            for user, text in zip(users.to_pylist(), rows[column].to_pylist(), strict=True)
        ]
        return pc.or_(by_id, pa.chunked_array([pa.array(by_text, pa.bool_())]))

    def _users(self, rows: pa.Table, column: str) -> pa.ChunkedArray:
        """Each row's user; null where the row does not tell."""
        places = pa.array(range(len(rows)), pa.int64())
        texts = pa.table({"place": places, "text": rows[column], "stage": rows["stage"]})
        self._connection.register("refused_texts", texts)
        try:
            return self._connection.sql(
                "SELECT user_id FROM ("
                "SELECT place, TRY(json_extract_string(text, '$.user_id')) AS user_id "
                "FROM refused_texts WHERE stage != 'landing' UNION ALL "
                f"SELECT place, TRY({self._sql}) AS user_id FROM (SELECT place, unnest(from_json("
                f"CASE WHEN json_valid(text) THEN text END, {self._kinds})) FROM refused_texts "
                "WHERE stage = 'landing')) ORDER BY place"
            ).to_arrow_table()["user_id"]
        except duckdb.Error:  # an expression over the elements of `explode`
            return pa.chunked_array([pa.nulls(len(rows), pa.string())])
