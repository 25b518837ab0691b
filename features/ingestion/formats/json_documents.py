"""JSON over several lines, or in an array over the whole file -> one object a line, in blocks.

In:  the bytes of a file, block by block. Out: the same where it has an object a line; otherwise
each object of the array, or each of those that follow one another, on a line of its own: the line
of such a row is its number. Nothing is parsed: where an object ends is found by quotes and
brackets, and what stands between objects and is none becomes a line too: a row that is refused.
"""

import re

import numpy as np

from contracts.base.errors import FootpathError
from features.ingestion.formats.base import escaped

# The longest that a single object may be.
LONGEST = 32 << 20

# Where an object that holds all rows shows that it does.
_HEAD = 1 << 16

# The first line of an object over several lines is shorter than this.
_FIRST_LINE = 1 << 20

_MARK = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_BETWEEN = _BLANK + b",[]"
_LIST = re.compile(rb'"((?:[^"\\]|\\.)*+)"\s*:\s*\[\s*\{')


class JsonDecoder:
    """Decoder (base.py) of a JSON file.

    Args:
      path: names the file in sentences.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_lines: bool | None = None  # whether it has an object a line; None: not yet known
        self._rest = b""  # what is still to be looked at
        # Where it stands: how many brackets are open, whether the first is an array's, in a text.
        self._depth = 0
        self._is_array = False
        self._is_in_text = False
        self._between = b""  # what stood behind the last object
        self._is_open = False  # an object; how it begins, and how long it is so far
        self._head, self._length = b"", 0

    def __call__(self, block: bytes, is_last: bool) -> bytes:
        """The next lines.

        Raises:
          FootpathError: the file ends within an object, or has one that is too long.
        """
        if self._is_lines:
            return block
        block, self._rest = self._rest + block, b""
        if self._is_lines is None:
            self._is_lines = _is_lines(block.removeprefix(_MARK), is_last)
            if self._is_lines is None and not is_last:
                if len(block) <= LONGEST:
                    self._rest = block
                    return b""
                if _LIST.search(block[:_HEAD]):
                    raise FootpathError(self._too_long(block))
                self._is_lines = True
            if self._is_lines is not False:
                return block
            block = block.removeprefix(_MARK)
        return self._split(block, is_last)

    def _split(self, block: bytes, is_last: bool) -> bytes:
        """Ends a line behind each object, and drops what stands between them."""
        slashes = len(block) - len(block.rstrip(b"\\"))
        if slashes % 2 and not is_last:
            block, self._rest = block[:-1], b"\\"  # it escapes what comes next
        content = np.frombuffer(block, np.uint8)
        quotes = _quotes(content)
        starts, ends = self._objects(content, quotes)
        text = _without_line_ends(content, quotes, self._is_in_text)
        self._is_in_text ^= bool(len(quotes) % 2)
        parts: list[bytes] = []
        place = 0
        for start, end in zip(starts, ends, strict=False):
            parts += self._behind_last(text[place:start])
            parts += text[start:end], b"\n"
            place, self._is_open = end, False
        if len(starts) > len(ends):
            parts += self._behind_last(text[place : starts[-1]])
            parts.append(text[starts[-1] :])
            self._note_open(parts[-1])
        else:
            self._between += text[place:]
        if max(len(self._between), self._length) > LONGEST:
            raise FootpathError(self._too_long(self._head))
        if is_last and (self._depth or self._is_open):
            raise FootpathError(
                f"{self._path} is truncated: it ends within its JSON: ask for it again"
            )
        return b"".join([*parts, *(self._behind_last(b"") if is_last else ())])

    def _objects(self, content: np.ndarray, quotes: np.ndarray) -> tuple[list[int], list[int]]:
        """Where objects start and end; one that was open starts with the block.

        Raises:
          FootpathError: more is closed than was opened.
        """
        folded = content & 0xDF  # [ and { differ by one bit, as ] and } do
        places = np.flatnonzero((folded == ord("[")) | (folded == ord("]")))
        is_outside = np.searchsorted(quotes, places) % 2 == int(self._is_in_text)
        places = places[is_outside]
        steps = np.where(folded[places] == ord("["), 1, -1)
        depths = np.concatenate([[self._depth], self._depth + np.cumsum(steps)])
        if depths.min() < 0:
            raise FootpathError(
                f"{self._path} has a bracket that closes nothing: is it JSON? Ask for it again"
            )
        before, depths = depths[:-1], depths[1:]
        # Whether an array of the top is open, by the bracket that opened the top last.
        tops = np.flatnonzero((before == 0) & (depths == 1))
        of_top = np.searchsorted(tops, np.arange(len(places)), side="right")
        is_array = np.concatenate([[self._is_array], content[places[tops]] == ord("[")])[of_top]
        starts = places[(depths > before) & (before == is_array)].tolist()
        ends = (places[(depths < before) & (depths == is_array)] + 1).tolist()
        if len(places):
            self._depth, self._is_array = int(depths[-1]), bool(is_array[-1])
        return ([0, *starts] if self._is_open else starts), ends

    def _behind_last(self, text: bytes) -> list[bytes]:
        """A line for each thing behind the last object that is none."""
        bare, self._between = (self._between + text).strip(_BETWEEN), b""
        return [part + b"\n" for part in bare.split(b",")] if bare else []

    def _note_open(self, text: bytes) -> None:
        """Notes the beginning, or more, of an object that goes on in the next block."""
        if not self._is_open:
            self._is_open, self._head, self._length = True, text[:_HEAD], 0
        self._length += len(text)

    def _too_long(self, head: bytes) -> str:
        """The sentence on an object that is too long; mostly it holds the rows as a list."""
        found = _LIST.search(head[:_HEAD])
        key = found[1].decode(errors="replace")[:60] if found else "KEY"
        return (
            f"{self._path} has a JSON object of more than {LONGEST >> 20} MB: if its rows are a "
            f"list in it, write them one a line (jq -c '.{key}[]' does it)"
        )


def _quotes(content: np.ndarray) -> np.ndarray:
    """The places of the quotes that begin or end a text of JSON."""
    quotes = content == ord('"')
    quotes[escaped(content, "\\")] = False
    return np.flatnonzero(quotes)


def _without_line_ends(content: np.ndarray, quotes: np.ndarray, is_in_text: bool) -> bytes:
    """JSON with blanks for line ends; within a text, where they are not JSON, one that is none."""
    ends = np.flatnonzero((content == ord("\n")) | (content == ord("\r")))
    if not len(ends):
        return content.tobytes()
    content = content.copy()
    is_outside = np.searchsorted(quotes, ends) % 2 == int(is_in_text)
    content[ends] = np.where(is_outside, ord(" "), 1)
    return content.tobytes()


def _is_lines(data: bytes, is_last: bool) -> bool | None:
    """Whether a file has an object a line, by its beginning; None if that is too short to tell."""
    data = data.lstrip(_BLANK)
    if not data or _MARK.startswith(data):
        return None
    if data[:1] == b"[":
        inside = data[1:].lstrip(_BLANK)
        return inside[:1] not in (b"{", b"]") if inside else None
    line, has_ended, rest = data.partition(b"\n")
    if data[:1] != b"{" or (has_ended and len(line) > _FIRST_LINE):
        return True
    rest, line = rest.lstrip(_BLANK), line.rstrip(_BLANK)
    if not rest:
        return True if is_last else None
    if not _is_open(line):
        return True  # it is whole, or is broken in a text: that costs one line
    if rest[:1] != b"{" or line[-1:] not in b"[:":
        return rest[:1] == b"{"  # another object
    # One on the next line may be what this one waits for: then something goes on behind it.
    second, has_ended, rest = rest.partition(b"\n")
    rest, second = rest.lstrip(_BLANK), second.rstrip(_BLANK)
    if not is_last and not rest:
        return None
    return second.endswith(b"}") and not _is_open(second) and rest[:1] not in (b",", b"}", b"]")


def _is_open(line: bytes) -> bool:
    """Whether more brackets are opened than closed in a line, and no text."""
    decoder = JsonDecoder("")
    content = np.frombuffer(line, np.uint8)
    quotes = _quotes(content)
    decoder._objects(content, quotes)
    return decoder._depth > 0 and len(quotes) % 2 == 0
