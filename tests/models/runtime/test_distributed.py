"""Two gloo processes against one, for every objective."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from contracts.recipes.methods import METHODS
from models.checkpoint import STATE, read_tensors
from models.runtime.report import Reporter
from models.train import train
from tests.builders.jobs import train_job, training, write_job
from tests.conftest import REPOSITORY

PROGRAM = Path(__file__).parent / "ranks_program.py"
CASES = {name: (name, {}) for name, kind in METHODS.items() if kind.trains}
CASES |= {
    "ptum by row": ("ptum", {"lazy_items": True}),
    "byb by row": ("byb", {"lazy_items": True, "method": {"events": [3, 5], "hidden_weight": 0.0}}),
    "masked, all items, by row": ("masked", {"lazy_items": True}),  # a dense gradient
}
ENCODER_OF = {"next": "gru4rec", "barlow": "bag"}
OPTIONS = {"byb": {"events": [3, 5]}, "msdp": {"events": [3, 5]}}
READS = {"fields": ["item", "action", "text", "position"], "text": {"dropout": 0.0}}


def config(sequences: Path, out: Path, method: str, /, **changes) -> dict:
    encoder = ENCODER_OF.get(method, "bert4rec")
    common = {"recipe": f"{method}_{encoder}", "encoder": {"dropout": 0.0}, "epochs": 3}
    common |= {"method": OPTIONS.get(method, {})} | (READS if method == "ubm" else {})
    # parts of 18 and 17 users, and a last batch of 15
    return training(sequences, out, **(common | {"batch_size": 35} | changes))


def torchrun(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)} | environment,
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
def by_two(pointer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every objective trained by two ranks in double precision; a folder each."""
    folder = tmp_path_factory.mktemp("two")
    listed = [
        config(pointer, folder / case, method, **changes)
        for case, (method, changes) in CASES.items()
    ]
    (folder / "list.json").write_text(json.dumps(listed))
    done = torchrun(str(PROGRAM), str(folder / "list.json"), "float64")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_give_the_losses_and_weights_of_one_process(case, by_two, pointer, tmp_path):
    method, changes = CASES[case]
    train(train_job(config(pointer, tmp_path / "one", method, **changes)), Reporter())
    one, two = (pq.read_table(f / "curves.parquet") for f in (tmp_path / "one", by_two / case))
    assert json.loads((by_two / case / "metrics.json").read_text())["ranks"] == 2
    assert one.num_rows == two.num_rows == 12
    for column in ("loss", "gradient_norm", "spread", "effective_rank"):
        found, expected = (
            torch.tensor(table[column].drop_null().to_pylist(), dtype=torch.float64)
            for table in (two, one)
        )
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    weights = [read_tensors(f / "model.safetensors")[0] for f in (tmp_path / "one", by_two / case)]
    for name, expected in weights[0].items():
        assert expected.dtype == torch.float64
        torch.testing.assert_close(weights[1][name], expected, rtol=0, atol=2e-8, msg=name)


@pytest.mark.long
def test_two_ranks_killed_with_their_starter_resume_bit_for_bit(pointer, tmp_path):
    # So many steps that it cannot have ended before it is killed, however busy the machine is.
    changes = {"epochs": 16, "checkpoint_seconds": 0, "ema": 0.9, "precision": "bf16"}
    settings = config(pointer, tmp_path / "killed", "byb", **changes)
    state, process = tmp_path / "killed" / STATE, start(settings, tmp_path / "killed.json")
    while not (state.exists() and step_of(state) >= 9):
        assert process.poll() is None, (tmp_path / "killed.err").read_text()
        time.sleep(0.01)
    ranks = children_of(process.pid)
    assert len(ranks) >= 2
    process.kill()
    process.wait()
    for pid in ranks:
        wait_for_end(pid)
    assert not (tmp_path / "killed" / "config.json").exists()
    assert 9 <= step_of(state) < 64

    both = [settings | {"out": str(tmp_path / name)} for name in ("killed", "whole")]
    (tmp_path / "both.json").write_text(json.dumps(both))
    done = torchrun(str(PROGRAM), str(tmp_path / "both.json"), "float32")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"][:15] for line in lines if "text" in line] == ["resumed at step"]
    folders = [tmp_path / "killed", tmp_path / "whole"]
    weights = [read_tensors(folder / "model.safetensors")[0] for folder in folders]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    curves = [pq.read_table(folder / "curves.parquet") for folder in folders]
    assert curves[0].equals(curves[1])


def test_when_one_rank_fails_all_end_with_its_sentence(pointer, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", "coles")
    (tmp_path / "m_v1").mkdir()
    fault = tmp_path / "fault"
    with open(tmp_path / "m_v1" / "owner.lock", "w") as lock:  # the first rank alone asks for it
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = start(settings, tmp_path / "m.json", FOOTPATH_FAULT_FILE=str(fault))
        said, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert said == ""
    assert fault.exists(), (tmp_path / "m.err").read_text()
    assert "is being written by process 4711" in fault.read_text()


@pytest.mark.long
def test_a_lost_rank_ends_the_others(pointer, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", "coles", epochs=100_000, checkpoint_seconds=0)
    process = start(settings, tmp_path / "m.json")
    while not (tmp_path / "m_v1" / STATE).exists():
        assert process.poll() is None, (tmp_path / "m.err").read_text()
        time.sleep(0.02)
    ranks = children_of(process.pid)
    os.kill(ranks[1], signal.SIGKILL)
    assert process.wait(timeout=300) != 0
    for pid in ranks:
        wait_for_end(pid)


def start(settings: dict, path: Path, **environment: str) -> subprocess.Popen:
    """Starts two ranks as Dagster does."""
    write_job(train_job(settings), path)
    return subprocess.Popen(
        [sys.executable, "-m", "models.runtime.launch", "2", "models.train", str(path)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=open(path.with_suffix(".err"), "w"),
        text=True,
    )


def children_of(pid: int) -> list[int]:
    """Returns a process's children, in the order in which they were started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def step_of(state: Path) -> int:
    with safe_open(state, framework="pt") as file:
        return json.loads(file.metadata()["facts"])["step"]


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        assert time.monotonic() < deadline, pid
        time.sleep(0.02)
