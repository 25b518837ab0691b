"""Users with a pattern planted in them, and settings of the tests of models."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.builders.sequences import planted_labels, write_labels, write_sequences


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The models here are too small to share out."""
    torch.set_num_threads(1)


@pytest.fixture
def make_sequences(tmp_path: Path) -> Callable[..., Path]:
    """A function of lengths (and changes) that writes sequences and gives the pointer."""
    return lambda lengths, **changes: write_sequences(tmp_path, lengths, **changes)


@pytest.fixture
def make_labels(tmp_path: Path) -> Callable[[list[dict]], Path]:
    """A function of label rows that writes them and gives the path."""
    return lambda rows: write_labels(tmp_path / "labels" / "2026-01-31.parquet", rows)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 120 users whose label follows from their items; `sequences` and `labels`."""
    folder = tmp_path_factory.mktemp("planted")
    lengths = np.random.default_rng(1).integers(8, 30, 120).tolist()
    write_sequences(folder, lengths, text=True)
    write_labels(folder / "labels.parquet", planted_labels(120))
    return folder


@pytest.fixture(scope="session")
def pointer(planted: Path) -> Path:
    """The sequences of the planted users."""
    return planted / "sequences" / "2026-01-31.json"
