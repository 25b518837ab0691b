"""Which values of a row are ids: of the event, the user, the session, the item."""

from dataclasses import replace

from features.drafts.guessing.leaves import Leaf, words_of
from features.drafts.guessing.names import ACTION, DEVICE, EVENT_ID, ITEM, SESSION, USER, VALUE
from features.drafts.guessing.profiles import Profile
from features.drafts.guessing.rows import TELLING, Guess, Rows, inner

# What lists of items are called.
LISTS = ("items", "products", "lines", "cart", "basket", "contents", "impressions")


def event_id_of(rows: Rows) -> Guess | None:
    """The id of an event: there once in a row."""
    own = rows.explode.table if rows.explode else "leaves"
    named = [
        p
        for p in rows.ranked(EVENT_ID, rows.free())
        if EVENT_ID.rank(p.leaf) > 50
        # The id of an object in a row is that object's.
        and (p.leaf.is_plain or p.leaf.key != "id" or rows.sample.rows < p.rows)
        and p.filled > 1
        and p.distinct >= 0.9 * max(p.rows, 2) * p.filled / max(p.values, 1)
    ]
    if not named:
        return None
    # A hash or uuid is of the event; a small number may count something else.
    best = max(named, key=lambda p: (p.longest >= 16, EVENT_ID.rank(p.leaf)))
    label = best.leaf.label
    if best.distinct == best.filled:
        everywhere = "in every row" if best.filled == best.rows else "in most rows"
        why, doubt = f"{label} is there {everywhere}, and never twice", ""
    else:
        why = f"{label} has {best.distinct:,} different ones in {best.rows:,} rows"
        doubt = "rows with one id count as one event, delivered again: is that so?"
    sql = rows.id_sql(best)
    if best.leaf.table != own:
        sql = f"{inner(sql, best)} || coalesce('-' || place, '')"
    return Guess(sql, why, doubt, (best.leaf,))


def user_of(rows: Rows) -> Guess:
    """Who did it; where the known one is missing, a device stands for them."""
    free = [p for p in rows.free() if _could_be_id(rows, p)]
    named = [p for p in rows.ranked(USER, free) if p.distinct > 1 or p.rows < 20]
    devices = [p for p in rows.ranked(DEVICE, free) if p.distinct > 1 or p.rows < 20]
    chosen = (named or devices)[:1]
    if not chosen:
        session = rows.ranked(SESSION, free)
        if session:
            found = _named(rows, session[0])
            return replace(found, doubt="no column is a user: a session stands for one, is it?")
        return _user_by_values(rows, free)
    best = chosen[0]
    rows.taken.add(best.leaf)
    found = _named(rows, best)
    # Rows without the one have the other.
    fill = [
        p
        for p in devices
        if p is not best and p.leaf.table == best.leaf.table and rows.fills(best, p)
    ]
    missing = best.rows - best.filled + sum(rows.nobody(best).values())
    if missing and fill:
        other = fill[0]
        sql = f"coalesce({rows.id_sql(best)}, {rows.id_sql(other)})"
        doubt = (
            f"{missing:,} of {best.rows:,} rows have no {best.leaf.label} and are taken for "
            f"the user {other.leaf.label}: right?"
        )
        return Guess(sql, found.why, doubt, (best.leaf, other.leaf))
    if missing > 0.05 * best.rows:
        doubt = f"{missing:,} of {best.rows:,} rows have no user and go to quarantine"
        return replace(found, doubt=doubt)
    return found


def _user_by_values(rows: Rows, free: list[Profile]) -> Guess:
    ids = [p for p in free if 1 < p.distinct <= p.rows * 0.7 and p.leaf.is_plain]
    telling = [p for p in ids if not (VALUE.rank(p.leaf) or ACTION.rank(p.leaf))]
    telling = [p for p in telling if not ITEM.rank(p.leaf) and p.distinct > 2]
    if not telling:
        doubt = "no column looks like a user: say which one is, or all events are one user's"
        return Guess("'everyone'", "nothing in the sample tells users apart", doubt)
    first = telling[0]
    why = (
        f"{first.leaf.label} is the first column whose values come back "
        f"({first.distinct:,} of them)"
    )
    return Guess(rows.id_sql(first), why, "no name says so: is this the user?", (first.leaf,))


