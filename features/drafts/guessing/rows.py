"""The rows of a sample as a guess looks at them: profiled leaves, times, and what is taken."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb

from contracts.base.sql import literal, literals
from features.drafts.guessing.leaves import Leaf, Leaves, ObjectList, find_leaves, sql_name
from features.drafts.guessing.names import Role
from features.drafts.guessing.profiles import Profile, profiles_of
from features.drafts.guessing.times import Time, time_of
from features.drafts.source.paths import Span
from features.drafts.source.sampling import Sample

# A leaf that fewer rows have says nothing of a row.
SPARSE = 0.001
# A name at least this good is a name of the field itself.
TELLING = 40
# Ids of nobody, where many rows have them.
NOBODY = ("0", "-1")


@dataclass(frozen=True)
class Guess:
    """One field of an event."""

    sql: str
    why: str
    doubt: str = ""  # what a person has to look at, if anything
    leaves: tuple[Leaf, ...] = ()  # that it rests on


@dataclass
class Rows:
    """A sample's leaves, and what was guessed of them so far."""

    connection: duckdb.DuckDBPyConnection
    sample: Sample
    leaves: Leaves
    profiles: list[Profile]
    times: list[Time]
    explode: ObjectList | None = None
    explode_why: str = ""
    fields: dict[str, Guess] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    declared: dict[str, str] = field(default_factory=dict)  # column -> its type where no text
    taken: set[Leaf] = field(default_factory=set)
    span: Span | None = None  # of the times
    table_of: str = ""  # users or items, where the rows are no events
    key: Profile | None = None  # of that table

    @property
    def has_time(self) -> bool:
        """Whether something of a row says when it happened."""
        return bool(self.fields["timestamp"].leaves)

    @property
    def typed(self) -> str:
        """SQL of the sample as the draft reads it: columns in their types, lists as rows."""
        kinds = ", ".join(
            f"TRY_CAST({sql_name(c)} AS {kind}) AS {sql_name(c)}"
            for c, kind in self.declared.items()
        )
        source = f"(SELECT * {f'REPLACE ({kinds})' if kinds else ''} FROM sample)"
        if self.explode:
            source = f"(SELECT *, unnest({self.explode.sql}) AS each FROM {source})"
        return source

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, sample: Sample) -> "Rows":
        """Looks at the tables of a sample."""
        leaves = find_leaves(connection, sample.table)
        profiles = profiles_of(connection, leaves.all)
        times = [time for each in profiles if (time := time_of(connection, each))]
        return cls(connection, sample, leaves, profiles, times)

    def take(self, name: str, found: Guess | None) -> None:
        """Takes a guess for a field: its leaves are free no more."""
        if found:
            self.fields[name] = found
            self.taken.update(found.leaves)

    def free(self) -> list[Profile]:
        """Profiles of leaves that no field has and that an event can see."""
        table = self.explode.table if self.explode else ""
        return [
            profile
            for profile in self.profiles
            if profile.leaf not in self.taken
            and profile.leaf.table in ("leaves", table)
            and profile.filled > SPARSE * profile.rows
        ]

    def ranked(self, role: Role, free: Iterable[Profile]) -> list[Profile]:
        """Those whose name fits, best first; what more rows have comes before."""
        own = self.explode.table if self.explode else ""

        def rank(profile: Profile) -> float:
            fit = role.rank(profile.leaf)
            share = profile.filled / max(profile.rows, 1)
            return fit + 20 * share + 15 * (profile.leaf.table == own) if fit else 0

        ranked = sorted(free, key=rank, reverse=True)
        return [profile for profile in ranked if rank(profile)]

    def nobody(self, profile: Profile) -> dict[str, int]:
        """Numbers that are the id of nobody, and their rows, if they are many."""
        leaf = profile.leaf
        found = self.connection.sql(
            f"SELECT {leaf.alias}, count(*) FROM {leaf.table} "
            f"WHERE {leaf.alias} IN ({literals(NOBODY)}) GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
        enough = max(2, 0.05 * profile.rows)
        return {word: count for word, count in found if count >= enough and profile.distinct > 2}

    def fills(self, one: Profile, other: Profile) -> bool:
        """Whether some row has the other where the one is none."""
        a, b = self._alias_sql(one), self._alias_sql(other)
        return bool(
            self.one(f"SELECT count(*) FROM {one.leaf.table} WHERE {a} IS NULL AND {b} IS NOT NULL")
        )

    def _alias_sql(self, profile: Profile) -> str:
        words = [*profile.null_words, "", *self.nobody(profile)]
        listed = ", ".join(map(literal, words))
        return f"CASE WHEN {profile.leaf.alias} NOT IN ({listed}) THEN {profile.leaf.alias} END"

    def one(self, sql: str) -> int:
        """The single number that a query gives."""
        return self.connection.sql(sql).fetchall()[0][0]

    def id_sql(self, profile: Profile) -> str:
        """An id as SQL: without the fraction of whole numbers, and null where it means none."""
        sql = profile.leaf.sql
        if profile.dotted and profile.whole + profile.dotted >= 0.9 * profile.filled:
            sql = f"regexp_replace({sql}, '\\.0+$', '')"
        words = [] if profile.leaf.is_plain else list(profile.null_words)
        # Of plain columns, `landing.nulls` has the words.
        for word in [*words, *self.nobody(profile)]:
            sql = f"nullif({sql}, {literal(word)})"
        return sql


def inner(sql: str, profile: Profile) -> str:
    """SQL of a leaf as a part of a larger expression."""
    return sql if profile.leaf.is_plain or sql != profile.leaf.sql else f"({sql})"
