"""Device faults, found without a GPU: all that runs on one runs on one that is not there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import REPOSITORY

MIXTURES = 10  # that a GPU refuses; the cases after them it takes


def run(folder: Path) -> dict[str, dict]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.runtime.pretend_program", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text())


def test_on_a_gpu_everything_runs_and_gives_what_a_cpu_gives(tmp_path):
    found = run(tmp_path)
    mixtures = found.pop("mixtures")
    assert mixtures["gpu"] == [1.0] * MIXTURES + [0.0] * (len(mixtures["cpu"]) - MIXTURES)
    assert not any(mixtures["cpu"])
    faults = [f"{name}\n{case['fault']}" for name, case in found.items() if "fault" in case]
    assert not faults, "\n".join(faults)
    for name, case in found.items():
        # The bag of the run that is interrupted drops out, and a GPU draws other numbers for that.
        rough = 2e-2 if name.startswith(("bf16", "an interrupted")) else 1e-4
        np.testing.assert_allclose(case["gpu"], case["cpu"], rtol=rough, atol=rough, err_msg=name)
