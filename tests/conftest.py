"""Fixtures that every room's tests share, and the rule that servers are really tested in CI."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from contracts.lake.layout import Lake
from features.shop import generate_shop
from tests.redis_server import redis_server

# What a query takes depends on the machine; pytest's own timeout stops what hangs.
settings.register_profile("footpath", deadline=None)
settings.load_profile("footpath")

# Tests run side by side, a process for each core: threads that wait for each other only spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.pop("DAGSTER_HOME", None)  # tests have homes of their own

REPOSITORY = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("FOOTPATH_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
# They take longest, so they begin first: else one process works on alone at the end.
LONGEST = (
    "tests/orchestration/automation/test_month.py",
    "tests/orchestration/test_chain.py",
    "tests/orchestration/test_ui.py",
    "tests/s3/test_chain.py",
    "tests/orchestration/assets/test_programs.py",
    "tests/orchestration/experiments/test_runner.py",
    "tests/models/test_train.py",
    "tests/models/runtime/test_pretend_gpu.py",
)
OF_THE_SMALL_SHOP = ("tests/orchestration/test_chain.py", "tests/orchestration/test_ui.py")


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test leaves in the environment goes with it, as DAGSTER_HOME, which commands set."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def lake_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FOOTPATH_HOME", str(folder))
    return folder


@pytest.fixture
def lake(lake_home: Path) -> Lake:
    """The empty lake of the shop."""
    return Lake.of("shop")


@pytest.fixture(scope="session")
def ml_100k() -> Path:
    """The folder of the genuine MovieLens 100K files."""
    folder = REAL_DATA / "ml-100k"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: put the MovieLens 100K files in it")
    return folder


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The landing files of a shop of 50 users and four days."""
    folder = tmp_path_factory.mktemp("source") / "shop"
    generate_shop(folder, users=50, days=4)
    return folder


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis server on the loopback."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


_skipped_servers: list[str] = []
_STATUS = pytest.StashKey[int]()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes every test of a server that was skipped."""
    if report.skipped and "server" in report.keywords:
        _skipped_servers.append(report.nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, whose order the processes keep (--no-loadscope-reorder)."""
    place = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.split("::", 1)[0], len(LONGEST)))


class ByFile(LoadFileScheduling):
    """Keeps a file's tests in one process, and all tests of the small shop, which takes long."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "small_shop" if file in OF_THE_SMALL_SHOP else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Deals the tests to processes."""
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run where servers must be tested and one was not."""
    if os.environ.get("FOOTPATH_REQUIRE_SERVERS") and _skipped_servers:
        session.exitstatus = 1
    session.config.stash[_STATUS] = int(session.exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves before DuckDB 2.0 prints pages about its own leaks over the summary."""
    if _STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_STATUS])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which server tests were skipped though they were required."""
    if os.environ.get("FOOTPATH_REQUIRE_SERVERS"):
        for name in _skipped_servers:
            terminalreporter.write_line(f"REQUIRED BUT SKIPPED: {name}", red=True)
