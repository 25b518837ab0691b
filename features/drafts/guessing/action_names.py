"""The words of an action column -> names of actions, each apart from the others, none lost.

In:  the different texts and how often each is there. Out: SQL that gives names of small ASCII
letters, digits and underscores, and the names. What no letter is left of, or would become the name
of another text, gets a name of its own, by a CASE.
"""

import re
import unicodedata
from dataclasses import dataclass

from contracts.base.sql import literal

NAME = re.compile("[a-z][a-z0-9_]{0,39}")  # as contracts/base/schema.py has it
LONGEST = 40
MOST = 200
# What people do in logs of shops and media; a word of a text may have an ending.
_WORDS = (
    "view pageview click tap impression search browse visit scroll cart basket add remove checkout "
    "purchase buy bought order pay paid payment play pause skip listen watch read like dislike "
    "share comment follow favorite favourite wishlist bookmark rate review download install login "
    "logout signup register subscribe unsubscribe"
)
_DONE = frozenset(_WORDS.split())
_ENDINGS = ("", "s", "d", "ed", "ing")


@dataclass(frozen=True)
class Actions:
    """SQL of the action, the names that it gives, and the texts that got a name of ours."""

    sql: str
    names: list[str]
    made_up: dict[str, str]


def actions_of(sql: str, texts: list[str]) -> Actions:
    """Names the texts of an action column.

    Args:
      sql: gives the text.
      texts: all of them, the commonest first.
    """
    if all(NAME.fullmatch(text) for text in texts):
        return Actions(sql, sorted(texts), {})
    usual = f"trim(regexp_replace(lower({sql}), '[^a-z0-9]+', '_', 'g'), '_')"
    owner: dict[str, str] = {}
    made_up: dict[str, str] = {}
    for text in texts:
        plain = _plain(text)
        if NAME.fullmatch(plain) and owner.setdefault(plain, _key(text)) == _key(text):
            continue
        made_up[text] = _free(plain, owner)
        owner[made_up[text]] = _key(text)
    if made_up:
        whens = " ".join(f"WHEN {literal(t)} THEN {literal(n)}" for t, n in made_up.items())
        usual = f"CASE {sql} {whens} ELSE {usual} END"
    return Actions(usual, sorted(owner), made_up)


def is_done(text: str) -> bool:
    """Whether a text names something that people do."""
    words = re.findall("[a-z]+", text.lower())
    return any(word.removesuffix(end) in _DONE for word in words for end in _ENDINGS)


def _plain(text: str) -> str:
    """What the usual SQL gives."""
    return re.sub("[^a-z0-9]+", "_", text.lower()).strip("_")


def _key(text: str) -> str:
    """A text without case, blanks and signs: those of one key are one action."""
    return re.sub(r"[\W_]+", "", text.casefold())


def _free(plain: str, owner: dict[str, str]) -> str:
    ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    base = ascii_only if ascii_only[:1].isalpha() else f"action_{ascii_only}".rstrip("_")
    base = base[:LONGEST].rstrip("_")
    number, name = 1, base if base != "action" else "action_1"
    while name in owner:
        number += 1
        suffix = f"_{number}"
        name = base[: LONGEST - len(suffix)] + suffix
    return name
