"""Guesses which values of a row are the user, the time, the action, the item of an event.

In:  the table `sample`. Out: a `Guess` for every field that an event needs, each with the reason
for it, so that a person can tell a good guess from a bad one. Names rank (names.py), values decide;
nothing here is certain, and what rests on little has a doubt.
"""

import duckdb

from features.drafts.guessing.actions import action_of, value_of
from features.drafts.guessing.ids import event_id_of, item_of, session_of, user_of
from features.drafts.guessing.names import ITEM, USER, is_of_a_table
from features.drafts.guessing.rows import Rows
from features.drafts.guessing.times import Time
from features.drafts.guessing.when import choose_list, choose_time, timestamp_of
from features.drafts.source.paths import Span
from features.drafts.source.sampling import Sample

# Words in the names of files of tables.
_FILES = {
    "users": ("user", "customer", "member", "person", "people", "profile"),
    "items": ("item", "product", "catalog", "article", "movie", "book"),
}


def guess(connection: duckdb.DuckDBPyConnection, sample: Sample) -> Rows:
    """Looks at every leaf of a sample and says what it could be."""
    rows = Rows.of(connection, sample)
    time = choose_time(rows)
    choose_list(rows, time)
    rows.take("timestamp", timestamp_of(rows, time))
    rows.take("event_id", event_id_of(rows))
    rows.take("user_id", user_of(rows))
    rows.take("session_id", session_of(rows))
    rows.take("action", action_of(rows))
    rows.take("item_id", item_of(rows))
    rows.take("value", value_of(rows))
    _tell_tables(rows, time)
    _find_span(rows)
    return rows


def _tell_tables(rows: Rows, time: Time | None) -> None:
    """Tells a table of users or items: a row for each key, nothing that happens."""
    if rows.fields["action"].leaves or rows.sample.rows < 5 or rows.explode:
        return
    if (time and not is_of_a_table(time.profile.leaf)) or (not time and rows.has_time):
        return
    for kind, role in (("users", USER), ("items", ITEM)):
        file = rows.sample.file.path.rsplit("/", 1)[-1].lower()
        is_named = any(word in file for word in _FILES[kind])
        keys = [
            p
            for p in rows.profiles
            if p.leaf.is_plain
            and p.distinct == p.filled == p.rows
            and (role.rank(p.leaf) >= 75 or (is_named and p.leaf.key in ("id", "sku", "email")))
        ]
        if keys:
            rows.table_of, rows.key = kind, keys[0]
            return


def _find_span(rows: Rows) -> None:
    """Finds the first and last time, as the draft reads them."""
    time = rows.fields["timestamp"]
    low, high = rows.connection.sql(
        f"SELECT min(t), max(t) FROM (SELECT TRY({time.sql})::TIMESTAMPTZ AS t FROM {rows.typed}) "
        "WHERE year(t) BETWEEN 1990 AND 2100"
    ).fetchall()[0]
    if low:
        rows.span = Span(low, high)
