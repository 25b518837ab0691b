"""BYB: a student predicts a teacher's embedding of everything in a future window.

Wu et al., Bootstrapping your behavior, arXiv 2506.11053. Of the paper the abstract is public: a
student and a teacher, a supervision embedding that sums up all behaviours of a future time window,
no behaviour vocabulary. The rest is a reconstruction, and every open choice is an option:

  history cut at T -> past (what the student sees, in part hidden) | future window (the teacher's)
  student: encoder -> projector -> predictor, told by a prompt which window is meant
  teacher: encoder -> projector, an exponential moving average of the student's, no gradient
  loss:    byol  2 - 2 cos(prediction, target)        (Grill et al., 2020)
           dino  cross-entropy of sharpened, centred targets     (Caron et al., 2021)
  helper:  hidden past events are predicted over the item vocabulary (weight hidden_weight)

A user whose window holds no event is left out of the first loss: there is nothing to predict an
embedding of. `empty` in the figures tells how many.

Shapes: B users, F users with a future, N hidden events, D width, P projected.
"""

import copy
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.distributed import gather
from models.draw import Draw
from models.objectives.barlow_twins import projector
from models.objectives.base import Objective, Outcome
from models.objectives.hidden_events import HiddenEvents, hidden_events, hidden_loss
from models.objectives.views import cut_in_two, hidden
from models.packed import Events, Packed, pack
from models.user_model import ModelConfig, UserModel, build_model

SECONDS_A_DAY = 86_400
TEACHER_TEMPERATURE, STUDENT_TEMPERATURE, CENTRE_MOMENTUM = 0.05, 0.1, 0.9  # DINO's


@dataclass(frozen=True)
class Options:
    """Windows, guards against collapse, and the two losses."""

    events: tuple[int, ...] = (10, 30, 50)  # windows by count; one is drawn for each user and step
    days: tuple[float, ...] = ()  # windows by time, drawn alike
    loss: Literal["byol", "dino"] = "byol"
    projector: int = 256
    momentum: float = 0.99  # of the teacher at first; it rises to 1 as a cosine
    hide_share: float = 0.5  # of the student's events
    hidden_weight: float = 1.0  # of the helper loss; 0.3 measured worse
    span: int = 2  # histories are cut within so many times max_length events

    def __post_init__(self) -> None:
        if not self.events and not self.days:
            raise ValueError("events and days are both empty: give a window")
        if min((*self.events, *self.days)) <= 0:
            raise ValueError("windows must be above 0")
        if not 0 <= self.hide_share < 1 or not 0 <= self.momentum <= 1:
            raise ValueError("hide_share and momentum must be shares")
        if min(self.projector, self.span) < 1 or self.hidden_weight < 0:
            raise ValueError("projector and span must be 1 or more, hidden_weight not negative")


@dataclass(frozen=True)
class Sample:
    """What the student and the teacher see."""

    past: Packed  # B sequences
    future: Packed | None  # F sequences; None if no window holds an event
    user_F: Tensor  # whose future each is
    window_B: Tensor  # which window was drawn, as an index into events + days
    hidden: HiddenEvents


