"""A source folder like the shop's, written row by row, and what became of it in the lake."""

import datetime as dt
import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq

from contracts.config.dataset import Dataset
from contracts.config.sources import link_source
from contracts.lake.layout import Lake
from tests.features.event_log import dataset_like


def shop_like(**sections: object) -> Dataset:
    """Returns the shop with the days 2026-01-01 to 2026-01-10, and other sections as given."""
    days = {"partitions": {"start": dt.date(2026, 1, 1), "end": dt.date(2026, 1, 10)}}
    return dataset_like("shop", **(days | sections))


def row(id: str | None, ts: str, user: str | None = "u1", **fields: object) -> str:
    """Returns a JSON line as the shop writes it."""
    return json.dumps(
        {"id": id, "user": user, "ts": ts, "type": "view", "item": "i1", "price": 1.5} | fields
    )


class Source:
    """Landing files of the shop below a folder, known to the data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        link_source("shop", str(folder))

    def write(self, hour: str, *lines: str | bytes) -> Path:
        """Writes the file of an hour such as 2026-01-05/09."""
        path = self.folder / "events" / f"{hour}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        joined = b"\n".join(part if isinstance(part, bytes) else part.encode() for part in lines)
        path.write_bytes(gzip.compress(joined + b"\n"))
        return path


def landed(lake: Lake) -> dict[str, list[str | None]]:
    """Returns event day -> the ids in its fragments, sorted."""
    found: dict[str, list] = {}
    for path in sorted((lake.table("landing") / "fragments").glob("*/*.parquet")):
        found.setdefault(path.parent.name, []).extend(pq.read_table(path)["event_id"].to_pylist())
    return {day: sorted(ids, key=str) for day, ids in found.items()}


def refused(lake: Lake, stage: str = "landing") -> list[tuple[str, int, str]]:
    """Returns (file, line, rule) of every row in quarantine, in order."""
    rows = []
    for path in (lake.table("quarantine") / stage).glob("*.parquet"):
        rows += pq.read_table(path).to_pylist()
    return sorted((r["source_file"], r["source_line"], " ".join(r["broken"])) for r in rows)
