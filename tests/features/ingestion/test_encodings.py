"""Text comes out as it was written, whatever its encoding; what is none of it costs its row."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.config.source import Csv, FileTable
from contracts.lake.engine import connect
from features.ingestion import reader as reader_module
from features.ingestion.listing import find_files
from features.ingestion.reader import RowReader

CONNECTION = connect()


class Read:
    """What the reader makes of a CSV of the columns a and b."""

    def __init__(self, folder: Path, content: bytes, **csv: Any) -> None:
        (folder / "x.csv").write_bytes(content)
        columns = {"a": "VARCHAR", "b": "VARCHAR"}
        table = FileTable.model_validate(
            {"url": "*", "format": "csv", "columns": columns, "csv": csv}
        )
        reader = RowReader(CONNECTION, table, find_files(str(folder), "x.csv"))
        rows = []
        for _ in reader.chunks():
            rows += CONNECTION.execute("SELECT __line, __problem, a, b FROM rows_read").fetchall()
        rows.sort()
        self.rows = [row[2:] for row in rows if row[1] is None]
        self.problems = {line: problem for line, problem, *_ in rows if problem}
        self.fault = reader.faults.get(0, "")


TEXTS = {
    "cp1252": "Größe „L“ – 5 €",
    "latin-1": "é\x80ü",
    "utf-16": "日本 – 5 € 😀",
    "utf-16-le": "日本 😀",
    "utf-16-be": "ऍ😀",
    "utf-32": "日本 😀",
    "shift_jis": "利用者 表示",
    "gb18030": "用户",
    "koi8-r": "пользователь",
    "utf-8": "日本 😀",
}


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("encoding", TEXTS)
def test_text_is_read_as_it_was_written_however_it_is_cut(tmp_path, monkeypatch, encoding, block):
    monkeypatch.setattr(reader_module, "BLOCK", block)
    rows = [(f"{TEXTS[encoding]}{n}", f'"{n}\n;') for n in range(5)]
    text = "a;b\r\n" + "".join(f'{a};"{b.replace(chr(34), chr(34) * 2)}"\r\n' for a, b in rows)
    found = Read(tmp_path, text.encode(encoding), delimiter=";", encoding=encoding)
    assert (found.rows, found.problems, found.fault) == (rows, {}, "")


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [
        ("cp1252", b"\x81"),
        ("shift_jis", b"\x97"),
        ("shift_jis", b"\xff"),
        ("ascii", b"\xff"),
        ("utf-16-le", b"\x00\xdc"),
        ("utf-16-be", b"\xd8\x00"),
    ],
)
def test_a_byte_that_an_encoding_does_not_have_costs_its_row(tmp_path, encoding, bad):
    text = "a,b\n1,x\n2,{}\n3,z\n"
    content = bad.join(part.encode(encoding) for part in text.split("{}"))
    found = Read(tmp_path, content, encoding=encoding)
    said = "UTF-8" if encoding == "ascii" else encoding.upper()
    assert found.problems == {3: f"not {said}"}
    assert found.rows == [("1", "x"), ("3", "z")]


def test_a_file_that_ends_within_a_character_loses_no_other_row(tmp_path):
    found = Read(tmp_path, "a,b\n1,x\n2,y".encode("utf-16")[:-1], encoding="utf-16")
    assert (found.rows, found.problems) == ([("1", "x")], {3: "not UTF-16"})


def test_utf_16_is_told_and_needs_its_order(tmp_path):
    text = "a,b\n1,x\n"
    for given in ("utf-16", "utf-16-be"):
        found = Read(tmp_path, "\ufeff".encode(given) + text.encode(given))
        assert "UTF-16" in found.fault
        assert "set csv.encoding to utf-16" in found.fault
    found = Read(tmp_path, text.encode("utf-16-be"), encoding="utf-16")
    assert "does not begin with a byte order mark: set csv.encoding to utf-16-le or" in found.fault


@pytest.mark.parametrize("encoding", ["utf-9", "rot13", "base64", "undefined", "", "a\0b"])
def test_what_is_no_encoding_is_refused_in_the_yaml(encoding):
    with pytest.raises(ValidationError, match="is no encoding of text: use one such as cp1252"):
        Csv(encoding=encoding)
