"""Text in any encoding that Python knows -> UTF-8, in blocks.

What the encoding does not have stays invalid as UTF-8, so that its line alone is refused.
"""

import codecs

from contracts.base.errors import FootpathError

# Half of a character of two units: no text, and no UTF-8.
_NO_TEXT = "\udc80"

_LONGEST_MARK = 4


def _as_no_text(error: UnicodeError) -> tuple[str, int]:
    """Error handler of a codec: goes on behind the first wrong byte, or unit of UTF-16."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    is_wide = error.encoding.lower().startswith(("utf-16", "utf-32", "utf16", "utf32"))
    return _NO_TEXT, error.end if is_wide else error.start + 1


codecs.register_error("footpath-no-text", _as_no_text)


class TextDecoder:
    """Decoder (base.py) of a file in another encoding than UTF-8.

    Args:
      encoding: one that `Csv.encoding` allows.
      path: names the file in sentences.
    """

    def __init__(self, encoding: str, path: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("footpath-no-text")
        self._encoding, self._path = encoding, path
        self._is_first, self._start = True, b""

    def __call__(self, block: bytes, is_last: bool) -> bytes:
        """The next text.

        Raises:
          FootpathError: a file in UTF-16 or UTF-32 does not begin as one.
        """
        block, self._start = self._start + block, b""
        if self._is_first and len(block) < _LONGEST_MARK and not is_last:
            self._start = block
            return b""
        if self._is_first and block:
            self._is_first = False
            self._check_mark(block)
        return self._decoder.decode(block, is_last).encode("utf-8", "surrogatepass")

    def _check_mark(self, block: bytes) -> None:
        """Refuses UTF-16 without a byte order mark: both orders would give some text."""
        marks = {"utf-16": codecs.BOM_UTF16_LE, "utf-32": codecs.BOM_UTF32_LE}
        wide = codecs.lookup(self._encoding).name
        if wide in marks and not block.startswith((marks[wide], marks[wide][::-1])):
            raise FootpathError(
                f"{self._path} does not begin with a byte order mark: set csv.encoding to "
                f"{wide}-le or {wide}-be in the YAML, if it is {wide} at all"
            )