class Byb(Objective):
    """The student meets the future through the teacher's eyes."""

    options_class = Options
    has_begun: Tensor
    centre_P: Tensor

    def __init__(self, model: ModelConfig, options: Options) -> None:
        super().__init__(model, options)
        self.min_events = self.min_users = 2
        self.span = options.span
        width = options.projector
        self.prompt = nn.Embedding(len(options.events) + len(options.days), model.dim)
        nn.init.normal_(self.prompt.weight, std=0.02)
        self.projector = projector(model.dim, width)
        self.predictor = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )
        self.teacher = build_model(model).requires_grad_(False)
        self.teacher_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.register_buffer("has_begun", torch.tensor(False))
        self.register_buffer("centre_P", torch.zeros(width))

    def train(self, mode: bool = True) -> "Byb":
        """Keeps dropout away from the teacher, whose targets shall not be noisy."""
        super().train(mode)
        self.teacher.eval()
        return self

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Cuts each history in two, and hides part of the past."""
        past, cut_B = cut_in_two(windows, draw, self.model_config.max_length)
        choices = np.full(len(cut_B), len(self.options.events) + len(self.options.days))
        window_B = torch.from_numpy(draw.integers("window kind", choices)[:, 0])
        future_B = self._future_events(windows, cut_B, window_B)
        user_F = torch.nonzero(future_B)[:, 0]
        future = None
        if len(user_F):
            future = pack(windows.cut(user_F, cut_B[user_F], future_B[user_F]))
        student = hidden(past, draw, "student", self.options.hide_share)
        return Sample(
            past=pack(student),
            future=future,
            user_F=user_F,
            window_B=window_B,
            hidden=hidden_events(past, student),
        )

    def _future_events(self, windows: Events, cut_B: Tensor, window_B: Tensor) -> Tensor:
        """Returns how many events after the cut lie in each user's window, as many as are seen."""
        endless = [math.inf] * max(len(self.options.events), len(self.options.days))
        events = torch.tensor([*self.options.events, *endless[: len(self.options.days)]])
        days = torch.tensor([*endless[: len(self.options.events)], *self.options.days])
        cut_at_B = windows.time_T[windows.starts_B + cut_B - 1]
        after_T = (windows.time_T - cut_at_B[windows.sequence_T]).double()
        is_future = windows.position_T >= cut_B[windows.sequence_T]
        limit_T = (days[window_B].double() * SECONDS_A_DAY)[windows.sequence_T]
        counted = windows.sequence_T[is_future & (after_T <= limit_T)]
        in_time_B = torch.bincount(counted, minlength=len(cut_B))
        most_B = events[window_B].clamp(max=self.model_config.max_length).long()
        return torch.minimum(in_time_B, most_B)

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Compares the student's prediction with what the teacher makes of the future."""
        if not self.has_begun:
            self._follow(model, momentum=0.0)
        users_BD = model(sample.past)
        figures = {"empty": torch.tensor(1 - len(sample.user_F) / len(users_BD))}
        loss = 0 * users_BD.sum()
        prompt_FD = self.prompt(sample.window_B[sample.user_F])
        student_FD = gather(users_BD[sample.user_F] + prompt_FD)
        teacher_FD = gather(self._future(sample, users_BD))
        if len(student_FD) > 1:  # batch statistics need two
            predicted_FP = self.predictor(self.projector(student_FD))
            with torch.no_grad():
                target_FP = self.teacher_projector(teacher_FD)
            loss = loss + self._distance(predicted_FP, target_FP)
            figures["future_loss"] = loss.detach()
            figures["target_spread"] = F.normalize(target_FP, dim=1).std(0).mean()
        if self.options.hidden_weight:
            helper = hidden_loss(model, users_BD, sample.hidden)
            loss = loss + self.options.hidden_weight * helper
            figures["hidden_loss"] = helper.detach()
        return Outcome(loss, users_BD, figures)

    @torch.no_grad()
    def _future(self, sample: Sample, users_BD: Tensor) -> Tensor:
        """Returns what the teacher makes of each future window [F, D]."""
        return users_BD[:0].detach() if sample.future is None else self.teacher(sample.future)

    def _distance(self, predicted_FP: Tensor, target_FP: Tensor) -> Tensor:
        if self.options.loss == "byol":
            return 2 - 2 * F.cosine_similarity(predicted_FP, target_FP, dim=1).mean()
        shares_FP = ((target_FP - self.centre_P) / TEACHER_TEMPERATURE).softmax(dim=1)
        if self.training:
            self.centre_P.lerp_(target_FP.mean(dim=0), 1 - CENTRE_MOMENTUM)
        told_FP = (predicted_FP / STUDENT_TEMPERATURE).log_softmax(dim=1)
        return -(shares_FP * told_FP).sum(dim=1).mean()

    def encoded_events(self, sample: Sample) -> int:
        """Returns the events of past and future."""
        return len(sample.past.item_T) + (len(sample.future.item_T) if sample.future else 0)

    def after_step(self, model: UserModel, progress: float) -> None:
        """Lets the teacher follow the student."""
        rest = (1 - self.options.momentum) * (math.cos(math.pi * min(1.0, progress)) + 1) / 2
        self._follow(model, momentum=1 - rest)

    @torch.no_grad()
    def _follow(self, model: UserModel, momentum: float) -> None:
        pairs = [(self.teacher, model), (self.teacher_projector, self.projector)]
        for teacher, student in pairs:
            for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.lerp_(its, 1 - momentum)
        self.has_begun.fill_(True)
