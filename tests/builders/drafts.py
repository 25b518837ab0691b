"""A file that is drafted, loaded, and read by the reader of landing."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from contracts.config.dataset import Dataset, load_dataset_file
from features.drafts.drafting import draft
from features.drafts.preview import preview
from features.drafts.yaml_lines import TODO


@dataclass(frozen=True)
class Drafted:
    """A draft, and the events that its first file becomes."""

    dataset: Dataset
    text: str
    folder: str
    files: int
    rows: int  # that the sample became
    refused: int
    events: list[dict]

    @property
    def todos(self) -> str:
        """The lines that a person has to look at, but for the zone of days and the actions."""
        lines = [line.strip() for line in self.text.splitlines() if TODO in line]
        return "\n".join(
            line for line in lines if "local day" not in line and "add those" not in line
        )

    @property
    def comments(self) -> str:
        """All comments in one line."""
        return " ".join(
            line.strip().removeprefix("#").strip()
            for line in self.text.splitlines()
            if line.strip().startswith("#")
        )

    def first(self, **fields: object) -> dict:
        """The fields of the first event that are asked for; a time as ISO text, UTC."""
        event = self.events[0]
        properties = dict(event["properties"] or {})
        shown = {f: properties[f] if f not in event else event[f] for f in fields}
        return {f: iso(v) if isinstance(v, dt.datetime) else v for f, v in shown.items()}


def iso(instant: dt.datetime) -> str:
    """An instant as ISO text, UTC."""
    return instant.astimezone(dt.UTC).isoformat()


def drafted(path: Path, name: str = "mine") -> Drafted:
    """Drafts a file, loads the draft, and reads the file by it."""
    made = draft(str(path), name)
    out = path.parent / "drafts.out" / f"{name}.yaml"
    out.parent.mkdir(exist_ok=True)
    out.write_text(made.text, encoding="utf-8")
    dataset = load_dataset_file(out)
    sample = preview(dataset, made.folder, rows=2000)
    events = sample.events.to_pylist()
    return Drafted(
        dataset, made.text, made.folder, sample.files, sample.rows, sample.refused_rows, events
    )


def put(path: Path, data: bytes | str) -> Path:
    """Writes a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
