"""Kinds of broken files, made from good ones, and what has to become of each.

A kind is a file's name, its bytes and what is expected: a sentence that refuses the file whole, or
how many of its rows land and how many are refused one by one.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

ROWS = 30
COLUMNS = {"id": "VARCHAR", "user": "VARCHAR", "ts": "VARCHAR", "n": "BIGINT", "price": "DOUBLE"}
RECORDS = [
    {"id": f"r{i}", "user": "u1", "ts": f"2026-01-05T10:00:{i:02}Z", "n": i, "price": 1.5}
    for i in range(ROWS)
]
LINES = [json.dumps(record).encode() for record in RECORDS]
HEADER = b"id,user,ts,n,price"
FIELDS = [",".join(map(str, record.values())).encode() for record in RECORDS]

Expected = str | tuple[int, int]


def text_of(lines: list[bytes], end: bytes = b"\n") -> bytes:
    """Returns lines, each with its end."""
    return b"".join(line + end for line in lines)


JSONL = text_of(LINES)
CSV = text_of([HEADER, *FIELDS])


def json_with(**values: Any) -> bytes:
    """Returns the file with one record changed."""
    return json_line(json.dumps(RECORDS[7] | values).encode())


def json_line(line: bytes, place: int = 7) -> bytes:
    """Returns the file with one line replaced."""
    return text_of([*LINES[:place], line, *LINES[place + 1 :]])


def csv_line(line: bytes, place: int = 7) -> bytes:
    """Returns the file with one row replaced; -1 is the header."""
    lines = [HEADER, *FIELDS]
    return text_of([*lines[: place + 1], line, *lines[place + 2 :]])


def parquet(change: Callable[[pa.Table], pa.Table] = lambda table: table, **options: Any) -> bytes:
    """Returns the rows as Parquet, changed."""
    buffer = io.BytesIO()
    pq.write_table(change(pa.Table.from_pylist(RECORDS)), buffer, **options)
    return buffer.getvalue()


def with_column(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    """Returns what replaces a column."""
    return lambda table: table.set_column(table.column_names.index(name), name, values)


def zipped(data: bytes) -> bytes:
    """Returns a zip archive with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jsonl", data)
    return buffer.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    """Returns data with one byte changed; a negative place counts from the end."""
    changed = bytearray(data)
    changed[place] ^= 0x55
    return bytes(changed)


def not_utf8() -> bytes:
    """Returns Parquet whose text column holds bytes that are no text."""
    column = pa.array([b"\xff\xfe"] * ROWS).view(pa.string())
    return parquet(with_column("user", column), use_dictionary=False)


ALL, NONE = (ROWS, 0), (0, 0)
ONE = (ROWS - 1, 1)
EMPTY_GZIP = gzip.compress(b"")

COMPRESSED: dict[str, tuple[str, bytes, Expected]] = {
    "truncated gzip": ("a.jsonl.gz", gzip.compress(JSONL)[:-20], "truncated gzip"),
    "gzip without its checksum": ("a.jsonl.gz", gzip.compress(JSONL)[:-8], "truncated gzip"),
    "gzip with a wrong checksum": ("a.jsonl.gz", flipped(gzip.compress(JSONL), -6), "damaged"),
    "gzip with a damaged header": ("a.jsonl.gz", flipped(gzip.compress(JSONL), 1), "damaged"),
    "gzip of nothing": ("a.jsonl.gz", EMPTY_GZIP, NONE),
    "empty file named gzip": ("a.jsonl.gz", b"", "truncated gzip"),
    "zeros named gzip": ("a.jsonl.gz", bytes(4096), "not what its name says"),
    "gzip twice": ("a.jsonl.gz", gzip.compress(gzip.compress(JSONL)), "is gzip"),
    "gzip with text behind": ("a.jsonl.gz", gzip.compress(JSONL) + b"end", "damaged"),
    "second gzip truncated": ("a.jsonl.gz", 2 * gzip.compress(JSONL)[:-9], "damaged|truncated"),
    "truncated zstd": ("a.jsonl.zst", zstandard.compress(JSONL)[:-5], "truncated zstd"),
    "damaged zstd": ("a.jsonl.zst", flipped(zstandard.compress(JSONL), 6), "damaged|truncated"),
    "zeros named zstd": ("a.jsonl.zst", bytes(4096), "not what its name says"),
    "text named gzip": ("a.jsonl.gz", JSONL, "not what its name says"),
    "text named zstd": ("a.jsonl.zst", JSONL, "not what its name says"),
    "gzip named zstd": ("a.jsonl.zst", gzip.compress(JSONL), "not what its name says"),
    "gzip named text": ("a.jsonl", gzip.compress(JSONL), "is gzip.*rename it"),
    "zstd named text": ("a.jsonl", zstandard.compress(JSONL), "is zstd.*rename it"),
    "zip named text": ("a.jsonl", zipped(JSONL), "is zip and not jsonl: unpack it"),
    "zip": ("a.jsonl.zip", zipped(JSONL), "is an archive: say which"),
    "Parquet named text": ("a.jsonl", parquet(), "is Parquet"),
    "zstd of many zeros": ("a.jsonl.zst", zstandard.compress(bytes(64 << 20)), "without a line"),
    "gzip of many zeros": ("a.jsonl.gz", gzip.compress(bytes(64 << 20)), "without a line"),
}

