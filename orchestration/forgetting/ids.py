"""The ids that are forgotten, and how they are found in tables, rows and texts.

In a table an id is a value of its column. In a text, such as a log line or the reason why a day was
stopped, it is a word; one that other things are called too, such as 196 or anna, is taken for an id
only behind the word user, as all sentences of Footpath have it (user '196', user_id = 196).
"""

import datetime as dt
import html
import json
import re
from collections.abc import Iterable
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from contracts.base.errors import FootpathError
from contracts.lake.forgotten import MOST_WORDS, forms, words_of

MASK = "(forgotten)"
_SHOWN = 60  # characters of a value that an error sentence shows (validation/counts.py)


class Ids:
    """Some ids of users.

    Args:
      ids: as they stand in `user_id`.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        """Checks the ids.

        Raises:
          FootpathError: there is none, one is empty, or one has too many words to be found in text.
        """
        self.ids = sorted({*ids})
        if not self.ids or "" in self.ids:
            raise FootpathError("give the ids of the users to forget; an empty text is none")
        if long := [each for each in self.ids if words_of(each) > MOST_WORDS]:
            raise FootpathError(
                f"the id '{long[0][:40]}...' has more than {MOST_WORDS} words and signs, and could "
                "not be found again in rows that cannot be read: give it as it stands in user_id"
            )

    @property
    def table(self) -> pa.Table:
        """One column, user_id."""
        return pa.table({"user_id": pa.array(self.ids, pa.string())})

    def among(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Which values are one of the ids; null is none."""
        return pc.is_in(column, pa.array(self.ids, pa.string()))

    def is_word_of(self, text: str | None) -> bool:
        """Whether a row that nobody can read has an id as a word, whatever else it may mean."""
        return bool(text) and any(self._words.search(form) for form in forms(text or ""))

    def are_in(self, text: str) -> bool:
        """Whether a text of Footpath or Dagster names an id."""
        return self.masked(text) != text

    def masked(self, text: str, mask: str = MASK) -> str:
        """A text of Footpath or Dagster without the ids."""
        text = self._distinct.sub(mask, text) if self._distinct else text
        return self._common.sub(lambda f: f"{f[1]}{mask}", text) if self._common else text

    def blotted(self, text: str) -> str:
        """The same with as many characters as before, for a file that somebody has open."""
        if self._distinct:
            text = self._distinct.sub(lambda found: "*" * len(found[0].encode()), text)
        if self._common:
            text = self._common.sub(lambda f: f[1] + "*" * (len(f[0]) - len(f[1])), text)
        return text

    @cached_property
    def _words(self) -> re.Pattern[str]:
        return re.compile(_any(self.ids))

    @cached_property
    def _distinct(self) -> re.Pattern[str] | None:
        found = [form for each in self.ids if _is_distinct(each) for form in _spellings(each)]
        return re.compile(_any(found)) if found else None

    @cached_property
    def _common(self) -> re.Pattern[str] | None:
        found = [form for each in self.ids if not _is_distinct(each) for form in _spellings(each)]
        return re.compile(rf"(\buser\w*[^\w\n]{{1,12}})(?:{_any(found)})") if found else None


def _is_distinct(text: str) -> bool:
    """Whether a text is called so by nothing else: letters with digits or signs, but no date."""
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        has_letter = any(sign.isalpha() for sign in text)
        return len(text) > 2 and has_letter and not text.replace("_", "").isalpha()
    return False


def _spellings(text: str) -> set[str]:
    """Spellings of an id in a text: as it is, in JSON, in JSON within JSON, in HTML, cut off."""
    written = {text, text[:_SHOWN], html.escape(text)}
    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        written |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    return written


def _any(texts: Iterable[str]) -> str:
    """A pattern of texts as words, the longest first."""
    return "|".join(map(_bounded, sorted({*texts}, key=len, reverse=True)))


def _bounded(text: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", text[0]) else ""
    after = r"(?!\w)" if re.match(r"\w", text[-1]) else ""
    return f"{before}{re.escape(text)}{after}"
