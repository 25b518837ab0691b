import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_file
from models.checkpoint import load_checkpoint, read_tensors
from models.runtime.report import Reporter
from models.train import train
from tests.builders.jobs import train_job, training, write_job
from tests.conftest import REPOSITORY

KILLED_AT_STEP_13 = """
import os, signal, sys
from pathlib import Path
from contracts.recipes.jobs import TrainJob, load_job
from models.runtime.report import Reporter
from models.train import train

class Killed(Reporter):
    def progress(self, step, steps, **figures):
        if step == 13:  # learnt, and not saved yet
            os.kill(os.getpid(), signal.SIGKILL)

train(load_job(TrainJob, Path(sys.argv[1])), Killed())
"""


config = partial(training, recipe="ptum_bert4rec")


def run(settings: dict) -> dict:
    return train(train_job(settings), Reporter())


def command(settings: dict, path: Path) -> list[str]:
    return [sys.executable, "-m", "models.train", str(write_job(train_job(settings), path))]


def test_a_killed_run_resumes_to_the_same_losses_and_weights_bit_for_bit(pointer, tmp_path):
    settings = config(pointer, tmp_path / "killed_v1", epochs=10, checkpoint_seconds=0)
    arguments = command(settings, tmp_path / "config.json")
    # It kills itself, for a test that watches it may be late on a busy machine.
    killed = [sys.executable, "-c", KILLED_AT_STEP_13, arguments[-1]]
    assert subprocess.run(killed, cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed_v1" / "config.json").exists()

    settings["checkpoint_seconds"] = 1e6
    arguments = command(settings, tmp_path / "config.json")
    again = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert lines[0]["text"] == "resumed at step 12 of 80"
    assert lines[-1]["kind"] == "result"

    run(settings | {"out": str(tmp_path / "whole_v1")})
    one, two = (load_checkpoint(tmp_path / name).model for name in ("killed_v1", "whole_v1"))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name]), name
    curves = [pq.read_table(tmp_path / n / "curves.parquet") for n in ("killed_v1", "whole_v1")]
    assert curves[0].equals(curves[1])
    assert curves[0].num_rows == 80


def test_ptum_learns_the_planted_pattern(pointer, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", epochs=15, lr=0.01)
    result = run(settings)
    knowing_nothing = 2 * torch.log(torch.tensor(5.0))
    assert result["first_loss"] == pytest.approx(float(knowing_nothing), rel=0.05)
    assert result["loss"] < 0.85 * knowing_nothing
    assert result["effective_rank"] > 2
    assert result["spread"] > 0


@pytest.mark.parametrize("encoder", ["bert4rec", "gru4rec"])
def test_a_finished_checkpoint_says_what_it_is_and_unpickles_nothing(pointer, tmp_path, encoder):
    settings = config(pointer, tmp_path / "m_v1", epochs=1, recipe=f"ptum_{encoder}")
    result = run(settings)
    folder = tmp_path / "m_v1"
    names = {path.name for path in folder.iterdir()}
    expected = {"config.json", "model.safetensors", "vocabulary.json", "metrics.json"}
    assert names == expected | {"curves.parquet", "owner.lock"}
    found = json.loads((folder / "config.json").read_text())
    assert found["format"] == 2
    assert found["recipe"]["method"]["name"] == "ptum"
    assert found["recipe"]["encoder"]["name"] == encoder
    assert found["train_cutoff"] == "2026-02-01T00:00:00+00:00"
    assert found["vocabulary_hash"] == hash_file(folder / "vocabulary.json")
    assert str(tmp_path) not in (folder / "config.json").read_text()
    assert found["data_fingerprint"].startswith("data-")
    assert found["recipe"]["method"]["negatives"] == 4  # a default
    assert json.loads((folder / "metrics.json").read_text())["loss"] == result["loss"]
    loaded = load_checkpoint(folder).model.state_dict()
    stored, _ = read_tensors(folder / "model.safetensors")
    assert all(torch.equal(loaded[name], stored[name]) for name in loaded)


def test_a_finished_version_is_not_trained_again_and_never_overwritten(pointer, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", epochs=1)
    first = run(settings)
    stamp = (tmp_path / "m_v1" / "model.safetensors").stat().st_mtime_ns
    assert run(settings)["loss"] == first["loss"]
    assert (tmp_path / "m_v1" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(FootpathError, match=r"whose lr is 0\.001, and 0\.5 is asked for"):
        run(settings | {"lr": 0.5})


def test_a_model_is_known_by_its_content_wherever_it_and_its_data_lie(pointer, tmp_path):
    settings = config(pointer, tmp_path / "here" / "m_v1", epochs=1)
    first = run(settings)
    shutil.copytree(pointer.parent, tmp_path / "moved" / "sequences")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "moved" / "sequences" / pointer.name
    settings |= {"sequences": moved, "out": tmp_path / "there" / "m_v2"}
    (tmp_path / "there" / "m_v1").rename(settings["out"])
    stamp = (settings["out"] / "model.safetensors").stat().st_mtime_ns
    again = run(settings | {"threads": 2, "prefetch": 0})
    assert again["loss"] == first["loss"]
    assert (settings["out"] / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_finished_model_of_other_options_is_named_by_the_first_that_differs(pointer, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", epochs=1)
    run(settings)
    with pytest.raises(FootpathError, match=r"whose method is .*choose another version"):
        run(settings | {"method": {"hide_share": 0.5}})
    with pytest.raises(FootpathError, match=r"whose encoder is .*bert4rec.*, and .*gru4rec"):
        run(settings | {"recipe": "ptum_gru4rec"})
    with pytest.raises(FootpathError, match="whose seed is 0, and 1 is asked for"):
        run(settings | {"seed": 1})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 1}, "is of format 1, and format 2 is read here: train the model again"),
        ({"recipe": {"method": "ptum"}}, "recipe.encoder: .*: train the model again"),
    ],
)
def test_a_checkpoint_of_another_format_says_what_to_rebuild(pointer, tmp_path, change, sentence):
    run(config(pointer, tmp_path / "m_v1", recipe="none_bag"))
    path = tmp_path / "m_v1" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FootpathError, match=sentence):
        load_checkpoint(tmp_path / "m_v1")


