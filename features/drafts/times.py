"""A sample's columns -> which of them tells when an event was, and the SQL that reads it.

In:  the table `sample` (sampling.py). Out: a guess for `events.timestamp`. Numbers in the
range of an epoch, ISO text with and without an offset, and the formats below are known. Times
without a zone are taken for UTC, and the guess says that a person must look.
"""

import duckdb

from contracts.base.sql import literal, name
from features.drafts.column_guess import Column, Guess, rank, sql_name

TIMES = ("timestamp", "time", "ts", "datetime", "date", "created", "at", "when", "invoicedate")

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


def guess_time(connection: duckdb.DuckDBPyConnection, free: list[Column], rows: int) -> Guess:
    """Returns the best guess; without any, one moment for all events."""
    found = [(g, c) for c in free if (g := _as_time(connection, c)) and c.filled >= rows * 0.9]
    if not found:
        return Guess(
            "TIMESTAMPTZ '2000-01-01 00:00:00+00'",
            "no column of the sample reads as a time",
            "say how the columns give the instant: without it all events are at one moment, and "
            "there are no sessions (a source that has only an order: see docs/your-data.md)",
        )
    return max(found, key=lambda pair: (rank(pair[1], TIMES), " AT TIME" not in pair[0].sql))[0]


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
    iso, offsets, dates = connection.execute(
        f"SELECT count(*) FILTER ({n} LIKE '____-__-__%' AND "
        f"TRY_CAST({n} AS TIMESTAMPTZ) IS NOT NULL), "
        f"count(*) FILTER ({n} LIKE '%:%' AND "
        f"regexp_matches({n}, '\\d(Z|[+-]\\d\\d(:?\\d\\d)?)$')), "
        f"count(*) FILTER (length({n}) = 10) FROM sample"
    ).fetchall()[0]
    if iso >= column.filled * 0.95 and offsets == iso:
        return Guess(
            f"TRY_CAST({c} AS TIMESTAMPTZ)", f"{column.name} is ISO with an offset", "", column.name
        )
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
