"""Which time of a row is that of the event, and over which list rows explode."""

from dataclasses import replace

from features.drafts.guessing.ids import LISTS
from features.drafts.guessing.leaves import words_of
from features.drafts.guessing.names import ITEM, TIME, time_rank
from features.drafts.guessing.rows import SPARSE, TELLING, Guess, Rows
from features.drafts.guessing.times import Time, with_clock

PARTS = ("year", "month", "day", "hour", "minute")


def choose_time(rows: Rows) -> Time | None:
    """The time that is most likely that of the event."""

    def rank(time: Time) -> float:
        profile = time.profile
        share = profile.filled / max(profile.rows, 1)
        rank = time_rank(profile.leaf) + 25 * time.has_clock + 20 * share
        return rank - 15 * (profile.leaf.table != "leaves")

    usual = [t for t in rows.times if t.profile.filled >= 0.5 * t.profile.rows]
    # A bare number in the range of an epoch may be anything: then its name has to say so.
    named = [
        t
        for t in usual
        if time_rank(t.profile.leaf) > 0 or "since 1970" not in t.why or t.profile.leaf.is_unnamed
    ]
    if not named:
        others = [t for t in usual if t.profile.leaf.key[-2:] != "id"]
        doubt = "no name says so: is this the time?"
        return replace(others[0], doubt=others[0].doubt or doubt) if others else None
    usual = named
    best = max(usual, key=rank)
    clocks = [p for p in rows.profiles if p.leaf.words[-1:] in (["time"], ["hour"])]
    clocks += [p for p in rows.profiles if p not in clocks and p.longest <= 15]
    for clock in clocks if not best.has_clock else []:
        if joined := with_clock(rows.connection, best, clock):
            return joined
    return best


def timestamp_of(rows: Rows, time: Time | None) -> Guess:
    """When it happened, and what a person has to look at."""
    if time is None and (dated := _of_parts(rows)):
        return dated
    if time is None:
        return Guess(
            "TIMESTAMPTZ '2000-01-01 00:00:00+00'",
            "no column of the sample reads as a time",
            "say how the columns give the instant: without it all events are at one moment, "
            "and there are no sessions (a source that has only an order: see "
            f"docs/your-data.md){_time_like(rows)}",
        )
    profile = time.profile
    if time.declared != "VARCHAR":
        rows.declared[profile.leaf.column] = time.declared
    doubt = time.doubt
    unread = profile.rows - round(time.share * profile.values)
    if unread > 0:
        told = f"{unread:,} of {profile.rows:,} rows have no such time and are refused"
        doubt = f"{told}; {doubt}" if doubt else told
    if not time.has_clock:
        days = "it has days and no time of day, so what lies on one day will be one session"
        doubt = f"{doubt}; {days}" if doubt else days
    others = [t.profile.leaf for t in rows.times if t.profile is not profile]
    others = [leaf.label for leaf in others if TIME.rank(leaf)]
    others = [label for label in others if time.other is None or label != time.other.leaf.label]
    why = time.why + (f" (other times: {', '.join(others[:6])})" if others else "")
    leaves = (profile.leaf, *([time.other.leaf] if time.other else []))
    return Guess(time.sql, why, doubt, leaves)


def _of_parts(rows: Rows) -> Guess | None:
    """A time whose year, month and day, and perhaps hour and minute, are columns of their own."""
    found = {}
    for profile in rows.profiles:
        part = profile.leaf.words[-1:]
        if (
            part
            and part[0] in PARTS
            and profile.leaf.is_plain
            and profile.mostly(profile.whole + profile.dotted)
        ):
            found.setdefault(part[0], profile.leaf)
    if not found.keys() >= set(PARTS[:3]):
        return None
    leaves = [found[part] for part in PARTS if part in found]
    numbers = [f"{found[p].sql}::BIGINT" if p in found else "0" for p in PARTS]
    doubt = "no zone is given: name the one that these times are written in"
    if "hour" not in found:
        doubt += "; it has days and no time of day, so what lies on one day will be one session"
    return Guess(
        f"TRY(make_timestamp({', '.join(numbers)}, 0)) AT TIME ZONE 'UTC'",
        f"{', '.join(leaf.label for leaf in leaves)} are the parts of a time",
        doubt,
        tuple(leaves),
    )


def _time_like(rows: Rows) -> str:
    named = [p for p in rows.profiles if time_rank(p.leaf) >= TELLING and p.filled]
    if not named:
        return ""
    leaf, example = named[0].leaf, named[0].example[:40]
    return (
        f"; {leaf.label} looks like a time in no known format, such as '{example}': use "
        f"try_strptime({leaf.sql}, ...)"
    )


def choose_list(rows: Rows, time: Time | None) -> None:
    """Explodes the list that has the time of the event, or else the item."""
    lists = {each.table: each for each in rows.leaves.lists}
    if time and time.profile.leaf.table in lists:
        rows.explode = lists[time.profile.leaf.table]
        rows.explode_why = f"each of {rows.explode.label} has a time of its own"
        return
    own = [p for p in rows.profiles if p.leaf.table == "leaves"]
    has_item = any(ITEM.rank(p.leaf) >= 75 and p.filled > SPARSE * p.rows for p in own)
    if has_item:
        return
    named = [
        (ITEM.rank(p.leaf) + p.filled / max(p.rows, 1), p.leaf.table)
        for p in rows.profiles
        if p.leaf.table in lists and p.filled and ITEM.rank(p.leaf) >= 60
    ]
    id_only = [
        (p.distinct, p.leaf.table)
        for p in rows.profiles
        if p.leaf.table in lists and p.leaf.key == "id"
        and words_of(lists[p.leaf.table].label)[-1:][0] in LISTS
    ]  # fmt: skip
    if best := max(named, default=max(id_only, default=None)):
        rows.explode = lists[best[1]]
        label = rows.explode.label
        rows.explode_why = f"the items of a row lie in the list {label}"
