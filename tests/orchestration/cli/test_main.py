"""The command line: bad input ends in one sentence and exit code 1, and nothing is lost."""

import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli.main import app
from tests.orchestration.conftest import footpath

USERS = "\n".join(f"{n}|{20 + n % 4}|{'MF'[n % 2]}|student|12345" for n in range(1, 31)) + "\n"
ITEMS = "\n".join(f"{n}|Film {n}|01-Jan-1995|||0|1" + "|0" * 17 for n in range(1, 31)) + "\n"
DAY = 874800000  # within 1997-09-21 UTC


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    """A folder like MovieLens 100K's, with 300 ratings of one day."""
    folder = tmp_path / "movies"
    folder.mkdir()
    (folder / "u.user").write_text(USERS)
    (folder / "u.item").write_text(ITEMS)
    rows = [f"{n % 30 + 1}\t{n % 29 + 1}\t{n % 5 + 1}\t{DAY + n}" for n in range(300)]
    (folder / "u.data").write_text("\n".join(rows) + "\n")
    return folder


def refused(home: Path, *arguments: str) -> str:
    """Runs a command that must fail, and returns its sentence."""
    result = footpath(home, *arguments)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("footpath: ")]
    return sentence


def test_the_help_says_how_large_a_shop_evaluation_needs():
    told = " ".join(
        CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "300"}).output.split()
    )
    assert "evaluation needs some 200, --until daily does with fewer" in told
    assert "evaluation needs some 21" in told


def test_an_unknown_data_set(tmp_path):
    assert "no data set 'nope'" in refused(tmp_path, "run", "--dataset", "nope")


def test_a_source_that_was_never_linked_and_one_that_is_not_there(refused_here, tmp_path):
    arguments = ("run", "--dataset", "ml-100k")
    assert "footpath datasets link ml-100k FOLDER" in refused_here(*arguments)
    missing = str(tmp_path / "missing")
    assert "missing is not a folder" in refused_here(*arguments, "--data", missing)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda movies: (movies / "u.data").unlink(), "no landing file"),
        (lambda movies: (movies / "u.item").unlink(), "no file of items"),
        (
            lambda movies: (movies / "u.data").write_text("user,item\n" * 50),
            "u.data: every row has another number of columns",
        ),
        (
            lambda movies: (movies / "u.data").rename(movies / "u.data.gz"),
            "u.data.gz is not what its name says",
        ),
    ],
    ids=["no events", "no catalog", "other columns", "not a gzip"],
)
def test_broken_files_are_told_by_name(movies, lake_home, refused_here, spoil, sentence):
    spoil(movies)
    assert sentence in refused_here("run", "--dataset", "ml-100k", "--data", str(movies))
    assert not list(lake_home.glob("lake/*/events/*.parquet"))


def test_a_truncated_gzip_is_told_and_what_was_published_stays(movies, lake_home, refused_here):
    arguments = ("run", "--dataset", "ml-100k", "--data", str(movies), "--last-day", "1997-09-22")
    # Everybody is alike, so the chain stops where labels are made: events are published by then.
    (movies / "u.user").write_text(USERS.replace("|F|", "|M|").replace("student", "writer"))
    assert "has the one class" in refused_here(*arguments)
    events = lake_home / "lake/ml-100k/events/1997-09-21.parquet"
    before = events.read_bytes()
    packed = gzip.compress((movies / "u.data").read_bytes())
    (movies / "u.data.gz").write_bytes(packed[: len(packed) // 2])
    (movies / "u.data").unlink()
    assert "u.data.gz is a truncated gzip" in refused_here(*arguments)
    assert events.read_bytes() == before


def test_a_day_that_is_none_and_days_before_the_first(movies, refused_here):
    arguments = ("run", "--dataset", "ml-100k", "--data", str(movies), "--last-day")
    assert "'soon' is not a day" in refused_here(*arguments, "soon")
    assert "no finished day from 1997-09-20" in refused_here(*arguments, "1997-01-01")


def test_a_preview_shows_what_a_sample_becomes(movies, tmp_path):
    result = footpath(tmp_path, "datasets", "check", "datasets/ml-100k.yaml", "--data", str(movies))
    assert result.returncode == 0, result.stderr
    assert "Of 300 rows in a sample of it, 0 are refused." in result.stdout
