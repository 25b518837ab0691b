"""Users who were forgotten: keyed hashes of their ids, by which what brings them again is dropped.

`forgotten/hashes.json` of a lake holds an HMAC-SHA256 of each id and nothing else of them. The key
is FOOTPATH_FORGET_KEY, of the environment alone: without it nobody can try ids against the list,
and so nothing is landed either. A hash of a fixed text tells whether it is the key of the list.
"""

import hmac
import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json

KEY = "FOOTPATH_FORGET_KEY"
FORMAT = 1
FOLDER = "forgotten"

# Of a row that nobody can read there is no id, only a text. An id in it is looked for among its
# runs of words, so that no id may have more words than this.
MOST_WORDS = 16
_WORDS = re.compile(r"\w+|[^\w\s]")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class Forgotten:
    """The list of a lake, and the key that it was made with; both empty where nobody is on it."""

    key: bytes
    hashes: frozenset[str]

    def __bool__(self) -> bool:
        """Whether anybody is on the list."""
        return bool(self.hashes)

    def among(self, ids: Iterable[str | None]) -> list[str]:
        """Those ids that are on the list."""
        return [each for each in ids if each is not None and self._hash(each) in self.hashes]

    def is_named_in(self, text: str | None) -> bool:
        """Whether a text, such as a row that cannot be read, has an id of the list in it."""
        return bool(text) and any(self._is_in(form) for form in forms(text or ""))

    def key_of(self, ids: Iterable[str]) -> str:
        """Keyed hash of several ids together."""
        return self._hash("\0".join(sorted(map(self._hash, ids))))

    def _is_in(self, text: str) -> bool:
        words = [found.span() for found in _WORDS.finditer(text)]
        return any(
            self._hash(text[start : words[last][1]]) in self.hashes
            for first, (start, _) in enumerate(words)
            for last in range(first, min(first + MOST_WORDS, len(words)))
        )

    def _hash(self, text: str) -> str:
        return hmac.digest(self.key, text.encode("utf-8", "surrogatepass"), "sha256").hex()

    @cached_property
    def check(self) -> str:
        """Hash of a fixed text: tells the key."""
        return self._hash("\0footpath")


NOBODY = Forgotten(b"", frozenset())


def forms(text: str) -> list[str]:
    """A text, and as it would be if it were JSON with escapes."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    plain = plain.replace('\\"', '"').replace("\\/", "/").replace("\\\\", "\\")
    return [text] if plain == text else [text, plain]


def words_of(text: str) -> int:
    """How many words and signs a text has."""
    return sum(1 for _ in itertools.islice(_WORDS.finditer(text), MOST_WORDS + 1))


def read_forgotten(lake: Lake) -> Forgotten:
    """The list of a lake.

    Raises:
      FootpathError: somebody is on it, and the key is not set or another one.
    """
    path = _path(lake)
    if not path.exists():
        return NOBODY
    document = read_json(path)
    if document.get("format") != FORMAT:
        raise FootpathError(f"{path} is of format {document.get('format')}, not {FORMAT}")
    found = Forgotten(_key(f"users of {lake.root.name} were forgotten"), frozenset(document["ids"]))
    if found.check != document["check"]:
        raise FootpathError(
            f"{KEY} is not the key with which {path} was made: set that one, for without it users "
            "who were forgotten would come back"
        )
    return found


def add_forgotten(lake: Lake, ids: Iterable[str]) -> Forgotten:
    """Puts ids on the list, which landing goes by from now on.

    Raises:
      FootpathError: the key is not set, or the list has another one.
    """
    before = read_forgotten(lake)
    empty = Forgotten(_key("forgetting a user"), frozenset())
    found = Forgotten(empty.key, before.hashes | {empty._hash(each) for each in ids})
    if found != before:
        document = {"format": FORMAT, "check": found.check, "ids": sorted(found.hashes)}
        publish_json(lake, document, _path(lake))
    return found


def forgotten_folder(lake: Lake) -> Path:
    """Where the list lies, and the records of what was done."""
    return lake.root / FOLDER


def _path(lake: Lake) -> Path:
    return forgotten_folder(lake) / "hashes.json"


def _key(what: str) -> bytes:
    key = os.environ.get(KEY, "")
    if not key:
        raise FootpathError(
            f"{KEY} is not set, and {what}: set it to a secret text that is kept for as long as "
            "the lake, such as the output of `openssl rand -hex 32`"
        )
    return key.encode()
