"""Landing files written row by row, and what became of them in the lake."""

import datetime as dt
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from tests.builders.datasets import DAYS


def linked(folder: Path, dataset: str = "shop") -> Path:
    """Makes a folder the source of a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    link_source(dataset, str(folder))
    return folder


def row(id: str | None, ts: str, user: str | None = "u1", **fields: object) -> str:
    """A JSON line as the shop writes it."""
    return json.dumps(
        {"id": id, "user": user, "ts": ts, "type": "view", "item": "i1", "price": 1.5} | fields
    )


class Source:
    """Landing files of the shop below a folder, known to the data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = linked(folder)

    def write(self, hour: str, *lines: str | bytes) -> Path:
        """Writes the file of an hour such as 2026-01-05/09."""
        path = self.folder / "events" / f"{hour}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        joined = b"\n".join(part if isinstance(part, bytes) else part.encode() for part in lines)
        path.write_bytes(gzip.compress(joined + b"\n"))
        return path


class Deliveries:
    """Landing files of the tiny data set by day of arrival: late rows can be put anywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = linked(folder, "tiny")

    def write(self, arrival: dt.date, name: str, rows: Sequence[tuple[str, str, str]]) -> Path:
        """Writes one file of (id, user, timestamp), arriving on a day."""
        path = self.folder / str(arrival) / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ["id,who,ts", *(",".join(row) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        return path

    def write_every_day(self) -> None:
        """Writes three users' events of every day, delivered on the day."""
        for day in DAYS:
            times = [(n, hour) for n in range(3) for hour in (9, 20)]
            rows = [(f"{day}-{n}-{hour}", f"u{n}", at(day, hour)) for n, hour in times]
            self.write(day, "on-time", rows)


def at(day: dt.date, hour: float) -> str:
    """An instant of a day as the tiny data set writes it."""
    return (dt.datetime.combine(day, dt.time()) + dt.timedelta(hours=hour)).isoformat() + "Z"


def zip_of(files: Mapping[str, str | bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of files, in their order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A tar archive of files, in their order, and of symbolic links behind them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else content
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
        for name, target in (links or {}).items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target
            tar.addfile(header)
    return buffer.getvalue()


def landed(lake: Lake) -> dict[str, list[str | None]]:
    """Event day -> the ids in its fragments, sorted."""
    found: dict[str, list] = {}
    for path in sorted((lake.table("landing") / "fragments").glob("*/*.parquet")):
        found.setdefault(path.parent.name, []).extend(pq.read_table(path)["event_id"].to_pylist())
    return {day: sorted(ids, key=str) for day, ids in found.items()}


def refused(lake: Lake, stage: str = "landing") -> list[tuple[str, int, str]]:
    """(file, line, rule) of every row in quarantine, in order."""
    rows = []
    for path in (lake.table("quarantine") / stage).glob("*.parquet"):
        rows += pq.read_table(path).to_pylist()
    return sorted((r["source_file"], r["source_line"], " ".join(r["broken"])) for r in rows)
