"""Landing files of the shop that a test writes itself."""

from pathlib import Path

import pytest

from tests.builders.landing import Source, linked


@pytest.fixture
def folder(tmp_path: Path, lake_home: Path) -> Path:
    """An empty source folder of the shop."""
    return linked(tmp_path / "source")


@pytest.fixture
def source(folder: Path) -> Source:
    """The same, for files like the shop's own."""
    return Source(folder)
