"""Early stopping without labels: who is held out, and what ends a training."""

import numpy as np
import torch

from models.data.sequences import open_sequences
from models.runtime.distributed import alone, gather, size
from models.runtime.report import Reporter
from models.train import build
from models.training.held_out import is_over, parted
from models.training.trainer import Trainer
from tests.builders.jobs import train_job


def trainer(tmp_path, pointer, **settings):
    asked = {"recipe": "future_bag", "sequences": pointer, "out": tmp_path, "dim": 16}
    job = train_job(asked | {"epochs": 6, "batch_size": 32, "prefetch": 0} | settings)
    sequences = open_sequences(pointer)
    return Trainer(job, sequences, *build(job, sequences))


def test_the_held_out_are_a_share_and_the_same_whoever_asks():
    users = np.arange(10_000)
    trained, out = parted(users, 0.1)
    assert abs(len(out) - 1000) < 100
    assert sorted([*trained, *out]) == users.tolist()
    assert set(parted(users[::2], 0.1)[1]) == set(out) & set(users[::2])


def test_no_held_out_user_is_in_a_batch_and_the_best_weights_are_kept(tmp_path, pointer):
    learner = trainer(tmp_path, pointer, validation={"patience": 2, "labels": None})
    out = parted(np.arange(120), 0.1)[1]
    seen = np.concatenate([batch for epoch in range(3) for batch in learner._users_of(epoch)])
    assert len(out) > 5
    assert not set(out) & set(seen)
    history = learner.fit(Reporter())
    losses = history.validation_E[~history.validation_E.isnan()]
    assert len(losses) >= 3
    assert learner.judge is not None
    assert abs(learner.judge.loss(learner.model) - float(losses.min())) < 1e-5


def test_without_it_all_users_are_trained_on(tmp_path, pointer):
    assert len(trainer(tmp_path, pointer).users) == 120


def test_what_was_not_measured_does_not_count_for_patience():
    nan = float("nan")
    assert not is_over(torch.tensor([nan, nan, nan]), 1)
    assert not is_over(torch.tensor([2.0, nan, 1.0, nan, 1.5]), 2)
    assert is_over(torch.tensor([2.0, nan, 1.0, nan, 1.5, 1.2]), 2)


def test_judging_in_one_rank_waits_for_no_other():
    assert size() == 1
    with alone():
        assert size() == 1
        rows = torch.ones(3, 2)
        assert gather(rows) is rows