JSON: dict[str, tuple[str, bytes, Expected]] = {
    "empty": ("a.jsonl", b"", NONE),
    "blank lines alone": ("a.jsonl", b"\n \n\r\n  \r\n", NONE),
    "blank lines between": ("a.jsonl", JSONL.replace(b"\n", b"\n\n  \n"), ALL),
    "no line end at the end": ("a.jsonl", JSONL[:-1], ALL),
    "cut in the last row": ("a.jsonl", JSONL[:-20], ONE),
    "cut in the first row": ("a.jsonl", JSONL[20:], ONE),
    "mark of UTF-8": ("a.jsonl", b"\xef\xbb\xbf" + JSONL, ALL),
    "mark of UTF-8 in between": ("a.jsonl", json_line(b"\xef\xbb\xbf" + LINES[7]), ONE),
    "UTF-16": ("a.jsonl", JSONL.decode().encode("utf-16"), "is UTF-16"),
    "UTF-16 the other way round": ("a.jsonl", b"\xfe\xff" + JSONL, "is UTF-16"),
    "UTF-16 without a mark": ("a.jsonl", JSONL.decode().encode("utf-16-be"), "none of its .* rows"),
    "UTF-32": ("a.jsonl", JSONL.decode().encode("utf-32"), "is UTF-16 or UTF-32"),
    "a latin-1 letter": ("a.jsonl", json_line(LINES[7].replace(b"u1", b"\xfc1")), ONE),
    "half a UTF-8 letter": ("a.jsonl", json_line(LINES[7].replace(b"u1", b"\xc3")), ONE),
    "a NUL": ("a.jsonl", json_line(LINES[7].replace(b"u1", b"u\0")), ONE),
    "an escaped NUL": ("a.jsonl", json_with(user="u\0"), ALL),
    "zeros for a row": ("a.jsonl", json_line(bytes(99)), ONE),
    "zeros at the end": ("a.jsonl", JSONL + bytes(999), (ROWS, 1)),
    "a raw tab in text": ("a.jsonl", json_line(LINES[7].replace(b"u1", b"u\t1")), ONE),
    "half a surrogate": ("a.jsonl", json_line(LINES[7].replace(b"u1", rb"\ud800")), ONE),
    "a wrong escape": ("a.jsonl", json_line(LINES[7].replace(b"u1", rb"\x41")), ONE),
    "CRLF": ("a.jsonl", JSONL.replace(b"\n", b"\r\n"), ALL),
    "CR alone": ("a.jsonl", JSONL.replace(b"\n", b"\r"), "ends its lines with CR alone"),
    "mixed line ends": ("a.jsonl", JSONL.replace(b"\n", b"\r\n", 9), ALL),
    "a brace too few": ("a.jsonl", json_line(LINES[7][:-1]), ONE),
    "a quote too few": ("a.jsonl", json_line(LINES[7].replace(b'"u1"', b'"u1')), ONE),
    "single quotes": ("a.jsonl", JSONL.replace(b'"', b"'"), "none of its 30 rows can be read"),
    "a comment": ("a.jsonl", json_line(b"// " + LINES[7]), ONE),
    "text behind an object": ("a.jsonl", json_line(LINES[7] + b" ok"), ONE),
    "two objects in a line": ("a.jsonl", json_line(LINES[7] * 2), ONE),
    "a list for a row": ("a.jsonl", json_line(b"[" + LINES[7] + b"]"), ONE),
    "a number for a row": ("a.jsonl", json_line(b"7"), ONE),
    "null for a row": ("a.jsonl", json_line(b"null"), ONE),
    "one array": ("a.jsonl", json.dumps(RECORDS).encode(), ALL),
    "one array over lines": ("a.jsonl", json.dumps(RECORDS, indent=1).encode(), ALL),
    "objects over lines": (
        "a.jsonl",
        text_of([json.dumps(record, indent=1).encode() for record in RECORDS]),
        ALL,
    ),
    "nested too deep": (
        "a.jsonl",
        json_line(LINES[7][:-1] + b', "x": ' + b"[" * 99_999 + b"]" * 99_999 + b"}"),
        ALL,
    ),
    "a key twice": ("a.jsonl", json_line(LINES[7][:-1] + b', "user": "u2"}'), ALL),
    # What is no finite number lands, and the gate refuses it.
    "a number too large for DOUBLE": (
        "a.jsonl",
        json_line(LINES[7].replace(b"1.5", b"1e999")),
        ALL,
    ),
    "NaN": ("a.jsonl", json_with(price=float("nan")), ALL),
    "Infinity": ("a.jsonl", json_with(price=float("inf")), ALL),
    "a number too large for BIGINT": ("a.jsonl", json_with(n=1 << 63), ONE),
    "400 digits": ("a.jsonl", json_with(n=10**400), ONE),
    "a fraction for a whole number": ("a.jsonl", json_with(n=7.5), ONE),
    "text for a number": ("a.jsonl", json_with(price="cheap"), ONE),
    "true for a number": ("a.jsonl", json_with(n=True), ONE),
    "a list for a number": ("a.jsonl", json_with(price=[1.5]), ONE),
    "an object for a number": ("a.jsonl", json_with(price={"eur": 1.5}), ONE),
    "a number for text": ("a.jsonl", json_with(user=17), ALL),
    "an object for an id": ("a.jsonl", json_with(user={"id": 17}), ONE),
    "an impossible date": ("a.jsonl", json_with(ts="2026-02-30T10:00:00Z"), ONE),
    "an impossible hour": ("a.jsonl", json_with(ts="2026-01-05T25:00:00Z"), ONE),
    "a date beyond the calendar": ("a.jsonl", json_with(ts="999999-01-05T10:00:00Z"), ONE),
    "infinity for a date": ("a.jsonl", json_with(ts="infinity"), ONE),
    "a date before the data set": ("a.jsonl", json_with(ts="1970-01-01T00:00:00Z"), ONE),
    "no date": ("a.jsonl", json_with(ts=None), ONE),
    "an empty date": ("a.jsonl", json_with(ts=""), ONE),
    "a number for a date": ("a.jsonl", json_with(ts=1767607200), ONE),
    "numbers for all dates": (
        "a.jsonl",
        text_of([json.dumps(r | {"ts": 1767607200}).encode() for r in RECORDS]),
        "none of its 30 rows becomes a dated event",
    ),
    "a renamed column": ("a.jsonl", JSONL.replace(b'"user"', b'"usr"'), "was a column renamed"),
    "other case in a name": ("a.jsonl", JSONL.replace(b'"user"', b'"User"'), "was a column renam"),
    "a very long row": ("a.jsonl", json_with(user="x" * (9 << 20)), "without a line end"),
    "a long row": ("a.jsonl", json_with(user="x" * (1 << 20)), ALL),
    "CSV named JSON": ("a.jsonl", CSV, "none of its 31 rows can be read"),
    "HTML": ("a.jsonl", b"<html>\n<body>404</body>\n</html>\n", (0, 3)),
}

