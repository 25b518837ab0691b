"""How the texts of a leaf read as times, by their mass.

In:  a profiled leaf. Out: a `Time` with the SQL of the instant and what a person has to look at, or
none. Known are epochs in seconds to nanoseconds, ISO text with and without a zone, and FORMATS.
Times without a zone are taken for UTC, which a person must confirm. A format in which day and month
could change places is told, and the one by which the times lie closer together comes first.
"""

import re
from dataclasses import dataclass
from functools import cache

import duckdb

from contracts.base.sql import literal
from features.drafts.guessing.profiles import MASS, Profile

# A time of an event lies between these years.
YEARS = (1990, 2100)

# Values that are tried: every so-many-th of them where there are more.
TRIED = 4000

ISO = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?ZONE)?)?"
_OFFSET = r"([Zz]|[+-]\d\d(:?\d\d)?(\[.*\])?|[A-Za-z]+(/[\w+-]+)*)"
ISO = ISO.replace("ZONE", _OFFSET)
HAS_ZONE = rf":\d\d([.,]\d+)? ?{_OFFSET}$"
# Written so that DuckDB does not take them: a blank before the offset, a name behind it.
ODD_OFFSET = r" [+-]\d\d(:?\d\d)?$|\[.*\]$"
_MEND_OFFSET = r"' ?([+-]\d\d(:?\d\d)?)(\[.*\])?$', '\1'"

# Formats that are tried on text which is no ISO time. Each is tried with every clock of its kind.
_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y",
          "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y",
          "%B %d, %Y", "%b %d %Y", "%Y-%m-%d", "%Y/%m/%d", "%a %b %d %Y",
          "%a, %d %b %Y")  # fmt: skip
_CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p", "%I.%M.%S.%f %p",
           "%I.%M.%S.%n %p", "%H:%M:%S %z", "%H:%M:%S GMT%z", "%H:%M:%S %Z",
           "%H:%M %Z")  # fmt: skip
_WHOLE = ("%d/%b/%Y:%H:%M:%S %z", "[%d/%b/%Y:%H:%M:%S %z]", "%a %b %d %H:%M:%S %Y",
          "%a %b %d %H:%M:%S %Z %Y", "%a %b %d %H:%M:%S %z %Y", "%G-W%V-%uT%H:%M:%S", "%G-W%V-%u",
          "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S.%fZ", "%Y%m%dT%H%M%S%z", "%Y%m%dT%H%M%S",
          "%Y%m%d%H%M%S%g", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H", "%Y%m%d",
          "%Y%m%d %H:%M:%S", "%Y%m%d %H%M%S", "%Y-%m-%d-%H.%M.%S.%f",
          "%Y-%m-%d %H.%M.%S")  # fmt: skip
# strptime directive -> what its text looks like.
_LOOKS = dict.fromkeys("dmHIMSV", r"\d{1,2}") | dict.fromkeys("YG", r"\d{4}") | {
    "y": r"\d\d", "b": "[a-z]{3}", "B": "[a-z]{3,9}", "a": "[a-z]{3}", "p": "[ap]m", "u": r"\d",
    "f": r"\d{1,6}", "n": r"\d{9}", "g": r"\d{3}", "z": r"[+-]\d\d:?(\d\d)?", "Z": "[a-z/_+-]+",
}  # fmt: skip
# What every text of these formats has.
_DATED = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[-/ ][a-z]{3}|[a-z]{3,9} \d{1,2}|\d{8}[T ]|-W\d\d",
    re.I,
)
# Digits alone could be anything: their number tells the format.
_DIGITS = {"%Y%m%d%H%M%S%g": 17, "%Y%m%d%H%M%S": 14, "%Y%m%d%H%M": 12, "%Y%m%d%H": 10, "%Y%m%d": 8}

# Epochs, by unit: how many there are in a second, and the SQL.
UNITS = {
    "seconds": (1, "to_timestamp({c})"),
    "milliseconds": (10**3, "make_timestamptz({c} * 1000)"),
    "microseconds": (10**6, "make_timestamptz({c})"),
    "nanoseconds": (10**9, "make_timestamptz({c} // 1000)"),
}
EARLIEST, LATEST = 631_152_000, 4_102_444_800  # seconds, of those years
_CLOCK = r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?"


@dataclass(frozen=True)
class Time:
    """A reading of a leaf as instants."""

    profile: Profile
    sql: str
    why: str
    doubt: str = ""
    declared: str = "VARCHAR"  # type that the SQL needs its column to have
    share: float = 1.0  # of the values that it reads
    has_clock: bool = True  # false: days only
    other: Profile | None = None  # the leaf of the time of day, where it is apart


def time_of(connection: duckdb.DuckDBPyConnection, profile: Profile) -> Time | None:
    """Reads a leaf as times, if its mass is."""
    if not profile.mostly(profile.digits) or profile.longest > 80:
        return None
    return (
        _formatted(connection, profile, digits=True)
        or _epoch(connection, profile)
        or _dotnet(connection, profile)
        or _iso(connection, profile)
        or _formatted(connection, profile, digits=False)
    )


