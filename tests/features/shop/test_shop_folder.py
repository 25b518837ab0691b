"""The synthetic shop comes whole or not at all, and the same every time."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from features.shop import generate_shop
from tests.conftest import REPOSITORY

SMALL = {"users": 300, "days": 4, "seed": 5}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    generate_shop(tmp_path / "one", **SMALL)
    generate_shop(tmp_path / "two", **SMALL)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_gives_another_shop(tmp_path):
    generate_shop(tmp_path / "one", **SMALL)
    generate_shop(tmp_path / "two", **SMALL | {"seed": 6})
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert not any(one[name] == two[name] for name in one.keys() & two.keys())


def test_a_longer_shop_begins_as_the_shorter_one(tmp_path):
    generate_shop(tmp_path / "short", **SMALL)
    generate_shop(tmp_path / "long", **SMALL | {"days": 7})
    short, long = contents(tmp_path / "short"), contents(tmp_path / "long")
    # In its last two days the shorter one has to deliver on time what the longer may delay.
    early = [name for name in short if name < "events/2026-01-02/23" and "events/" in name]
    assert len(early) > 40
    assert all(short[name] == long[name] for name in early)
    assert short["items.csv"] == long["items.csv"]
    assert short["users.csv"] == long["users.csv"]


def test_a_finished_shop_is_left_as_it_is(tmp_path):
    truth = generate_shop(tmp_path / "shop", **SMALL)
    before = {path: path.stat().st_ino for path in (tmp_path / "shop").rglob("*")}
    assert generate_shop(tmp_path / "shop", **SMALL) == truth
    assert {path: path.stat().st_ino for path in (tmp_path / "shop").rglob("*")} == before


def test_other_arguments_replace_the_shop_whole(tmp_path):
    generate_shop(tmp_path / "shop", **SMALL | {"days": 5})
    generate_shop(tmp_path / "shop", **SMALL)
    generate_shop(tmp_path / "fresh", **SMALL)
    assert contents(tmp_path / "shop") == contents(tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "shop"]


def test_a_shop_that_lost_a_file_is_made_again(tmp_path):
    generate_shop(tmp_path / "shop", **SMALL)
    before = contents(tmp_path / "shop")
    next((tmp_path / "shop").glob("events/*/*.gz")).unlink()
    generate_shop(tmp_path / "shop", **SMALL)
    assert contents(tmp_path / "shop") == before


def test_a_killed_generation_leaves_nothing_visible_and_the_next_one_finishes(tmp_path):
    program = (
        "import os, signal; from pathlib import Path; from features.shop import generate_shop\n"
        "kill = lambda done, days: done == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"generate_shop(Path({str(tmp_path / 'shop')!r}), **{SMALL!r}, progress=kill)"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "shop").exists()
    assert list(tmp_path.rglob("*.jsonl.gz")), "it was killed before it had written anything"
    generate_shop(tmp_path / "shop", **SMALL)
    generate_shop(tmp_path / "fresh", **SMALL)
    assert contents(tmp_path / "shop") == contents(tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "shop"]


def test_a_failure_keeps_the_shop_that_was_there(tmp_path):
    generate_shop(tmp_path / "shop", **SMALL)
    before = contents(tmp_path / "shop")

    def fail(done: int, days: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_shop(tmp_path / "shop", **SMALL | {"seed": 9}, progress=fail)
    assert contents(tmp_path / "shop") == before
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_folder_with_other_files_is_refused_and_untouched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(FootpathError, match=r"mine is there and is not a synthetic shop"):
        generate_shop(tmp_path / "mine", **SMALL)
    assert contents(tmp_path / "mine") == {"thesis.txt": b"irreplaceable"}


def test_a_second_builder_of_the_same_folder_is_refused(tmp_path):
    work = tmp_path / ".shop.building"
    work.mkdir()
    handle = os.open(work, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(FootpathError, match="another process is building"):
        generate_shop(tmp_path / "shop", **SMALL)
    os.close(handle)
    generate_shop(tmp_path / "shop", **SMALL)
    assert (tmp_path / "shop" / "truth.json").exists()


@pytest.mark.parametrize(("field", "value"), [("users", 0), ("days", 0), ("seed", -1)])
def test_an_impossible_argument_is_named(tmp_path, field, value):
    with pytest.raises(FootpathError, match=f"^{field} is {value}: give a number"):
        generate_shop(tmp_path / "shop", **SMALL | {field: value})


def test_progress_is_told_after_each_day(tmp_path):
    told = []
    generate_shop(tmp_path / "shop", **SMALL, progress=lambda *days: told.append(days))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_one_user_and_one_day_make_a_shop(tmp_path):
    truth = generate_shop(tmp_path / "shop", users=1, days=1)
    assert truth.events == truth.bot_events > 0