def test_a_vocabulary_that_is_not_the_checkpoints_is_a_sentence(pointer, tmp_path):
    run(config(pointer, tmp_path / "m_v1", recipe="none_bag"))
    path = tmp_path / "m_v1" / "vocabulary.json"
    path.write_text(path.read_text().replace("item-7", "item-8"))
    with pytest.raises(FootpathError, match=r"vocabulary\.json is missing or damaged"):
        load_checkpoint(tmp_path / "m_v1")


def test_an_unfinished_version_is_not_continued_with_another_configuration(pointer, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", checkpoint_seconds=0)
    path = tmp_path / "config.json"
    process = subprocess.Popen(command(settings | {"epochs": 5000}, path), cwd=REPOSITORY)
    state = tmp_path / "m_v1" / "state.safetensors"
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    with pytest.raises(FootpathError, match="belongs to another configuration or other data"):
        run(settings)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(FootpathError, match=r"state\.safetensors is damaged"):
        run(settings | {"epochs": 5000})


def test_no_pretraining_writes_a_random_checkpoint_at_once(pointer, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", recipe="none_gru4rec")
    assert "loss" not in run(settings)
    model = load_checkpoint(tmp_path / "m_v1").model
    run(settings | {"out": str(tmp_path / "m_v2")})
    again = load_checkpoint(tmp_path / "m_v2").model
    assert torch.equal(model.behavior.items(), again.behavior.items())
    run(settings | {"out": str(tmp_path / "m_v3"), "seed": 1})
    other = load_checkpoint(tmp_path / "m_v3").model
    assert not torch.equal(model.behavior.items(), other.behavior.items())


def test_a_folder_has_one_writer(pointer, tmp_path):
    folder = tmp_path / "m_v1"
    folder.mkdir()
    with open(folder / "owner.lock", "w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FootpathError, match="is being written by process 4711"):
            run(config(pointer, folder))
    run(config(pointer, folder, epochs=1))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-7]), "is damaged"),
        (lambda f: f.write_bytes(b"\x80\x04." + f.read_bytes()[3:]), "is damaged"),
        (lambda f: f.unlink(), "is missing"),
    ],
)
def test_a_damaged_checkpoint_is_a_sentence(pointer, tmp_path, damage, sentence):
    run(config(pointer, tmp_path / "m_v1", recipe="none_bert4rec"))
    damage(tmp_path / "m_v1" / "model.safetensors")
    with pytest.raises(FootpathError, match=sentence):
        load_checkpoint(tmp_path / "m_v1")


def test_divergence_stops_with_a_sentence(pointer, tmp_path):
    with pytest.raises(FootpathError, match=r"training diverged: loss .* lower the learning rate"):
        run(config(pointer, tmp_path / "m_v1", lr=1e30, clip=0, warmup=0))


def test_users_with_too_few_events_are_a_sentence(make_sequences, tmp_path):
    with pytest.raises(FootpathError, match="no user has the 3 events that the objective needs"):
        run(config(make_sequences([1, 1, 2]), tmp_path / "m_v1"))


def test_users_with_one_event_do_not_stop_the_others(make_sequences, tmp_path):
    result = run(config(make_sequences([1, 9, 1, 12, 2]), tmp_path / "m_v1", epochs=2))
    assert result["users"] == 5
    assert result["steps"] == 2


def test_one_user_cannot_be_told_from_others(make_sequences, tmp_path):
    with pytest.raises(FootpathError, match="has one user"):
        run(config(make_sequences([12]), tmp_path / "m_v1"))


def test_a_fault_ends_the_program_with_one_sentence_and_no_traceback(pointer, tmp_path):
    arguments = command(config(pointer, tmp_path / "m_v1"), tmp_path / "config.json")
    job = json.loads((tmp_path / "config.json").read_text())
    job["recipe"]["batchsize"] = 3
    (tmp_path / "config.json").write_text(json.dumps(job))
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines() == [
        f"{tmp_path}/config.json: recipe.batchsize: there is no such field: "
        "did you mean 'batch_size'?"
    ]


def test_the_program_dies_with_its_parent(tmp_path):
    child = (
        "import time; from models.runtime.report import die_with_parent; "
        "die_with_parent(); print(1, flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    environment = os.environ | {"FOOTPATH_DIE_WITH_PARENT": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE
    )
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