def _could_be_id(rows: Rows, profile: Profile) -> bool:
    whole = profile.whole + profile.dotted + profile.padded
    is_float = profile.mostly(profile.plain) and whole < profile.filled * 0.9
    is_float = is_float and profile.leaf.key[-2:] != "id"
    is_time = any(t.profile is profile and t.has_clock for t in rows.times)
    return not (is_float or profile.mostly(profile.flags) or is_time) and profile.longest < 500


def session_of(rows: Rows) -> Guess | None:
    """The source's own session."""
    free = [p for p in rows.free() if p.longest < 500 and not p.mostly(p.flags)]
    if rows.explode and "event_id" in rows.fields:
        # A row that explodes may be the session of its elements.
        row = rows.fields["event_id"].leaves
        free += [p for p in rows.profiles if p.leaf in row]
    named = [p for p in rows.ranked(SESSION, free) if SESSION.rank(p.leaf) >= TELLING]
    if not named or named[0].distinct < 2:
        return None
    best = named[0]
    found = _named(rows, best)
    user = rows.fields["user_id"]
    if user.leaves and _is_shared(rows, best, user.leaves[0]):
        sql = f"({user.sql}) || '-' || {inner(found.sql, best)}"
        sql = sql.replace(f"({user.leaves[0].sql})", user.leaves[0].sql, 1) if (
            user.leaves[0].is_plain) else sql  # fmt: skip
        return replace(found, sql=sql, why=f"{found.why}, each of several users'")
    return found


def _is_shared(rows: Rows, session: Profile, user: Leaf) -> bool:
    """Whether many ids of sessions are those of several users."""
    leaf = session.leaf
    if user.table != leaf.table:
        return False
    shared, total = rows.connection.sql(
        f"SELECT count(*) FILTER (n > 1), count(*) FROM (SELECT {leaf.alias}, "
        f"count(DISTINCT {user.alias}) AS n FROM {leaf.table} "
        f"WHERE {leaf.alias} IS NOT NULL GROUP BY 1)"
    ).fetchall()[0]
    return shared > 0.1 * total


def item_of(rows: Rows) -> Guess | None:
    """What it was done to."""
    free = [p for p in rows.free() if _could_be_id(rows, p)]
    named = [p for p in rows.ranked(ITEM, free) if p.distinct > 1 or ITEM.rank(p.leaf) >= 70]
    if explode := rows.explode:
        # In a list of items, the id is the item's.
        is_own = words_of(explode.label.rsplit(".", 1)[-1])[-1:]
        own = [p for p in free if p.leaf.table == explode.table and p.leaf.joined == "id"]
        named = own + named if is_own and is_own[0] in LISTS else named
    if named:
        return _named(rows, named[0])
    free = [p for p in free if p.distinct > 1]
    if any(VALUE.rank(p.leaf) or ACTION.rank(p.leaf) for p in rows.free()):
        return None  # columns have telling names
    ids = [p for p in free if 50 < p.distinct <= 0.7 * p.rows and p.leaf.is_plain]
    if not ids or not ids[0].leaf.is_unnamed:
        return None
    why = f"{ids[0].leaf.label} is the next column with many values ({ids[0].distinct:,})"
    doubt = "no name says so: is this the item?"
    return Guess(rows.id_sql(ids[0]), why, doubt, (ids[0].leaf,))


def _named(rows: Rows, profile: Profile) -> Guess:
    why = f"{profile.leaf.label}: by its name; {profile.distinct:,} different ones in the sample"
    return Guess(rows.id_sql(profile), why, "", (profile.leaf,))
