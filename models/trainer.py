"""The one loop of pre-training: any objective, any encoder, any data.

Exact resume: batches and random numbers follow from (seed, epoch, user), dropout from (seed, step),
so the state to keep is the weights, the optimiser and the curves. A run that was killed and started
again gives the same losses and weights, bit for bit on the same CPU, as one that was not.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from contracts.errors import FootpathError
from models.checkpoint import (
    STATE,
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    write_tensors,
)
from models.config import TrainConfig, plain
from models.data import Sequences, epoch_batches
from models.draw import Draw, key_of
from models.health import effective_rank, spread
from models.objectives.base import Objective, Outcome
from models.optim import guarded_step, make_optimizer, schedule, set_lr
from models.packed import to_device
from models.report import Reporter
from models.user_model import UserModel

# What may differ between a run and the one that resumes it.
NOT_IDENTITY = {"sequences", "out", "checkpoint_seconds", "device", "threads"}


@dataclass
class History:
    """What happened so far; saved with the weights."""

    step: int
    seconds: float
    events: int
    losses_S: Tensor
    norms_S: Tensor
    health_E2: Tensor  # spread and effective rank of the user vectors, once an epoch

    def curves(self) -> pa.Table:
        """Returns loss and gradient norm of every step."""
        taken = slice(0, self.step)
        return pa.table(
            {
                "step": pa.array(range(self.step), pa.int64()),
                "loss": self.losses_S[taken].numpy(),
                "gradient_norm": self.norms_S[taken].numpy(),
            }
        )

    def summary(self, per_epoch: int) -> dict[str, float]:
        """Returns the figures that a run is judged by."""
        last = self.losses_S[max(0, self.step - per_epoch) : self.step]
        epochs = max(1, self.step // per_epoch)
        return {
            "loss": float(last.mean()),
            "first_loss": float(self.losses_S[0]),
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.events / max(self.seconds, 1e-9), 1),
            "spread": float(self.health_E2[epochs - 1, 0]),
            "effective_rank": float(self.health_E2[epochs - 1, 1]),
        }


class Trainer:
    """Trains a model by an objective on sequences, resuming what its folder holds."""

    def __init__(
        self, config: TrainConfig, sequences: Sequences, model: UserModel, objective: Objective
    ) -> None:
        self.config, self.sequences = config, sequences
        self.users = eligible_users(sequences, objective)
        whole, rest = divmod(len(self.users), config.batch_size)
        self.per_epoch = whole + (rest >= objective.min_users or not whole)
        self.steps = config.epochs * self.per_epoch
        self.model, self.objective = model, objective
        self.trained = nn.ModuleDict({"model": model, "objective": objective})
        self.optimizer = make_optimizer(
            self.trained, config.lr, config.weight_decay, config.item_lr_factor
        )
        self.device = next(model.parameters()).device
        self.history = History(
            0,
            0.0,
            0,
            torch.zeros(self.steps),
            torch.zeros(self.steps),
            torch.zeros(config.epochs, 2),
        )
        self._batches: tuple[int, list[np.ndarray]] = (-1, [])

    def fit(self, reporter: Reporter) -> History:
        """Trains to the end of the schedule, or of max_seconds."""
        if self._restore():
            reporter.say(f"resumed at step {self.history.step} of {self.steps}")
        self.trained.train()
        saved = begun = time.monotonic()
        earlier, events_before = self.history.seconds, self.history.events
        while self.history.step < self.steps and self._progress() < 1:
            loss = self.step()
            now = time.monotonic()
            self.history.seconds = earlier + now - begun
            rate = (self.history.events - events_before) / (now - begun)
            reporter.progress(
                self.history.step,
                self.steps,
                loss=loss,
                events_per_second=round(rate, 1),
                seconds_left=round(self._seconds_left(), 1),
            )
            if now - saved >= self.config.checkpoint_seconds:
                self._save()
                saved = now
        return self.history

    def step(self) -> float:
        """Trains on the next batch and returns its loss."""
        history, config = self.history, self.config
        epoch, nth = divmod(history.step, self.per_epoch)
        draw = Draw(config.seed, epoch, self._users_of(epoch)[nth])
        windows = self.sequences.random_windows(draw, config.max_length * self.objective.span)
        others = self.sequences.others(draw, self.objective.others)
        sample = to_device(self.objective.sample(windows, others, draw), self.device)
        torch.manual_seed(key_of(config.seed, history.step) >> 1)
        set_lr(self.optimizer, config.lr * schedule(self._progress(), config.warmup))
        outcome: Outcome = self.objective(self.model, sample)
        norm = guarded_step(self.optimizer, self.trained.parameters(), outcome.loss, config.clip)
        history.losses_S[history.step] = loss = float(outcome.loss.detach())
        history.norms_S[history.step] = norm
        if nth == max(0, self.per_epoch - 2):  # the last batch of an epoch may be small
            rank = effective_rank(outcome.users_BD)
            history.health_E2[epoch] = torch.tensor([spread(outcome.users_BD), rank])
        history.events += self.objective.encoded_events(sample)
        history.step += 1
        self.objective.after_step(self.model, self._progress())
        return loss

    def _users_of(self, epoch: int) -> list[np.ndarray]:
        if self._batches[0] != epoch:
            config = self.config
            batches = epoch_batches(self.users, config.batch_size, config.seed, epoch)
            self._batches = (epoch, batches[: self.per_epoch])
        return self._batches[1]

    def _progress(self) -> float:
        """The share of training that is done, by steps or, under max_seconds, by the clock."""
        by_steps = self.history.step / self.steps
        limit = self.config.max_seconds
        return max(by_steps, self.history.seconds / limit) if limit else by_steps

    def _seconds_left(self) -> float:
        progress = self._progress()
        return self.history.seconds * (1 - progress) / progress

    def _identity(self) -> str:
        settings = {k: v for k, v in plain(self.config).items() if k not in NOT_IDENTITY}
        return identity(settings | {"data": self.sequences.pointer["fingerprint"]})

    def _save(self) -> None:
        history = self.history
        facts = {"step": history.step, "seconds": history.seconds, "events": history.events}
        tensors = {f"trained.{k}": v for k, v in self.trained.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        tensors |= {f"history.{k}": getattr(history, k) for k in _CURVES}
        write_tensors(
            self.config.out / STATE,
            tensors,
            {"facts": json.dumps(facts), "identity": self._identity()},
        )

    def _restore(self) -> bool:
        path = self.config.out / STATE
        if not path.exists():
            return False
        tensors, texts = read_tensors(path)
        _same_identity(texts.get("identity"), self._identity(), path)
        prefix = "trained."
        self.trained.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        restore_optimizer(self.optimizer, tensors)
        facts = json.loads(texts["facts"])
        self.history = History(
            facts["step"],
            facts["seconds"],
            facts["events"],
            *[tensors[f"history.{name}"] for name in _CURVES],
        )
        return True


_CURVES = ("losses_S", "norms_S", "health_E2")


def eligible_users(sequences: Sequences, objective: Objective) -> np.ndarray:
    """Returns the rows of the users that have enough events for an objective.

    Raises:
      FootpathError: there are none, or there is nobody to tell them from.
    """
    users = np.flatnonzero(sequences.lengths >= objective.min_events)
    if len(users) == 0:
        raise FootpathError(
            f"{sequences.path}: no user has the {objective.min_events} events that the objective "
            f"needs: the longest history has {sequences.lengths.max()}"
        )
    if len(users) < objective.min_users:
        raise FootpathError(
            f"{sequences.path}: {len(users)} user has enough events, and the objective compares at "
            f"least {objective.min_users}"
        )
    if objective.others and np.count_nonzero(sequences.lengths) < 2:
        raise FootpathError(
            f"{sequences.path} has one user: the objective tells a user from others"
        )
    return users


def identity(settings: dict) -> str:
    """Returns a hash of settings, the same for equal ones."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _same_identity(found: str | None, expected: str, path: Path) -> None:
    if found != expected:
        raise FootpathError(
            f"{path} belongs to another configuration or other data: "
            f"choose another version, or remove {path.parent} to start again"
        )
