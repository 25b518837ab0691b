"""The one loop of pre-training: any objective, any encoder, any data, one process or many ranks.

Exact resume: batches and random numbers follow from (seed, epoch, user), dropout from (seed, step),
so the state to keep is the weights, the optimizer and the curves. A run that was killed and started
again gives the same losses and weights, bit for bit on the same CPU, as one that was not.

With `bag_epochs`, a bag stands in the encoder's place at first: what items mean is learnt there 10
to 25 times faster, and the encoder then starts from good event vectors. The bag is left behind.
"""

import contextlib
import dataclasses
import functools
import time
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from contracts.recipes.encoders import BagOptions
from contracts.recipes.jobs import TrainJob, training_identity
from contracts.recipes.recipe import Recipe
from models.checkpoint import STATE
from models.data.batching import epoch_batches, prefetched
from models.data.packed import pinned, to_device
from models.data.rng import Draw, key_of
from models.data.sequences import Sequences
from models.nn.encoders.bag import Bag
from models.nn.user_model import UserModel
from models.objectives.base import Objective, Outcome
from models.runtime.distributed import alone, gather, part, rank, size, total
from models.runtime.report import Reporter
from models.training.ema import Ema
from models.training.health import effective_rank, fault_of, spread
from models.training.held_out import HeldOutLoss, parted
from models.training.history import History
from models.training.optim import guarded_step, make_optimizer, schedule, set_lr
from models.training.precision import compile_fault, compiled, in_bf16
from models.training.resume import pause_after, restore_state, save_state


class Judge(Protocol):
    """What stops training early: it measures the weights between epochs."""

    fingerprint: str  # of what it measures by

    def is_due(self, epochs: int, planned: int) -> bool:
        """Whether to measure after so many epochs."""
        ...

    def loss(self, model: UserModel) -> float:
        """Measures the weights; the smaller the better."""
        ...

    def is_over(self, losses_E: Tensor) -> bool:
        """Whether to stop; what was not measured is not a number."""
        ...


