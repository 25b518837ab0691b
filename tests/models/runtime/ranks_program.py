"""Trains the configurations of a JSON list one after the other; started by torchrun in the tests.

python -m torch.distributed.run --standalone --nproc_per_node 2 ranks_program.py LIST.json DTYPE
"""

import json
import sys
from pathlib import Path

import torch

from models.runtime.distributed import joined, rank
from models.runtime.report import Reporter
from models.train import train
from tests.builders.jobs import train_job

if __name__ == "__main__":
    torch.set_default_dtype(getattr(torch, sys.argv[2]))
    with joined():
        for settings in json.loads(Path(sys.argv[1]).read_text()):
            train(train_job(settings), Reporter(rank=rank()))