DELIMITED: dict[str, tuple[str, bytes, Expected]] = {
    "empty CSV": ("a.csv", b"", NONE),
    "only a header": ("a.csv", HEADER + b"\n", NONE),
    "only a header without its end": ("a.csv", HEADER, NONE),
    "no header": ("a.csv", text_of(FIELDS), "its header has no column 'id'"),
    "a column is missing": ("a.csv", csv_line(b"id,user,ts,n,cost", -1), "has no column 'price'"),
    "a column twice": ("a.csv", csv_line(b"id,user,ts,n,price,n", -1), "more than one column 'n'"),
    "header in capitals": ("a.csv", csv_line(HEADER.upper(), -1), "has no column 'id'"),
    "header not UTF-8": ("a.csv", csv_line(b"\xff" + HEADER, -1), "has no column 'id'"),
    "a blank line before the header": ("a.csv", b"\n" + CSV, ALL),
    "another header in between": ("a.csv", csv_line(HEADER), ONE),
    "other delimiter": ("a.csv", CSV.replace(b",", b";"), "has no column 'id'"),
    "CSV with CRLF": ("a.csv", CSV.replace(b"\n", b"\r\n"), ALL),
    "CSV with CR alone": ("a.csv", CSV.replace(b"\n", b"\r"), "ends its lines with CR alone"),
    "CSV with a mark of UTF-8": ("a.csv", b"\xef\xbb\xbf" + CSV, ALL),
    "CSV in UTF-16": ("a.csv", CSV.decode().encode("utf-16"), "is UTF-16"),
    "CSV in UTF-16 without a mark": ("a.csv", CSV.decode().encode("utf-16-le"), "no column 'id'"),
    "gzip named CSV": ("a.csv", gzip.compress(CSV), "is gzip"),
    "one column more in a row": ("a.csv", csv_line(FIELDS[7] + b",x"), ONE),
    "one column less in a row": ("a.csv", csv_line(b"r7,u1,2026-01-05T10:00:07Z,7"), ONE),
    "one column more in all rows": (
        "a.csv",
        text_of([HEADER, *[line + b",x" for line in FIELDS]]),
        "another number of columns",
    ),
    "a quote not closed": ("a.csv", csv_line(b'"' + FIELDS[7]), ONE),
    "a quote not closed at the end": ("a.csv", csv_line(b'"' + FIELDS[29], 29), ONE),
    "text behind a quote": ("a.csv", csv_line(b'"r7"x,u1,2026-01-05T10:00:07Z,7,1.5'), ONE),
    "a quoted line end": ("a.csv", csv_line(b'"r\n7",u1,2026-01-05T10:00:07Z,7,1.5'), ALL),
    "a quote inside": ("a.csv", csv_line(b'r"7,u1,2026-01-05T10:00:07Z,7,1.5'), ALL),
    "a latin-1 letter in CSV": ("a.csv", csv_line(FIELDS[7].replace(b"u1", b"\xfc")), ONE),
    "a NUL in CSV": ("a.csv", csv_line(FIELDS[7].replace(b"u1", b"u\0")), ALL),
    "zeros for a CSV row": ("a.csv", csv_line(bytes(99)), ONE),
    "a decimal comma": ("a.csv", csv_line(b'r7,u1,2026-01-05T10:00:07Z,7,"1,5"'), ONE),
    "a sum below the rows": ("a.csv", CSV + b"30 rows\n", (ROWS, 1)),
    "a fraction in CSV": ("a.csv", csv_line(FIELDS[7].replace(b",7,", b",7.5,")), ONE),
    "dates in another order": ("a.csv", csv_line(b"r7,u1,05.01.2026 10:00,7,1.5"), ONE),
    "JSON named CSV": ("a.csv", JSONL, "its header has no column 'id'"),
}

