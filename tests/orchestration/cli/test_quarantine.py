"""`footpath quarantine`: what was refused is listed, shown, written out, mended and replayed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contracts.lake.layout import Lake
from features.ingestion.landing import land
from orchestration.cli.main import app
from tests.builders.datasets import dataset_like
from tests.builders.landing import Source, landed, row

NOON = "2026-01-05T12:00:00Z"
FILE = "events/2026-01-05/13.jsonl.gz"


@pytest.fixture
def lake(lake: Lake, tmp_path: Path) -> Lake:
    source = Source(tmp_path / "source")
    source.write("2026-01-05/13", row("a", NOON), row("b", "?"), "{not json")
    land(dataset_like("shop"), lake, None)
    return lake


def footpath(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["quarantine", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_refused_rows_are_listed_and_shown_with_their_places(lake):
    listed = footpath("list").splitlines()
    assert [line.split()[:4] for line in listed[1:]] == [
        ["-", "landing", "undated", "1"],
        ["-", "landing", "unreadable", "1"],
    ]
    by_file = footpath("list", "--files").splitlines()
    assert [line.split()[-1] for line in by_file] == ["file", FILE, FILE]
    shown = footpath("show", "--rule", "undated")
    assert f"{FILE}:2  -  undated" in shown
    assert "unreadable" not in shown
    assert footpath("show", "--file", "another") == ""


def test_the_list_adds_up_what_many_files_have_of_one_rule(lake, tmp_path):
    source = Source(tmp_path / "source")
    for hour in range(3):
        source.write(f"2026-01-05/0{hour}", row("a", NOON), row("b", "?"), row("c", "?"))
    land(dataset_like("shop"), lake, None)
    undated = next(line.split() for line in footpath("list").splitlines() if "undated" in line)
    assert undated == ["-", "landing", "undated", "7", "4"]
    assert len(footpath("list", "--files").splitlines()) == 6


def test_mended_rows_are_replayed_and_leave_the_list(lake, tmp_path):
    out = tmp_path / "mend.jsonl"
    assert "1 rows in" in footpath("show", "--rule", "undated", "--out", str(out))
    line = json.loads(out.read_text())
    line["row"]["ts"] = NOON
    out.write_text(json.dumps(line))
    assert "1 refused rows are replaced" in footpath("replay", str(out), "--no-build")
    assert landed(lake) == {"2026-01-05": ["a", "b"]}
    assert "undated" not in footpath("list")
    assert "1 rows of" in footpath("replay", str(out), "--no-build")
