"""What a text file is, judged by its first bytes: refused if it is something else.

In:  the first records of a file that should be JSON lines or delimited text. Out: nothing, or a
sentence. Without a look at the beginning, such a file would become rows that say nothing.
"""

from contracts.base.errors import FootpathError
from contracts.config.source import FileTable

# First bytes -> what they are, and what to do about it.
_FOREIGN = {
    b"\x1f\x8b": ("gzip", "rename it so that it ends in .gz, or compress it once only"),
    b"\x28\xb5\x2f\xfd": ("zstd", "rename it so that it ends in .zst, or compress it once only"),
    b"PK\x03\x04": ("zip", "unpack it, or compress it with gzip or zstd"),
    b"BZh": ("bzip2", "unpack it, or compress it with gzip or zstd"),
    b"\xfd7zXZ\0": ("xz", "unpack it, or compress it with gzip or zstd"),
    b"PAR1": ("Parquet", "set format: parquet in the YAML, or ask for the file as text"),
    b"\xff\xfe": ("UTF-16 or UTF-32", "save it as UTF-8"),
    b"\xfe\xff": ("UTF-16", "save it as UTF-8"),
    b"\0\0\xfe\xff": ("UTF-32", "save it as UTF-8"),
}


def check_beginning(table: FileTable, data: bytes, path: str) -> None:
    """Looks at the first records of a text file.

    Args:
      table: says what the file should be.
      data: whole records, the last one with its line end.
      path: names the file in the sentence.

    Raises:
      FootpathError: it is another kind of file, in another encoding, or has other line ends.
    """
    for mark, (kind, advice) in _FOREIGN.items():
        if data.startswith(mark):
            raise FootpathError(f"{path} is {kind} and not {table.format}: {advice}")
    quote = table.csv.quote.encode() if table.format == "csv" else b""
    lines = data.rstrip(b"\r\n")
    # In quotes, a CR may be part of a field.
    if b"\n" not in lines and b"\r" in lines and not (quote and quote in lines):
        raise FootpathError(f"{path} ends its lines with CR alone: save it with LF or CRLF")
    if table.format == "jsonl":
        first = lines.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if first == b"[" and (b"\n" not in lines or lines.split(b"\n", 1)[0].strip() == b"["):
            raise FootpathError(
                f"{path} is one JSON array: write one object a line (jq -c '.[]' does it)"
            )
