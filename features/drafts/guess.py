"""Guesses at a sample's columns: types, and which is the user, the time, the action.

In:  the table `sample` (sampling.py), all text. Out: a `Guess` for every column that an
event needs, each with the reason for it, so that a person can tell a good guess from a bad one.
Names decide first, then values. Nothing here is certain; what rests on little has a doubt.

Of times, numbers in the range of an epoch, ISO text with and without an offset, and the formats
below are known. Times without a zone are taken for UTC, and a person must look.
"""

import datetime as dt
import re
from dataclasses import dataclass
from functools import cache

import duckdb

from contracts.base.sql import literal, name
from features.drafts.sampling import Sample

# Words in the names of columns, best first.
USERS = ("user", "userid", "uid", "customer", "customerid", "client", "visitor", "member", "buyer",
         "account", "person", "player", "subscriber", "cookie", "device", "session")  # fmt: skip
ITEMS = ("item", "itemid", "product", "productid", "article", "movie", "movieid", "song", "track",
         "sku", "stockcode", "asin", "book", "business", "hotel", "video", "content", "model",
         "reference", "url", "page", "path")  # fmt: skip
ACTIONS = ("action", "event", "type", "activity", "behavior", "behaviour", "verb", "operation")
VALUES = ("value", "amount", "price", "rating", "score", "revenue", "total", "stars", "quantity")
SESSIONS = ("session", "sessionid", "visit", "visitid")
EVENT_IDS = ("eventid", "id", "uuid", "guid", "hitid")
MOST_ACTIONS = 50
ACTION = "[a-z][a-z0-9_]{0,39}"  # as contracts/base/schema.py has it

TIMES = ("timestamp", "time", "ts", "datetime", "date", "created", "at", "when", "invoicedate")

# How ISO times are read where some name their zone: as they are, or without a space before the
# offset or a name behind it, as in `10:00:00 +0530` and `10:00:00+05:30[Asia/Kolkata]`.
ZONED = (
    "TRY_CAST({c} AS TIMESTAMPTZ)",
    r"TRY_CAST(regexp_replace({c}, ' ?([+-]\d\d(:?\d\d)?)(\[.*\])?$', '\1') AS TIMESTAMPTZ)",
)
HAS_ZONE = r":\d\d(\.\d+)? ?(Z|[+-]\d\d(:?\d\d)?(\[.*\])?|[A-Za-z]+(/[\w+-]+)*)$"

# strptime formats that are tried on text which is no ISO date, in this order.
FORMATS = ("%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d",
           "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S",
           "%d/%m/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y",
           "%m/%d/%y %H:%M", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y", "%Y%m%d%H%M%S",
           "%Y%m%d", "%b %d, %Y %I:%M:%S %p", "%a %b %d %H:%M:%S %Y")  # fmt: skip

# Epochs between 1990 and 2100, by unit: the SQL, and what one second is in it.
UNITS = {
    "seconds": ("to_timestamp({c})", 1),
    "milliseconds": ("make_timestamptz({c} * 1000)", 10**3),
    "microseconds": ("make_timestamptz({c})", 10**6),
    "nanoseconds": ("make_timestamptz({c} // 1000)", 10**9),
}
EARLIEST, LATEST = 631_152_000, 4_102_444_800


@dataclass(frozen=True)
class Column:
    """What the sample shows of one column."""

    name: str
    kind: str  # DuckDB type in which it can be declared
    filled: int
    distinct: int
    low: float | None  # of numbers
    high: float | None

    @property
    def words(self) -> set[str]:
        """The words of the name, and the whole of it: userId gives user, id and userid."""
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", self.name)
        return {part.lower() for part in parts} | {re.sub(r"\W|_", "", self.name).lower()}


@dataclass(frozen=True)
class Guess:
    """One field of an event."""

    sql: str
    why: str
    doubt: str = ""  # what a person has to look at, if anything
    column: str | None = None  # the column that it rests on


@dataclass(frozen=True)
class Guesses:
    """All of them, and the days and actions that come of it."""

    fields: dict[str, Guess]
    days: tuple[dt.date, dt.date]
    actions: list[str]
    columns: list[Column]


def guess(connection: duckdb.DuckDBPyConnection, sample: Sample) -> Guesses:
    """Looks at every column and says what it could be."""
    columns = [_profile(connection, sample, column) for column in sample.columns]
    free = [column for column in columns if column.filled and column.name not in sample.nested]
    fields: dict[str, Guess] = {}

    def take(field: str, found: Guess | None) -> None:
        if found is None:
            return
        fields[field] = found
        free[:] = [column for column in free if column.name != found.column]

    take("timestamp", _time(connection, free, sample.rows))
    take("event_id", _event_id(free, sample.rows))
    take("user_id", _user(free, sample.rows))
    take("session_id", _by_name(free, SESSIONS))
    take("action", _action(connection, free))
    take("item_id", _item(free))
    take("value", _value(free))
    for field, found in fields.items():
        if found.column and field in ("user_id", "item_id", "event_id", "session_id"):
            columns = [_as_text(c) if c.name == found.column else c for c in columns]
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


def _profile(connection: duckdb.DuckDBPyConnection, sample: Sample, column: str) -> Column:
    """Looks at one column of the sample."""
    c = f"nullif({name(column)}, '')"
    filled, whole, number, padded, distinct, low, high = connection.execute(
        f"SELECT count({c}), count(*) FILTER (regexp_full_match({c}, '-?\\d{{1,18}}')), "
        f"count(TRY_CAST({c} AS DOUBLE)), count(*) FILTER (regexp_full_match({c}, '0\\d+')), "
        f"count(DISTINCT {c}), min(TRY_CAST({c} AS DOUBLE)), max(TRY_CAST({c} AS DOUBLE)) "
        "FROM sample"
    ).fetchall()[0]
    kind = "VARCHAR"
    if column in sample.nested:
        kind = sample.nested[column]
    elif filled and not padded and whole == filled:
        kind = "BIGINT"
    elif filled and not padded and number == filled:
        kind = "DOUBLE"
    return Column(column, kind, filled, distinct, low, high)