PARQUET: dict[str, tuple[str, bytes, Expected]] = {
    "Parquet": ("a.parquet", parquet(), ALL),
    "Parquet without rows": ("a.parquet", parquet(lambda table: table[:0]), NONE),
    "empty Parquet": ("a.parquet", b"", "is not Parquet, or is damaged"),
    "Parquet cut in its footer": ("a.parquet", parquet()[:-20], "is not Parquet, or is damaged"),
    "Parquet cut in half": ("a.parquet", parquet()[:300], "is not Parquet, or is damaged"),
    "Parquet with a wrong end": ("a.parquet", flipped(parquet(), -1), "is not Parquet, or is dam"),
    "Parquet with a damaged footer": ("a.parquet", flipped(parquet(), -60), "damaged"),
    "Parquet with zeros for its data": (
        "a.parquet",
        parquet()[:4] + bytes(600) + parquet()[604:],
        "damaged",
    ),
    "Parquet in gzip": ("a.parquet.gz", gzip.compress(parquet()), ALL),
    "text named Parquet": ("a.parquet", JSONL, "is not Parquet, or is damaged"),
    "Parquet lacks a column": ("a.parquet", parquet(lambda t: t.drop(["ts"])), "no column 'ts'"),
    "Parquet with a null column": ("a.parquet", parquet(with_column("n", pa.nulls(ROWS))), ALL),
    "Parquet with numbers as text": (
        "a.parquet",
        parquet(with_column("n", pa.array([str(i) for i in range(ROWS - 1)] + ["many"]))),
        ONE,
    ),
    "Parquet with text for numbers": (
        "a.parquet",
        parquet(with_column("price", pa.array(["cheap"] * ROWS))),
        "none of its 30 rows can be read",
    ),
    "Parquet with fractions": (
        "a.parquet",
        parquet(with_column("n", pa.array([0.5] + [1.0] * (ROWS - 1)))),
        ONE,
    ),
    "Parquet with nested columns": (
        "a.parquet",
        parquet(with_column("user", pa.array([{"id": "u1"}] * ROWS))),
        ALL,
    ),
    "Parquet with lists for numbers": (
        "a.parquet",
        parquet(with_column("n", pa.array([[1]] * ROWS))),
        "none of its 30 rows can be read|does not fit",
    ),
    "Parquet with bytes that are no text": ("a.parquet", not_utf8(), "damaged"),
}

KINDS = COMPRESSED | JSON | DELIMITED | PARQUET
