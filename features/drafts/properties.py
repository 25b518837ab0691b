"""What else the rows say: which leaves become properties of an event, and which are not read.

In:  the guesses of a file. Out: properties by name, and every other leaf with the reason that it is
left out, so that nothing is dropped without a word.
"""

import re
from collections.abc import Container
from dataclasses import dataclass, field

from contracts.base.sql import literal
from features.drafts.guessing.leaves import Leaf, words_of
from features.drafts.guessing.profiles import Profile
from features.drafts.guessing.rows import Rows

MOST = 30
LONGEST = 40  # of a name, as contracts/base/schema.py has it
MOST_VALUES, LONGEST_VALUE = 1000, 200


@dataclass
class Properties:
    """Leaves that are kept, and the others."""

    kept: dict[str, Leaf] = field(default_factory=dict)
    sql: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  # label -> why, or nothing


def properties_of(guesses: Rows) -> Properties:
    """Keeps what no field took, where it has few values: it may tell events apart."""
    taken = {leaf for found in guesses.fields.values() for leaf in found.leaves}
    table = guesses.explode.table if guesses.explode else ""
    found = Properties()
    for profile in guesses.profiles:
        leaf = profile.leaf
        if leaf in taken:
            continue
        if leaf.table not in ("leaves", table):
            continue
        why = _why_not(profile)
        key = "" if why is not None else key_of(leaf, found.kept)
        if key and len(found.kept) < MOST:
            found.kept[key] = leaf
            found.sql[key] = _sql(profile)
        else:
            found.left[leaf.label] = why or ""
    for each in guesses.leaves.lists:
        if each.table != table:
            found.left[each.label] = "a list of objects"
    found.left |= guesses.leaves.unread
    return found


def _why_not(profile: Profile) -> str | None:
    """Why a leaf is no property; None if it is one."""
    if not profile.filled:
        return "empty"
    if profile.distinct == 1:
        return "always the same"
    few = max(MOST_VALUES, profile.rows // 10)
    if profile.distinct > few or profile.distinct > max(0.9 * profile.filled, 5):
        return "another in each row"
    return "long texts" if profile.longest > LONGEST_VALUE else None


def key_of(leaf: Leaf, known: Container[str]) -> str:
    """A name for a property, after the last keys of the path that tell it apart."""
    for parts in range(1, len(leaf.path) + 1):
        words = [word for part in leaf.path[-parts:] for word in words_of(part)]
        key = re.sub("[^a-z0-9]+", "_", "_".join(words)).strip("_")[:LONGEST].rstrip("_")
        if re.match("[a-z]", key) and key not in known:
            return key
    return ""


def _sql(profile: Profile) -> str:
    sql = profile.leaf.sql
    if not profile.leaf.is_plain:
        for word in list(profile.null_words)[:3]:
            sql = f"nullif({sql}, {literal(word)})"
    return sql