class Trainer:
    """Trains a model by an objective on sequences, resuming what its folder holds."""

    def __init__(
        self,
        job: TrainJob,
        sequences: Sequences,
        model: UserModel,
        objective: Objective,
        judge: Judge | None = None,
    ) -> None:
        recipe = job.recipe
        is_timed = recipe.reads_clock or objective.cuts_by_time
        sequences = dataclasses.replace(
            sequences, has_clock=is_timed, has_sessions=objective.cuts_by_session
        )
        self.job, self.recipe, self.sequences = job, recipe, sequences
        self.users = eligible_users(sequences, objective)
        if recipe.validation and judge is None:
            self.users, judge = _judged(recipe, sequences, self.users, objective)
        if min(len(self.users), recipe.batch_size) < size():
            raise FootpathError(
                f"a batch of {min(len(self.users), recipe.batch_size)} users cannot be parted "
                f"among {size()} ranks: raise batch_size, or start fewer"
            )
        whole, rest = divmod(len(self.users), recipe.batch_size)
        self.per_epoch = whole + (rest >= max(objective.min_users, size()) or not whole)
        self.passes = recipe.passes(len(self.users))
        self.steps = self.passes * self.per_epoch
        self.model, self.objective = model, objective
        parts = {"model": model, "objective": objective}
        self.bag = None
        if recipe.bag_epochs:
            self.bag = _bag_for(model, objective)
            parts["bag"] = self.bag.encoder
        self.trained = nn.ModuleDict(parts)
        self.optimizer = make_optimizer(
            self.trained, recipe.lr, recipe.weight_decay, recipe.item_lr_factor
        )
        self.device = next(model.parameters()).device
        self.history = History.empty(self.steps, self.passes)
        self.ema = Ema(model, recipe.ema) if recipe.ema else None
        self.judge = judge
        labels = judge.fingerprint if judge else ""
        key = training_identity(recipe, job.seed, sequences.pointer["fingerprint"], labels)
        # Losses follow from how batches are parted among ranks as well.
        self.identity = f"{key}-{self.per_epoch}-{size()}"
        self.best: dict[str, Tensor] = {}
        self._batches: tuple[int, list[np.ndarray]] = (-1, [])
        self._since = 0.0
        if recipe.precision == "bf16":
            in_bf16(self.trained)
        if recipe.compile:
            compiled(self.trained)

    def fit(self, reporter: Reporter) -> History:
        """Trains to the end of the schedule, of max_seconds or of patience, and keeps the best."""
        history, runtime = self.history, self.job.runtime
        if self._restore():
            history = self.history
            reporter.say(f"resumed at step {history.step} of {self.steps}")
        self.trained.train()
        pause, saved = runtime.checkpoint_seconds, time.monotonic()
        begun = self._since = saved
        events_before = history.events
        with prefetched(self._sample, history.step, self.steps, runtime.prefetch) as samples:
            while not self._is_over():
                loss = self._learn(next(samples))
                now = time.monotonic()
                reporter.progress(
                    history.step,
                    self.steps,
                    loss=loss,
                    events_per_second=round((history.events - events_before) / (now - begun), 1),
                    seconds_left=round(self._seconds_left(), 1),
                )
                if history.step % self.per_epoch == 0:
                    self._end_epoch(history.step // self.per_epoch - 1, reporter)
                if rank() == 0 and now - saved >= pause:
                    self._save()
                    saved = time.monotonic()
                    pause = pause_after(saved - now, runtime.checkpoint_seconds)
        if kept := self.best or (self.ema.weights if self.ema else None):
            self.model.load_state_dict(kept)
        return history

    def step(self) -> float:
        """Trains on the next batch and returns its loss."""
        return self._learn(self._sample(self.history.step))

    def _sample(self, step: int) -> object:
        """Makes this rank's part of a batch, on the host; may run in a thread of its own."""
        epoch, nth = divmod(step, self.per_epoch)
        draw = Draw(self.job.seed, epoch, part(self._users_of(epoch)[nth]))
        sample = self.objective.read(self.sequences, draw)
        return pinned(sample) if self.device.type == "cuda" else sample

    def _learn(self, sample: object) -> float:
        history = self.history
        epoch, nth = divmod(history.step, self.per_epoch)
        on_device = to_device(sample, self.device)
        torch.manual_seed(key_of(self.job.seed, history.step, *([rank()] if rank() else [])) >> 1)
        set_lr(self.optimizer, self._lr())
        outcome, norm = self._stepped(on_device)
        loss, events, seconds = total(
            [
                float(outcome.loss.detach()) / size(),
                self.objective.encoded_events(sample),
                self._elapsed(),
            ]
        )
        history.losses_S[history.step] = loss
        history.norms_S[history.step] = norm
        if nth == max(0, self.per_epoch - 2):  # the last batch of an epoch may be small
            users_BD = gather(outcome.users_BD.detach())
            history.health_E2[epoch] = torch.tensor([spread(users_BD), effective_rank(users_BD)])
        history.events += int(events)
        history.seconds += seconds
        history.step += 1
        self.objective.after_step(self.model, self._progress())
        if self.ema:
            self.ema.follow(self.model, history.step)
        return loss

    def _stepped(self, sample: object) -> tuple[Outcome, float]:
        """Makes a step, and returns what the objective gave and the norm of the gradient."""
        weights, clip = self.trained.parameters(), self.recipe.clip
        before = functools.partial(self.objective.before_step, self.model)
        try:
            outcome = self.objective(self._taught(), sample)
            return outcome, guarded_step(self.optimizer, weights, outcome.loss, clip, before)
        except Exception as error:
            if self.recipe.compile and (fault := compile_fault(error)):
                raise fault from error
            raise

    def _taught(self) -> UserModel:
        """The model, or the bag over its event vectors that is trained before it."""
        if self.bag and self.history.step < self.recipe.bag_epochs * self.per_epoch:
            return self.bag
        return self.model

    def _lr(self) -> float:
        """The learning rate of the step: bag and encoder have a schedule each."""
        recipe, progress = self.recipe, self._progress()
        first = recipe.bag_epochs / self.passes
        factor = (recipe.batch_size / recipe.lr_users) ** 0.5 if recipe.lr_users else 1.0
        if self._taught() is self.bag:
            return factor * recipe.bag_lr * schedule(min(1.0, progress / first), recipe.warmup)
        shared = max(0.0, progress - first) / (1 - first)
        return factor * recipe.lr * schedule(shared, recipe.warmup)

    def _end_epoch(self, epoch: int, reporter: Reporter) -> None:
        history, recipe = self.history, self.recipe
        is_bag = epoch < recipe.bag_epochs
        if self.judge and not is_bag and self.judge.is_due(epoch + 1, self.passes):
            history.validation_E[epoch] = self._validation_loss(self.judge)
            if history.best_epoch() == epoch:
                weights = self.ema.weights if self.ema else self.model.state_dict()
                self.best = {name: value.clone() for name, value in weights.items()}
        found = history.epoch(epoch, self.per_epoch)
        reporter.epoch(epoch + 1, self.passes, **found)
        if len(self.users) >= 8 <= recipe.batch_size and (fault := fault_of(found, recipe)):
            if recipe.collapse == "stop":
                raise FootpathError(f"epoch {epoch + 1}: {fault}")
            reporter.warn(f"epoch {epoch + 1}: {fault}")

    def _validation_loss(self, judge: Judge) -> float:
        loss = 0.0
        if rank() == 0:
            weights = self.ema.within(self.model) if self.ema else contextlib.nullcontext()
            with alone(), weights:
                loss = judge.loss(self.model)
        self.trained.train()
        return total([loss])[0]

    def _users_of(self, epoch: int) -> list[np.ndarray]:
        if self._batches[0] != epoch:
            batches = epoch_batches(self.users, self.recipe.batch_size, self.job.seed, epoch)
            self._batches = (epoch, batches[: self.per_epoch])
        return self._batches[1]

    def _is_over(self) -> bool:
        if self.judge and self.judge.is_over(self.history.validation_E):
            return True
        return self.history.step >= self.steps or self._progress() >= 1

    def _elapsed(self) -> float:
        """The first rank's seconds since it last asked; ranks then share one clock."""
        now = time.monotonic()
        since, self._since = self._since or now, now
        return now - since if rank() == 0 else 0.0

    def _progress(self) -> float:
        """The share of training that is done, by steps or, under max_seconds, by the clock."""
        by_steps = self.history.step / self.steps
        limit = self.recipe.max_seconds
        return max(by_steps, self.history.seconds / limit) if limit else by_steps

    def _seconds_left(self) -> float:
        progress = self._progress()
        return self.history.seconds * (1 - progress) / progress

    def _save(self) -> None:
        kept = {"best": self.best} if self.best else {}
        if self.ema:
            kept["ema"] = self.ema.weights
        path = self.job.io.out / STATE
        save_state(path, self.identity, self.history, self.trained, self.optimizer, kept)

    def _restore(self) -> bool:
        path = self.job.io.out / STATE
        if not path.exists():
            return False
        self.history, kept = restore_state(path, self.identity, self.trained, self.optimizer)
        self.best = kept.get("best", {})
        if self.ema:
            self.ema.load(kept["ema"])
        return True


def _judged(
    recipe: Recipe, sequences: Sequences, users_U: np.ndarray, objective: Objective
) -> tuple[np.ndarray, HeldOutLoss | None]:
    """Holds some users out to judge the rest by; nobody, where too few are left to do so."""
    stopping = recipe.validation
    assert stopping is not None
    trained, out = parted(users_U, stopping.held_out)
    if min(len(out), len(trained)) < max(objective.min_users, 2):
        return users_U, None
    return trained, HeldOutLoss(stopping, sequences, out, objective, recipe.batch_size)


def _bag_for(model: UserModel, objective: Objective) -> UserModel:
    """A bag over the event vectors of a model.

    Raises:
      FootpathError: the objective needs the encoder itself.
    """
    if objective.needs_encoder:
        raise FootpathError(
            "bag_epochs: this method works inside the encoder, so a bag cannot stand in its place: "
            "leave bag_epochs at 0"
        )
    encoder = Bag(model.config.dim, BagOptions())
    return UserModel(model.config, model.behavior, encoder.to(next(model.parameters()).device))


def eligible_users(sequences: Sequences, objective: Objective) -> np.ndarray:
    """The rows of the users that have enough events for an objective.

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
