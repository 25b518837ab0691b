"""A served shop, made once; and the service in this process."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from contracts.lake.layout import Lake
from orchestration.http.app import create_app
from orchestration.http.settings import Settings
from tests.builders.served import serve_shop

QUICK = {"datasets": ("shop",), "refresh_seconds": 0.1, "flush_seconds": 0.2}


@pytest.fixture(scope="session")
def shop_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder whose shop is ready to serve; nobody changes it."""
    home = tmp_path_factory.mktemp("served") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTPATH_HOME", str(home))
        serve_shop(Lake.of("shop"))
    return home


@pytest.fixture
def home(shop_home: Path, lake_home: Path) -> Path:
    """A copy of it of the test's own."""
    shutil.copytree(shop_home, lake_home)
    return lake_home


@pytest.fixture
def lake(home: Path) -> Lake:
    """The shop's lake there."""
    return Lake.of("shop")


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    """The service without tokens."""
    with client_of() as found:
        yield found


def client_of(**settings: object) -> TestClient:
    """A service in this process, on the loopback."""
    app = create_app(Settings(**QUICK | settings))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