def with_clock(connection: duckdb.DuckDBPyConnection, day: Time, clock: Profile) -> Time | None:
    """Joins a leaf of days and a leaf of times of day to instants."""
    if day.has_clock or day.profile.leaf.table != clock.leaf.table:
        return None
    alias = clock.leaf.alias
    count = f"SELECT count(*) FILTER (regexp_full_match({alias}, {literal(_CLOCK)})) FROM "
    if not clock.mostly(connection.sql(count + clock.leaf.table).fetchall()[0][0]):
        return None
    sql = f"{_part(day.profile)} || ' ' || {_part(clock)}"
    why = f"{day.profile.leaf.label} is a day and {clock.leaf.label} a time of it"
    if found := re.fullmatch(r"try_strptime\(.*, '([^']*)'\) AT TIME ZONE 'UTC'", day.sql):
        # A clock of minutes or seconds: the list form takes both.
        formats = f"['{found[1]} %H:%M:%S', '{found[1]} %H:%M']"
        sql = f"try_strptime({sql}, {formats}) AT TIME ZONE 'UTC'"
    else:
        sql = f"TRY_CAST({sql} AS TIMESTAMP) AT TIME ZONE 'UTC'"
    return Time(day.profile, sql, why, day.doubt, other=clock)


def _part(profile: Profile) -> str:
    sql = profile.leaf.sql
    return sql if profile.leaf.is_plain else f"({sql})"