def sql_name(column: str) -> str:
    """A column as SQL, quoted only where it must be."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", column) and column.lower() not in _keywords()
    return column if plain else name(column)


@cache
def _keywords() -> frozenset[str]:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        ).fetchall()
    return frozenset(word for (word,) in found)


def _rank(column: Column, words: tuple[str, ...]) -> int:
    """How well a name fits: the earlier the word, the higher; 0 for none."""
    return max(
        (len(words) - words.index(word) for word in column.words if word in words), default=0
    )


def _as_text(column: Column) -> Column:
    """Ids are text: 007 is not 7, and nothing is reckoned with them."""
    return Column(column.name, "VARCHAR", column.filled, column.distinct, None, None)


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
    if any(_rank(c, (*VALUES, *ACTIONS)) for c in free):  # columns have telling names
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
    named = [c for c in few if _rank(c, ACTIONS)]
    if not named:
        return Guess("'event'", "no column names what was done: every row is one action")
    best = max(named, key=lambda c: _rank(c, ACTIONS))
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
    named = [c for c in free if _rank(c, words)]
    if not named:
        return None
    best = max(named, key=lambda c: _rank(c, words))
    why = f"by its name; {best.distinct:,} different ones in the sample"
    return Guess(sql_name(best.name), why, "", best.name)


def _over_text(fields: dict[str, Guess], columns: list[Column]) -> str:
    """The SQL of the time as it runs over the sample, whose columns are all text."""
    found = fields["timestamp"]
    column = next((c for c in columns if c.name == found.column), None)
    if column is None or column.kind == "VARCHAR":
        return found.sql
    plain = sql_name(column.name)
    return found.sql.replace(plain, f"TRY_CAST({name(column.name)} AS {column.kind})", 1)


def _time(connection: duckdb.DuckDBPyConnection, free: list[Column], rows: int) -> Guess:
    """The best guess; without any, one moment for all events."""
    found = [(g, c) for c in free if (g := _as_time(connection, c)) and c.filled >= rows * 0.9]
    if not found:
        return Guess(
            "TIMESTAMPTZ '2000-01-01 00:00:00+00'",
            "no column of the sample reads as a time",
            "say how the columns give the instant: without it all events are at one moment, and "
            "there are no sessions (a source that has only an order: see docs/your-data.md)",
        )
    return max(found, key=lambda pair: (_rank(pair[1], TIMES), " AT TIME" not in pair[0].sql))[0]


def _as_time(connection: duckdb.DuckDBPyConnection, column: Column) -> Guess | None:
    c = sql_name(column.name)
    if column.kind in ("BIGINT", "DOUBLE") and column.low is not None and column.high is not None:
        for unit, (sql, second) in UNITS.items():
            if EARLIEST * second <= column.low and column.high <= LATEST * second:
                whole = c if column.kind == "BIGINT" or unit == "seconds" else f"{c}::BIGINT"
                return Guess(
                    sql.format(c=whole), f"{column.name} is {unit} since 1970", "", column.name
                )
    n = f"nullif({name(column.name)}, '')"
    iso = dates = 0
    for reading in ZONED:
        read, zoned, dates = connection.execute(
            f"SELECT count(*), count(*) FILTER (regexp_matches({n}, {literal(HAS_ZONE)})), "
            f"count(*) FILTER (length({n}) = 10) FROM sample "
            f"WHERE {n} LIKE '____-__-__%' AND {reading.format(c=n)} IS NOT NULL"
        ).fetchall()[0]
        iso = max(iso, read)
        if zoned and read >= column.filled * 0.95:
            doubt = (
                f"{read - zoned:,} of {read:,} times name no zone and are read as UTC: are they?"
            )
            doubt = doubt if zoned < read else ""
            why = f"{column.name} is ISO with a zone"
            return Guess(reading.format(c=c), why, doubt, column.name)
    zone = "no zone is given: name the one that these times are written in"
    if iso >= column.filled * 0.95:
        why = f"{column.name} is an ISO {'date' if dates == column.filled else 'time'}"
        return Guess(f"TRY_CAST({c} AS TIMESTAMP) AT TIME ZONE 'UTC'", why, zone, column.name)
    # %Y takes 26 for the year 26.
    tried = ", ".join(
        f"count(*) FILTER (year(TRY(try_strptime({n}, {literal(f)}))) BETWEEN 1990 AND 2100)"
        for f in FORMATS
    )
    counts = connection.execute(f"SELECT {tried} FROM sample").fetchall()[0]
    fits = [f for f, count in zip(FORMATS, counts, strict=True) if count >= column.filled * 0.95]
    if not fits or column.filled == 0:
        return None
    why = f"{column.name} fits {fits[0]}"
    if fits[0].endswith("%z"):
        return Guess(f"try_strptime({c}, {literal(fits[0])})", why, "", column.name)
    if len(fits) > 1:
        zone = f"it fits {fits[1]} as well: which is it? And {zone}"
    c = c if column.kind == "VARCHAR" else f"{c}::VARCHAR"
    sql = f"try_strptime({c}, {literal(fits[0])}) AT TIME ZONE 'UTC'"
    return Guess(sql, why, zone, column.name)
