"""From a file of one's own to validated days: init, check, run."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import DATASETS
from orchestration.cli.datasets import check, init
from orchestration.cli.terminal import _print_table
from tests.orchestration.conftest import footpath

ROWS = "".join(
    f"u{n % 9},2026-03-0{1 + n % 3}T10:{n % 60:02}:00Z,{('view', 'buy')[n % 2]},p{n % 7}\n"
    for n in range(90)
)


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "my_clicks.csv"
    path.parent.mkdir()
    path.write_text(f"user,time,action,item\n{ROWS}")
    return path


def test_a_draft_can_be_checked_at_once_and_says_what_is_left_to_do(
    clicks, command, refused_here, tmp_path
):
    out = tmp_path / "drafts" / "my-clicks.yaml"
    made = command("datasets", "init", str(clicks), "--out", str(out))
    assert made.exit_code == 0, made.output
    assert "drafted from 90 rows; 3 lines want your eye" in made.stdout
    check = f"datasets check {out} --data {clicks.parent}"
    assert f"Next: footpath {check}" in made.stdout
    checked = command(*check.split())
    assert checked.exit_code == 0, checked.output
    assert "9 users, 7 items" in checked.stdout
    assert "Actions: buy 45, view 45" in checked.stdout
    todo = [n for n, line in enumerate(out.read_text().splitlines(), start=1) if "# TODO" in line]
    assert [f"my-clicks.yaml:{n}: TODO" in checked.stdout for n in todo] == [True] * 3
    assert "is there already" in refused_here("datasets", "init", str(clicks), "--out", str(out))
    again = ("datasets", "init", str(clicks), "--name", "my-clicks", "--out", str(out.parent))
    assert f"{out} is there already" in refused_here(*again)


@pytest.mark.long
def test_a_drafted_data_set_runs_up_to_its_validated_days(clicks, tmp_path):
    # A data set is known by its file in datasets/: one of the test's own, gone with the test.
    name = f"my-clicks-{tmp_path.name.replace('_', '-')[-20:]}"
    out = DATASETS / f"{name}.yaml"
    try:
        made = footpath(tmp_path, "datasets", "init", str(clicks), "--name", name)
        assert made.returncode == 0, made.stderr
        arguments = ("run", "--dataset", name, "--data", str(clicks.parent), "--until", "daily")
        result = footpath(tmp_path, *arguments)
    finally:
        out.unlink(missing_ok=True)
    assert result.returncode == 0, result.stderr
    assert "rows: events 90" in " ".join(result.stdout.split())
    lake = tmp_path / "lake" / name
    assert len(list((lake / "events").glob("*.parquet"))) == 3
    assert not (lake / "labels").exists()


def test_a_name_that_is_not_the_files_and_a_stage_that_is_none(clicks, refused_here, tmp_path):
    arguments = ("datasets", "init", str(clicks), "--name", "a", "--out", str(tmp_path / "b.yaml"))
    assert "must be called a.yaml" in refused_here(*arguments)
    arguments = ("run", "--dataset", "ml-100k", "--data", str(clicks.parent), "--until", "dayly")
    assert "there is no stage 'dayly': they are tables, landing, daily" in refused_here(*arguments)


def test_check_says_what_columns_are_used_for_and_fails_where_a_run_would(clicks, tmp_path, capsys):
    out = tmp_path / "my-clicks.yaml"
    init(str(clicks), "", out)
    out.write_text(out.read_text().replace("item_id: item", "item_id: NULL"))
    check(out, str(clicks.parent), 3)
    said = capsys.readouterr().out
    assert "1 landing file; the first is my_clicks.csv" in said
    assert re.search(r"user +│ events.user_id", said)
    assert re.search(r"item +│ nothing", said)
    (clicks.parent / "my_clicks.csv").write_text("who,time,action,item\n" + ROWS)
    with pytest.raises(FootpathError, match="1 of these would fail in a run"):
        check(out, str(clicks.parent), 3)
    assert re.search(
        r"^x my_clicks\.csv: its header has no column 'user'", capsys.readouterr().out, re.M
    )


def test_what_stands_in_the_data_is_printed_as_it_is(capsys):
    _print_table("Refused rows", pa.table({"raw": ["[red]x[/nothing]", ":smile:"]}))
    printed = capsys.readouterr().out
    assert "[red]x[/nothing]" in printed
    assert ":smile:" in printed