def _texts(profile: Profile) -> str:
    """SQL of the values that are tried, as the table `v`."""
    leaf = profile.leaf
    step = max(profile.rows // TRIED, 1)
    return (
        f"(SELECT trim({leaf.alias}) AS v FROM {leaf.table} WHERE trim({leaf.alias}) <> '' "
        f"AND rowid % {step} = 0)"
    )


def _epoch(connection: duckdb.DuckDBPyConnection, profile: Profile) -> Time | None:
    if not profile.mostly(profile.plain):
        return None
    tests = ", ".join(
        f"count(*) FILTER (TRY_CAST(v AS DOUBLE) BETWEEN {EARLIEST * units} AND {LATEST * units})"
        for units, _ in UNITS.values()
    )
    *counts, total, zeros, texts = connection.sql(
        f"SELECT {tests}, count(TRY_CAST(v AS DOUBLE)), count(*) FILTER (v IN ('0', '-1', '0.0')), "
        f"count(*) FROM {_texts(profile)}"
    ).fetchall()[0]
    for (unit, (_, sql)), count in zip(UNITS.items(), counts, strict=True):
        if not count or count < MASS * (total - zeros):
            continue
        c, declared = profile.leaf.sql, "VARCHAR"
        kind = profile.kind if profile.leaf.is_plain else "VARCHAR"
        whole = profile.whole == profile.filled
        if kind == "BIGINT" or (kind == "DOUBLE" and unit == "seconds"):
            declared = kind
        elif unit == "seconds" and not whole:
            c = f"TRY_CAST({c} AS DOUBLE)"
        else:
            c = f"TRY_CAST({c} AS BIGINT)"
        c = f"nullif({c}, 0)" if zeros else c
        why = f"{profile.leaf.label} is {unit} since 1970"
        return Time(profile, sql.format(c=c), why, "", declared, count / max(texts, 1))
    return None


def _dotnet(connection: duckdb.DuckDBPyConnection, profile: Profile) -> Time | None:
    """Milliseconds since 1970 as /Date(1767600000000)/."""
    pattern = r"/Date\((\d{12,13})([+-]\d{4})?\)/"
    count, total = connection.sql(
        f"SELECT count(*) FILTER (regexp_full_match(v, '{pattern}')), count(*) "
        f"FROM {_texts(profile)}"
    ).fetchall()[0]
    if count < MASS * total:
        return None
    sql = f"make_timestamptz(TRY_CAST(regexp_extract({profile.leaf.sql}, '\\d+') AS BIGINT) * 1000)"
    return Time(profile, sql, f"{profile.leaf.label} is milliseconds since 1970, as .NET writes it")


def _iso(connection: duckdb.DuckDBPyConnection, profile: Profile) -> Time | None:
    iso, zoned, odd, comma, clock, total = connection.sql(
        "SELECT count(*) FILTER (i), "
        f"count(*) FILTER (i AND regexp_matches(v, {literal(HAS_ZONE)})), "
        f"count(*) FILTER (i AND regexp_matches(v, {literal(ODD_OFFSET)})), "
        "count(*) FILTER (i AND contains(v, ',')), count(*) FILTER (i AND contains(v, ':')), "
        f"count(*) FROM (SELECT v, regexp_full_match(v, {literal(ISO)}) AS i "
        f"FROM {_texts(profile)})"
    ).fetchall()[0]
    if not iso or iso < MASS * total * profile.filled / max(profile.values, 1):
        return None
    sql = "replace({c}, ',', '.')" if comma else "{c}"
    sql = f"regexp_replace({sql}, {_MEND_OFFSET})" if odd else sql
    sql = f"TRY_CAST({sql} AS {'TIMESTAMPTZ' if zoned else 'TIMESTAMP'})"
    read = connection.sql(f"SELECT count({sql.format(c='v')}) FROM {_texts(profile)}").fetchall()
    if read[0][0] < MASS * iso:
        return None
    leaf = profile.leaf
    sql = sql.format(c=leaf.sql)
    if zoned:
        doubt = f"{iso - zoned:,} of {iso:,} times name no zone and are read as UTC: are they?"
        doubt = doubt if zoned < iso else ""
        return Time(profile, sql, f"{leaf.label} is ISO with a zone", doubt, share=iso / total)
    sql, why = f"{sql} AT TIME ZONE 'UTC'", f"{leaf.label} is an ISO {'time' if clock else 'date'}"
    return Time(profile, sql, why, NO_ZONE, share=iso / total, has_clock=bool(clock))


NO_ZONE = "no zone is given: name the one that these times are written in"


def _formatted(
    connection: duckdb.DuckDBPyConnection, profile: Profile, digits: bool
) -> Time | None:
    formats = _formats(connection, profile, digits)
    if not formats:
        return None
    leaf = profile.leaf
    low, high = YEARS
    # A text such as (Coordinated Universal Time) behind the offset says nothing more.
    tail = r"' \(.*\)$', ''"
    has_tail = "GMT" in profile.example and profile.example.endswith(")")
    v = f"regexp_replace(v, {tail})" if has_tail else "v"
    tried = ", ".join(
        f"count(*) FILTER (year({t}) BETWEEN {low} AND {high}), epoch(max({t}) - min({t})), "
        f"bool_or({t}::TIME <> TIME '00:00:00')"
        for t in (f"TRY(try_strptime({v}, {literal(f)}))::TIMESTAMP" for f in formats)
    )
    *found, texts = connection.sql(f"SELECT {tried}, count(*) FROM {_texts(profile)}").fetchall()[0]
    total = texts * profile.filled / max(profile.values, 1)
    fits = [
        # AM and PM are of those who write the month first.
        (-count, span or 0, place + 99 * ("%p" in f and f.startswith("%d/")), f, bool(has_clock))
        for place, (f, count, span, has_clock) in enumerate(
            zip(formats, found[::3], found[1::3], found[2::3], strict=True)
        )
        if count and count >= MASS * total
    ]
    if not fits:
        return None
    fits.sort()
    count, _, _, best, has_clock = fits[0]
    also = [f for n, _, _, f, _ in fits[1:] if n == count and _differ(best, f)]
    c = f"regexp_replace({leaf.sql}, {tail})" if has_tail else leaf.sql
    why = f"{leaf.label} fits {best}"
    sql = f"try_strptime({c}, {literal(best)})"
    doubt = f"it fits {also[0]} as well: which is it?" if also else ""
    if not re.search("%[zZ]", best):
        zulu = best.endswith("Z")
        sql += " AT TIME ZONE 'UTC'"
        doubt = doubt if zulu else f"{doubt} And {NO_ZONE}" if doubt else NO_ZONE
    clock = bool(re.search("%[HI]", best)) and has_clock
    return Time(profile, sql, why, doubt, share=-count / max(texts, 1), has_clock=clock)


def _differ(one: str, other: str) -> bool:
    """Whether two formats that fit the same texts read them as different days."""
    return re.findall("%[dmbByY]", one)[:3] != re.findall("%[dmbByY]", other)[:3]


def _formats(connection: duckdb.DuckDBPyConnection, profile: Profile, digits: bool) -> list[str]:
    """The formats that could fit: of digits alone those with their number of them."""
    if profile.mostly(profile.whole) != digits:
        return []
    if digits:
        counts = connection.sql(
            f"SELECT length(v), count(*) FROM {_texts(profile)} GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
        return [f for f, length in _DIGITS.items() if counts and counts[0][0] == length]
    if profile.mostly(profile.plain) or not _DATED.search(profile.example):
        return []
    dated = [f"{d}{sep}{t}" for d in _DATES for sep in (" ", ", ") for t in _CLOCKS]
    every = [*_WHOLE, *dated, *_DATES]
    texts = connection.sql(
        f"SELECT v FROM {_texts(profile)} WHERE regexp_matches(v, '\\d') LIMIT 5"
    ).fetchall()
    # What looks like none of a few values is not tried on all.
    few = [re.sub(r" \(.*\)$", "", text) for (text,) in texts]
    return [f for f in every if any(_looks_of(f).fullmatch(text) for text in few)]


@cache
def _looks_of(format: str) -> re.Pattern[str]:
    """What texts of a strptime format look like."""
    parts = re.split("(%.)", format)
    pattern = "".join(_LOOKS[part[1]] if part[:1] == "%" else re.escape(part) for part in parts)
    return re.compile(pattern, re.IGNORECASE)
