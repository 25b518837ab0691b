"""Files that lie beside the events: more of them, a table of users, a catalog of items.

In:  a sample of events, with its guesses, and where its files lie. Out: the sections `items:` and
`users:` of tables whose keys are the ids of the events, and a sentence on every other file that the
data set would not read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb

from contracts.base.errors import FootpathError
from features.drafts.guessing.leaves import sql_name
from features.drafts.guessing.names import ITEM, USER, is_of_a_table
from features.drafts.guessing.profiles import Profile
from features.drafts.guessing.rows import Rows
from features.drafts.properties import key_of
from features.drafts.source.paths import Address
from features.drafts.source.sampling import Sample, find_file, take_sample
from features.drafts.yaml_lines import TODO, scalar, table_lines
from features.ingestion.listing import find_files, name_pattern

# Files that are looked at, and the share of ids that makes a table theirs.
MOST_FILES, MOST_BYTES = 10, 4 << 20
SHARE = 0.3
_NO_DATA = (".yaml", ".yml", ".md", ".py", ".sh", ".sql", ".lock")

_TITLES = ("title", "name", "productname", "itemname", "productdisplayname", "label")
_CATEGORIES = ("category", "categoryname", "department", "genre", "genres", "producttype", "type",
               "group", "brand")  # fmt: skip


@dataclass
class Neighbors:
    """What was drafted from other files, and what a person has to look at."""

    lines: list[str] = field(default_factory=list)
    doubt: str = ""
    note: str = ""


def neighbors_of(
    connection: duckdb.DuckDBPyConnection, sample: Sample, guesses: Rows, where: Address
) -> Neighbors:
    """Looks at the files beside those of the events. The tables of the sample are replaced."""
    found = Neighbors()
    paths = list(dict.fromkeys([*_others(where), *where.others]))
    if not paths:
        return found
    _keep_ids(connection, guesses)
    alike: list[str] = []
    unlike: list[str] = []
    drafted: set[str] = set()
    for path in paths[:MOST_FILES]:
        try:
            other = take_sample(connection, find_file(f"{where.folder}/{path}"), MOST_BYTES)
            is_alike = _is_alike(sample, other)
            section = "" if is_alike else _section(connection, other, path, drafted, found.lines)
        except (FootpathError, duckdb.Error):
            unlike.append(path)
            continue
        drafted.add(section)
        if is_alike:
            alike.append(path)
        elif not section:
            unlike.append(path)
    unlike += paths[MOST_FILES:]
    if alike:
        found.doubt = (
            f"{_files(alike)} beside with the same columns, which the url does not find: "
            "are they part of it?"
        )
    if unlike:
        found.note = f"{_files(unlike)} beside that no line reads."
    return found


def _files(paths: list[str]) -> str:
    shown = ", ".join(paths[:3]) + (" and others" if len(paths) > 3 else "")
    return f"{len(paths):,} file{'s lie' if len(paths) > 1 else ' lies'} ({shown})"


def _others(where: Address) -> Iterator[str]:
    """Files of the folder that the URL does not find."""
    matches = name_pattern(where.url).fullmatch
    archive = where.url.split("/")[0]
    for file in find_files(where.folder, "*"):
        is_other = file.path.startswith((".", "_")) or file.path.endswith(_NO_DATA)
        if not matches(file.path) and file.path != archive and not is_other:
            yield file.path


def _keep_ids(connection: duckdb.DuckDBPyConnection, guesses: Rows) -> None:
    """Makes the tables of the ids of users and items that the events have."""
    rows = "sample"
    if guesses.explode:
        rows = f"(SELECT *, unnest({guesses.explode.sql}) AS each FROM sample)"
    for kind in ("user", "item"):
        guess = guesses.fields.get(f"{kind}_id")
        sql = guess.sql if guess else "NULL"
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE known_{kind}s AS SELECT DISTINCT ({sql})::VARCHAR AS id "
            f"FROM {rows} WHERE ({sql}) IS NOT NULL"
        )


def _is_alike(sample: Sample, other: Sample) -> bool:
    """Whether two files have the same columns, or nearly."""
    own, others = set(sample.columns), set(other.columns)
    is_read_alike = (sample.table.format, sample.table.csv) == (other.table.format, other.table.csv)
    return is_read_alike and len(own & others) >= 0.8 * max(len(own), len(others))


def _section(
    connection: duckdb.DuckDBPyConnection,
    other: Sample,
    path: str,
    drafted: set[str],
    lines: list[str],
) -> str:
    """Drafts `items:` or `users:` from a table whose key is an id of the events; its name."""
    rows = Rows.of(connection, other)
    if any(time.has_clock and not is_of_a_table(time.profile.leaf) for time in rows.times):
        return ""  # these are events
    profiles = rows.profiles
    keys = [p for p in profiles if p.leaf.is_plain and p.distinct == p.filled == p.rows]
    keys = [p for p in keys if not p.leaf.is_unnamed]
    best: tuple[float, str, Profile, int, int] | None = None
    for kind, role in (("items", ITEM), ("users", USER)):
        if kind in drafted:
            continue
        for key in keys:
            shared, total = connection.sql(
                f"SELECT count(*) FILTER (id IN (SELECT {key.leaf.alias} FROM leaves)), count(*) "
                f"FROM known_{kind}"
            ).fetchall()[0]
            if total and shared >= SHARE * total:
                hint = 0.5 * (kind.removesuffix("s") in path.lower()) + role.rank(key.leaf) / 100
                rank = shared / total + hint
                if best is None or rank > best[0]:
                    best = rank, kind, key, shared, total
    if best is None:
        return ""
    _, kind, key, shared, total = best
    others = [p for p in profiles if p is not key and p.leaf.is_plain and p.filled]
    section = list(_lines(other, path, kind, key, others, f"{shared:,} of {total:,}"))
    if not section:
        return ""
    lines += section
    return kind


def _lines(
    other: Sample, path: str, kind: str, key: Profile, others: list[Profile], share: str
) -> Iterator[str]:
    fields: dict[str, str] = {f"{kind.removesuffix('s')}_id": sql_name(key.leaf.column)}
    used = [key]
    for field_, words in (("title", _TITLES), ("category", _CATEGORIES)) if kind == "items" else ():
        named = [p for p in others if p.leaf.joined in words and p not in used]
        if named:
            best = min(named, key=lambda p: words.index(p.leaf.joined))
            fields[field_] = sql_name(best.leaf.column)
            used.append(best)
    attributes: dict[str, str] = {}
    for profile in others:
        few = profile.distinct <= max(50, profile.rows // 20) or profile.is_number
        if profile not in used and few and (found := key_of(profile.leaf, attributes)):
            attributes[found] = sql_name(profile.leaf.column)
            used.append(profile)
    if kind == "users" and not attributes:
        return
    columns = {p.leaf.column: other.table.columns[p.leaf.column] for p in used}
    nulls = list(dict.fromkeys(word for p in used for word in p.null_words))
    yield ""
    yield f"# {path} has {share} ids of {kind} that are in the sample of events."
    yield f"{TODO} it is read as the table of {kind}: is it?"
    yield f"{kind}:"
    yield f"  url: {scalar(path)}"
    yield from table_lines(other.table, columns, nulls, "  ")
    yield from (f"  {each}: {scalar(sql)}" for each, sql in fields.items())
    if attributes:
        yield "  attributes:"
        yield from (f"    {each}: {scalar(sql)}" for each, sql in attributes.items())
