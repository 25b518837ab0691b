"""Which value of a row is the action, and which number goes with it."""

from dataclasses import replace

from contracts.base.sql import literal
from features.drafts.guessing.action_names import MOST, actions_of, is_done
from features.drafts.guessing.names import ACTION, VALUE
from features.drafts.guessing.profiles import COMMA, Profile
from features.drafts.guessing.rows import TELLING, Guess, Rows

MOSTLY = 0.5  # share of the rows


def action_of(rows: Rows) -> Guess:
    """What was done."""
    free = [
        p
        for p in rows.free()
        if 1 <= p.distinct <= MOST
        and p.longest <= 200
        and not p.mostly(p.flags)
        and not p.mostly(p.plain)
        and p.distinct <= max(0.5 * p.filled, 10)
    ]
    named = [p for p in rows.ranked(ACTION, free) if ACTION.rank(p.leaf) >= TELLING - 12]
    # A name alone could be anybody's.
    named = [p for p in named if p.leaf.key != "name" or p.distinct <= 0.1 * p.filled]
    doubt = "" if named else "its values look like what was done, its name does not: is it that?"
    named = named or _by_values(rows, free)
    if not named:
        return _constant_action(rows)
    best = named[0]
    leaves, sql, texts = [best.leaf], best.leaf.sql, best.leaf.alias
    others = [
        p for p in named[1:]
        if ACTION.rank(p.leaf) >= TELLING and p.leaf.table == best.leaf.table
        and rows.fills(best, p)
    ]  # fmt: skip
    why = f"{best.leaf.label} has {best.distinct} values"
    if best.filled < best.rows and others:
        leaves.append(others[0].leaf)
        sql = f"coalesce({sql}, {others[0].leaf.sql})"
        texts = f"coalesce({texts}, {others[0].leaf.alias})"
        why = f"{why}, and {others[0].leaf.label} where there is none"
    words = [w for p in (best, *others[:1]) for w in p.null_words] + [""]
    found = rows.connection.sql(
        f"SELECT {texts} AS t, count(*) FROM {best.leaf.table} WHERE t NOT IN "
        f"({', '.join(map(literal, words))}) GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    made = actions_of(sql if len(leaves) > 1 or best.leaf.is_plain else f"({sql})",
                      [text for text, _ in found])  # fmt: skip
    rows.actions = made.names
    if made.made_up:
        shown = ", ".join(f"'{t[:40]}' is {n}" for t, n in list(made.made_up.items())[:5])
        doubt = f"a name has small ASCII letters and at most 40, so {shown}: call them better"
    action = made.sql.removeprefix("(").removesuffix(")") if made.sql == f"({sql})" else made.sql
    return Guess(action, why, doubt, tuple(leaves))


def _by_values(rows: Rows, free: list[Profile]) -> list[Profile]:
    """The column most of whose rows, and two of whose texts, say what somebody does."""
    found = []
    for profile in free:
        leaf = profile.leaf
        counted = rows.connection.sql(
            f"SELECT {leaf.alias} AS t, count(*) FROM {leaf.table} WHERE t IS NOT NULL GROUP BY 1"
        ).fetchall()
        done = [count for text, count in counted if is_done(str(text))]
        share = sum(done) / max(1, sum(count for _, count in counted))
        if len(done) > 1 and share >= MOSTLY:
            found.append((share, profile))
    return [profile for _, profile in sorted(found, key=lambda each: -each[0])[:1]]


def _constant_action(rows: Rows) -> Guess:
    words = {word for p in rows.profiles for word in p.leaf.words}
    for action, of in (
        ("purchase", {"order", "lineitem", "invoice", "charge", "payment", "checkout"}),
        ("rating", {"rating", "stars"}),
    ):
        if words & of and any(VALUE.rank(p.leaf) for p in rows.free()):
            rows.actions = [action]
            doubt = f"rows look like one {action} each: is each one?"
            return Guess(f"'{action}'", "no column names what was done", doubt)
    rows.actions = ["event"]
    return Guess("'event'", "no column names what was done: every row is one action")


def value_of(rows: Rows) -> Guess | None:
    """The number that goes with it."""
    explode = rows.explode
    numbers = [p for p in rows.free() if p.is_number]
    if explode:
        numbers = [p for p in numbers if p.leaf.table == explode.table]
    item = rows.fields.get("item_id")
    beside = set(item.leaves[0].words) if item and item.leaves else set()

    def rank(profile: Profile) -> tuple[float, int]:
        shared = len(beside.intersection(profile.leaf.words) - {"id"})
        share = profile.filled / max(profile.rows, 1)
        return VALUE.rank(profile.leaf) + 25 * share + 20 * shared, profile.filled

    named = [p for p in numbers if VALUE.rank(p.leaf)]
    if named:
        best = max(named, key=rank)
        why = f"{best.leaf.label}: by its name; {best.distinct:,} different ones in the sample"
        return _number(rows, best, why)
    plain = [p for p in numbers if p.leaf.is_unnamed]
    if not plain:
        return None
    why, doubt = (
        f"{plain[0].leaf.label} is a number",
        "no name says so: is it the event's value?",
    )
    return replace(_number(rows, plain[0], why), doubt=doubt)


def _number(rows: Rows, profile: Profile, why: str) -> Guess:
    """SQL of a number in the style of its leaf."""
    leaf = profile.leaf
    if profile.mostly(profile.plain):
        if leaf.is_plain and profile.kind != "VARCHAR":
            rows.declared[leaf.column] = profile.kind
            return Guess(leaf.sql, why, "", (leaf,))
        sql = f"TRY_CAST({leaf.sql} AS DOUBLE)"
        odd = profile.filled - profile.plain
        doubt = f"{odd:,} of {profile.filled:,} are no numbers and become null" if odd else ""
        return Guess(sql, why, doubt, (leaf,))
    if profile.mostly(profile.comma):
        sql = f"TRY_CAST(replace(replace({leaf.sql}, '.', ''), ',', '.') AS DOUBLE)"
        odd = rows.one(
            f"SELECT count(*) FROM {leaf.table} WHERE contains({leaf.alias}, '.') AND NOT "
            f"regexp_full_match({leaf.alias}, '{COMMA}')"
        )
        if odd:
            sql = f"TRY_CAST(replace({leaf.sql}, ',', '.') AS DOUBLE)"
        return Guess(sql, f"{why}; with decimal commas", "", (leaf,))
    sql = f"TRY_CAST(regexp_replace({leaf.sql}, '[^0-9.+-]', '', 'g') AS DOUBLE)"
    return Guess(sql, f"{why}; signs and thousands' commas are taken out", "", (leaf,))
