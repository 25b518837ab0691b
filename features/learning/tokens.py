"""Text of events: every item and every query as a document, a run of token ids.

In: the tables `past` and `catalog` that training sequences are made of. Out: the flat arrays
`document_offsets`, `document_tokens`, and the document of each event and each vocabulary item.

A document is the catalog's title, category and attributes, each behind its marker, as in
`[TITLE] red running shoe [BRAND] acme`; or, of an event without an item, its query behind
`[QUERY]`. Words are runs of letters or digits in lower case. Items too rare for the item
vocabulary have documents too: that is how a model that reads text knows them.

Document 0 is empty, and stands for "no text"; document 1 is [MASK], and stands for what is hidden.
"""

import duckdb
import numpy as np

from contracts.base.sql import literal, literals
from contracts.config.learning import Learning

RESERVED = 2  # documents: none, [MASK]
MASK_TOKEN, UNKNOWN_TOKEN = 1, 2
_WORD = r"[\p{L}\p{M}\p{N}]+"
_MARKERS = ["[TITLE]", "[CATEGORY]"]  # these first, then attributes by name, then [QUERY]
_QUERY = "[QUERY]"


def load_documents(connection: duckdb.DuckDBPyConnection, learning: Learning) -> None:
    """Makes `item_document` (item_id, document), `query_document` and `document_words`.

    `document_words` has a row a token: document, place, token. Only items and queries of `past`
    have documents, so nothing that comes later is seen.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE item_document AS
        SELECT item_id, {RESERVED} - 1 + row_number() OVER (ORDER BY item_id) AS document, uses
        FROM (SELECT item_id, count(*) AS uses FROM past GROUP BY item_id)
        JOIN catalog USING (item_id)
        WHERE title IS NOT NULL OR category IS NOT NULL OR len(map_keys(attributes)) > 0;

        CREATE OR REPLACE TEMP TABLE query_document AS
        SELECT query, {RESERVED} - 1 + (SELECT count(*) FROM item_document)
          + row_number() OVER (ORDER BY query) AS document, uses
        FROM (SELECT query, count(*) AS uses FROM past WHERE query IS NOT NULL GROUP BY query);

        CREATE OR REPLACE TEMP TABLE document_words AS
        WITH described AS (
          SELECT document, title, category, map_entries(attributes) AS pairs
          FROM item_document JOIN catalog USING (item_id)
        ), part AS (
          SELECT document, 0 AS place, {literal(_MARKERS[0])} AS marker, title AS words
          FROM described
          UNION ALL
          SELECT document, 1, {literal(_MARKERS[1])}, category FROM described
          UNION ALL
          SELECT document, 2, '[' || upper(pair.key) || ']', pair.value
          FROM (SELECT document, unnest(pairs) AS pair FROM described)
          UNION ALL
          SELECT document, 0, {literal(_QUERY)}, query FROM query_document
        ), cut AS (
          SELECT document, place, marker,
            regexp_extract_all(lower(words), {literal(_WORD)}) AS words FROM part
        ), whole AS (
          SELECT document,
            flatten(list(list_prepend(marker, words) ORDER BY place, marker))
              [:{learning.max_tokens}] AS tokens
          FROM cut WHERE len(words) > 0 GROUP BY document
        )
        SELECT document, unnest(tokens) AS token, generate_subscripts(tokens, 1) AS place
        FROM whole
        """
    )


def fit_tokens(connection: duckdb.DuckDBPyConnection, learning: Learning) -> list[str]:
    """The markers that occur, then words by how many events say them."""
    found = connection.execute(
        f"""
        WITH used AS (
          SELECT document, uses FROM item_document
          UNION ALL SELECT document, uses FROM query_document
        ), counted AS (
          SELECT token, sum(uses) AS uses, starts_with(token, '[') AS is_marker
          FROM document_words JOIN used USING (document) GROUP BY token
        )
        SELECT token FROM counted WHERE is_marker OR uses >= {learning.min_token_count}
        ORDER BY is_marker DESC,
          CASE WHEN is_marker THEN coalesce(list_position([{literals(_MARKERS)}], token), 9) END,
          CASE WHEN is_marker THEN token = {literal(_QUERY)} END,
          CASE WHEN NOT is_marker THEN uses END DESC, token
        """
    ).fetchall()
    return [token for (token,) in found]


def document_arrays(connection: duckdb.DuckDBPyConnection, items: int) -> dict[str, np.ndarray]:
    """The flat arrays `document_offsets`, `document_tokens` and `item_document`.

    Needs the tables `token_words` and `item_words` (word, id) of the vocabulary.

    Args:
      connection: has them, and what `load_documents` made.
      items: length of the item vocabulary.
    """
    tokens = connection.sql(
        f"""
        SELECT document, coalesce(id, {UNKNOWN_TOKEN})::INTEGER AS token
        FROM document_words LEFT JOIN token_words ON token = word ORDER BY document, place
        """
    ).to_arrow_table()
    documents = connection.sql(
        "SELECT (SELECT count(*) FROM item_document) + (SELECT count(*) FROM query_document)"
    ).fetchall()[0][0]
    lengths = np.bincount(tokens["document"].to_numpy(), minlength=RESERVED + documents)
    lengths[1] = 1
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.concatenate([[MASK_TOKEN], tokens["token"].to_numpy()]).astype(np.int32)
    found = connection.sql(
        "SELECT id, document FROM item_words JOIN item_document ON word = item_id"
    ).to_arrow_table()
    known = np.zeros(items, np.int32)
    known[found["id"].to_numpy()] = found["document"].to_numpy()
    return {"document_offsets": offsets, "document_tokens": flat, "item_document": known}
