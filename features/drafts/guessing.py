"""A sample of rows -> what its columns are: types, and which is the user, the time, the action.

In:  the table `sample` (sampling.py), all text. Out: a `Guess` for every column that an
event needs, each with the reason for it, so that a person can tell a good guess from a bad one.
Names decide first, then values. Nothing here is certain; what rests on little says so (`doubt`).
"""

import datetime as dt
import re
from dataclasses import dataclass

import duckdb

from contracts.base.sql import name
from features.drafts.column_guess import Column, Guess, as_text, profile, rank, sql_name
from features.drafts.sampling import Sample
from features.drafts.times import guess_time

# Words in the names of columns, best first.
USERS = ("user", "userid", "uid", "customer", "customerid", "client", "visitor", "member", "buyer",
         "account", "person", "player", "subscriber", "cookie", "device", "session")  # fmt: skip
ITEMS = ("item", "itemid", "product", "productid", "article", "movie", "movieid", "song", "track",
         "sku", "stockcode", "asin", "book", "business", "hotel", "video", "content", "model",
         "reference", "url", "page", "path")  # fmt: skip
ACTIONS = ("action", "event", "type", "activity", "behavior", "behavior", "verb", "operation")
VALUES = ("value", "amount", "price", "rating", "score", "revenue", "total", "stars", "quantity")
SESSIONS = ("session", "sessionid", "visit", "visitid")
EVENT_IDS = ("eventid", "id", "uuid", "guid", "hitid")
MOST_ACTIONS = 50
ACTION = "[a-z][a-z0-9_]{0,39}"  # as contracts/base/schema.py has it


@dataclass(frozen=True)
class Guesses:
    """All of them, and the days and actions that come of it."""

    fields: dict[str, Guess]
    days: tuple[dt.date, dt.date]
    actions: list[str]
    columns: list[Column]


def guess(connection: duckdb.DuckDBPyConnection, sample: Sample) -> Guesses:
    """Looks at every column and says what it could be."""
    columns = [profile(connection, sample, column) for column in sample.columns]
    free = [column for column in columns if column.filled and column.name not in sample.nested]
    fields: dict[str, Guess] = {}

    def take(field: str, found: Guess | None) -> None:
        if found is None:
            return
        fields[field] = found
        free[:] = [column for column in free if column.name != found.column]

    take("timestamp", guess_time(connection, free, sample.rows))
    take("event_id", _event_id(free, sample.rows))
    take("user_id", _user(free, sample.rows))
    take("session_id", _by_name(free, SESSIONS))
    take("action", _action(connection, free))
    take("item_id", _item(free))
    take("value", _value(free))
    for field, found in fields.items():
        if found.column and field in ("user_id", "item_id", "event_id", "session_id"):
            columns = [as_text(c) if c.name == found.column else c for c in columns]
    days = connection.execute(
        f"SELECT min(t)::DATE, max(t)::DATE FROM (SELECT ({_over_text(fields, columns)}) AS t "
        "FROM sample)"
    ).fetchall()[0]
    if days[0] is None:
        days = (dt.date(2000, 1, 1), dt.date(2000, 1, 1))
    action = fields["action"]
    found = connection.execute(
        f"SELECT DISTINCT ({action.sql}) AS a FROM sample WHERE a <> '' ORDER BY a LIMIT "
        f"{MOST_ACTIONS}"
    ).fetchall()
    names = [value for (value,) in found if re.fullmatch(ACTION, value)]
    return Guesses(fields, days, names or ["event"], columns)


def _user(free: list[Column], rows: int) -> Guess:
    if found := _by_name(free, USERS):
        return found
    ids = [c for c in free if c.kind in ("BIGINT", "VARCHAR") and 1 < c.distinct <= rows * 0.7]
    if not ids:
        doubt = "no column looks like a user: say which one is, or all events are one user's"
        return Guess("'everyone'", "nothing in the sample tells users apart", doubt)
    first = ids[0]
    why = f"{first.name} is the first column whose values come back ({first.distinct:,} of them)"
    return Guess(sql_name(first.name), why, "no name says so: is this the user?", first.name)


def _item(free: list[Column]) -> Guess | None:
    if found := _by_name(free, ITEMS):
        return found
    if any(rank(c, (*VALUES, *ACTIONS)) for c in free):  # columns have telling names
        return None
    ids = [c for c in free if c.kind in ("BIGINT", "VARCHAR") and c.distinct > MOST_ACTIONS]
    if not ids:
        return None
    why = f"{ids[0].name} is the next column with many values ({ids[0].distinct:,})"
    return Guess(sql_name(ids[0].name), why, "no name says so: is this the item?", ids[0].name)


def _event_id(free: list[Column], rows: int) -> Guess | None:
    # An `id` alone is the event's; that in `product_id` is not.
    named = [c for c in free if c.name.lower().replace("_", "") in EVENT_IDS]
    ids = [c for c in named if rows > 1 and c.distinct >= 0.9 * rows]
    if not ids:
        return None
    column = ids[0]
    if column.distinct == rows:
        why = f"{column.name} is there in every row, and never twice"
        return Guess(sql_name(column.name), why, "", column.name)
    why = f"{column.name} has {column.distinct:,} different ones in {rows:,} rows"
    doubt = "rows with one id count as one event, delivered again: is that so?"
    return Guess(sql_name(column.name), why, doubt, column.name)


def _action(connection: duckdb.DuckDBPyConnection, free: list[Column]) -> Guess:
    few = [c for c in free if c.kind == "VARCHAR" and c.distinct <= MOST_ACTIONS]
    named = [c for c in few if rank(c, ACTIONS)]
    if not named:
        return Guess("'event'", "no column names what was done: every row is one action")
    best = max(named, key=lambda c: rank(c, ACTIONS))
    sql = sql_name(best.name)
    odd = f"SELECT 1 FROM sample WHERE NOT regexp_full_match({sql}, '|{ACTION}') LIMIT 1"
    if connection.execute(odd).fetchall():
        sql = f"trim(regexp_replace(lower({sql}), '[^a-z0-9]+', '_', 'g'), '_')"
    return Guess(sql, f"{best.name} has {best.distinct} values", "", best.name)


def _value(free: list[Column]) -> Guess | None:
    numbers = [c for c in free if c.kind in ("BIGINT", "DOUBLE")]
    if found := _by_name(numbers, VALUES):
        return found
    if numbers and re.fullmatch(r"c\d+", numbers[0].name):
        why = f"{numbers[0].name} is a number"
        return Guess(
            sql_name(numbers[0].name),
            why,
            "no name says so: is it the event's value?",
            numbers[0].name,
        )
    return None


def _by_name(free: list[Column], words: tuple[str, ...]) -> Guess | None:
    named = [c for c in free if rank(c, words)]
    if not named:
        return None
    best = max(named, key=lambda c: rank(c, words))
    why = f"by its name; {best.distinct:,} different ones in the sample"
    return Guess(sql_name(best.name), why, "", best.name)


def _over_text(fields: dict[str, Guess], columns: list[Column]) -> str:
    """Returns the SQL of the time as it runs over the sample, whose columns are all text."""
    found = fields["timestamp"]
    column = next((c for c in columns if c.name == found.column), None)
    if column is None or column.kind == "VARCHAR":
        return found.sql
    plain = sql_name(column.name)
    return found.sql.replace(plain, f"TRY_CAST({name(column.name)} AS {column.kind})", 1)
