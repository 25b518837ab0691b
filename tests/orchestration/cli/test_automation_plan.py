"""`footpath automation plan` says what would be requested, and why; `run` does it."""

import pytest
from typer.testing import CliRunner

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from orchestration.cli.main import app
from tests.builders.landing import Source, row


def automation(*arguments: str) -> str:
    return CliRunner().invoke(app, ["automation", *arguments], catch_exceptions=False).output


@pytest.fixture
def source(lake_home, tmp_path) -> Source:
    source = Source(tmp_path / "source")
    (source.folder / "items.csv").write_text("item,title,category,brand,price\ni1,One,books,b,1\n")
    (source.folder / "users.csv").write_text("user,age,gender\nu1,30,f\n")
    for hour in ("09", "10"):
        source.write(f"2026-01-01/{hour}", row(f"a{hour}", f"2026-01-01T{hour}:30:00Z"))
    return source


def test_a_plan_is_of_the_instant_that_is_asked_for(source):
    # Local time: the day ends at 23:00 UTC, and is complete an hour after.
    early = automation("plan", "--at", "2026-01-01T23:59")
    assert "landing" not in early
    assert "due      tables: new or changed: items, users" in early
    ended = automation("plan", "--at", "2026-01-02T00:10")
    assert (
        "due      landing 2026-01-01: events/2026-01-01/09.jsonl.gz and 1 more are new\n" in ended
    )
    assert "waits    2026-01-01: 2 files are there; it is built at 2026-01-02 01:00" in ended
    with pytest.raises(FootpathError, match="--at is 'noon', and an instant such as"):
        automation("plan", "--at", "noon")


@pytest.mark.long
def test_run_does_all_that_is_due_and_says_what_is_left(source, monkeypatch):
    monkeypatch.setenv("FOOTPATH_NOW", "2026-01-02T00:30:00Z")
    said = automation("run")
    assert "landing 2026-01-01: events/2026-01-01/09.jsonl.gz and 1 more are new" in said
    assert "daily 2026-01-01: 1 day of events are due" in said
    assert "serving: not registered" in said
    assert said.endswith("everything is as it should be\n")
    assert [str(day) for day in Lake.of("shop").days("user_behavior_features")] == ["2026-01-01"]
    assert automation("run") == "everything is as it should be\n"
