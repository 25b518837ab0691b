"""Two gloo processes against one, for every objective."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import read_tensors
from models.config import TrainConfig, parse
from models.objectives import OBJECTIVES
from models.report import Reporter
from models.train import train

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "ranks_program.py"
METHODS = [name for name, kind in OBJECTIVES.items() if kind.trains]
ENCODER_OF = {"next": "gru4rec", "barlow": "bag"}
OPTIONS = {"byb": {"events": [3, 5]}, "msdp": {"events": [3, 5]}}


def config(sequences: Path, out: Path, method: str, **changes) -> dict:
    encoder = ENCODER_OF.get(method, "bert4rec")
    return {
        "sequences": str(sequences),
        "out": str(out),
        "version": f"{method}_v1",
        "recipe": f"{method}_{encoder}",
        "encoder_options": {"dropout": 0.0},
        "objective": OPTIONS.get(method, {}),
        "dim": 16,
        "max_length": 20,
        "epochs": 3,
        "batch_size": 35,  # parts of 18 and 17 users, and a last batch of 15
        "threads": 1,
        "device": "cpu",
    } | changes


def torchrun(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def by_two(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every objective trained by two ranks in double precision; a folder each."""
    folder = tmp_path_factory.mktemp("two")
    pointer = planted / "sequences" / "2026-01-31.json"
    listed = [config(pointer, folder / method, method) for method in METHODS]
    (folder / "list.json").write_text(json.dumps(listed))
    done = torchrun(str(PROGRAM), str(folder / "list.json"), "float64")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_give_the_losses_and_weights_of_one_process(method, by_two, planted, tmp_path):
    pointer = planted / "sequences" / "2026-01-31.json"
    train(parse(TrainConfig, config(pointer, tmp_path / "one", method), "test"), Reporter())
    one, two = (pq.read_table(f / "curves.parquet") for f in (tmp_path / "one", by_two / method))
    assert json.loads((by_two / method / "metrics.json").read_text())["ranks"] == 2
    assert one.num_rows == two.num_rows == 12
    for column in ("loss", "gradient_norm", "spread", "effective_rank"):
        found, expected = (
            torch.tensor(table[column].drop_null().to_pylist(), dtype=torch.float64)
            for table in (two, one)
        )
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    weights = [
        read_tensors(f / "model.safetensors")[0] for f in (tmp_path / "one", by_two / method)
    ]
    for name, expected in weights[0].items():
        assert expected.dtype == torch.float64
        torch.testing.assert_close(weights[1][name], expected, rtol=0, atol=1e-9, msg=name)
