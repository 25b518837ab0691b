"""BYB: a student predicts a teacher's embedding of everything in a future window.

Wu et al., Bootstrapping your behavior, arXiv 2506.11053. Of the paper the abstract is public: a
student and a teacher, a supervision embedding that sums up all behaviors of a future time window,
no behavior vocabulary. The rest is a reconstruction, and every open choice is an option:

  history cut at T -> past (what the student sees, in part hidden) | future window (the teacher's)
           T is a place between two events, or an instant of the user's time (`cut`)
  student: encoder -> projector -> predictor, told by a prompt which window is meant
  teacher: encoder -> projector, an exponential moving average of the student's, no gradient
  loss:    byol  2 - 2 cos(prediction, target)        (Grill et al., 2020)
           dino  cross-entropy of sharpened, centered targets     (Caron et al., 2021)
  helper:  hidden past events are predicted over the item vocabulary (weight hidden_weight)

Cut in time, a user may have been silent for long when they are looked at, and stay so. What is then
predicted is a vector of the teacher's that stands for "nothing happened". It is the same for all,
so all could end there: the silent weigh at most `empty_share` of the first loss. Cut between two
events, a user whose window of days holds none is left out of that loss. `empty` in the figures
tells how many have no event in their window.

Shapes: B users, F users with a future, E silent ones, C = F + E compared, N hidden events, D width,
P projected.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.recipes.methods import BybOptions
from models.data.packed import Events, Packed, pack
from models.data.rng import Draw
from models.nn.row_average import RowAverage
from models.nn.user_model import ModelConfig, UserModel, build_model
from models.objectives.barlow_twins import projector
from models.objectives.base import Objective, Outcome
from models.objectives.hidden_events import HiddenEvents, hidden_events, hidden_loss
from models.objectives.views import cut_in_time, cut_in_two, hidden
from models.runtime.distributed import gather

SECONDS_A_DAY = 86_400
TEACHER_TEMPERATURE, STUDENT_TEMPERATURE, CENTRE_MOMENTUM = 0.05, 0.1, 0.9  # DINO's


@dataclass(frozen=True)
class Sample:
    """What the student and the teacher see."""

    past: Packed  # B sequences
    future: Packed | None  # F sequences; None if no window holds an event
    user_F: Tensor  # whose future each is
    silent_E: Tensor  # users of whom it is known that nothing happened in their window
    window_B: Tensor  # which window was drawn, as an index into events + days
    hidden: HiddenEvents


class Byb(Objective):
    """The student meets the future through the teacher's eyes."""

    needs_encoder = True
    has_begun: Tensor
    center_P: Tensor
    nothing_D: Tensor  # the teacher's vector of an empty window: any that is as long as others

    def __init__(self, model: ModelConfig, options: BybOptions) -> None:
        super().__init__(model, options)
        self.min_users = 2
        self.cuts_by_time = options.cut == "time"
        self.min_events = 1 if self.cuts_by_time else 2
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
        self.item_average = RowAverage(model.sizes["item"]) if _is_by_row(self.teacher) else None
        self.register_buffer("has_begun", torch.tensor(False))
        self.register_buffer("center_P", torch.zeros(width))
        if self.cuts_by_time:
            self.register_buffer("nothing_D", torch.randn(model.dim))

    def train(self, mode: bool = True) -> "Byb":
        """Keeps dropout away from the teacher, whose targets shall not be noisy."""
        super().train(mode)
        self.teacher.eval()
        return self

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Cuts each history in two, and hides part of the past."""
        longest, options = self.model_config.max_length, self.options
        choices = np.full(len(windows.lengths_B), len(options.events) + len(options.days))
        window_B = torch.from_numpy(draw.integers("window kind", choices)[:, 0])
        seconds_B = self._seconds(window_B)
        if self.cuts_by_time:
            ahead_B = seconds_B.nan_to_num(posinf=0.0).long()
            past, cut_B, at_B = cut_in_time(windows, draw, longest, ahead_B)
        else:
            past, cut_B = cut_in_two(windows, draw, longest)
            at_B = windows.time_T[windows.starts_B + cut_B - 1]
        future_B = self._future_events(windows, cut_B, window_B, at_B + seconds_B)
        user_F = torch.nonzero(future_B)[:, 0]
        future, silent_E = None, user_F[:0]
        if len(user_F):
            events = windows.cut(user_F, cut_B[user_F], future_B[user_F])
            future = pack(self._seen_at_its_end(events, (at_B + seconds_B)[user_F]))
        if self.cuts_by_time and options.empty_share:
            silent_E = self._silent(windows, future_B, at_B + seconds_B)
        student = hidden(past, draw, "student", options.hide_share)
        return Sample(
            past=pack(student),
            future=future,
            user_F=user_F,
            silent_E=silent_E,
            window_B=window_B,
            hidden=hidden_events(past, student),
        )

    def _seconds(self, window_B: Tensor) -> Tensor:
        """How long each user's window is, float64 [B]: endless where it counts events."""
        days = [math.inf] * len(self.options.events) + list(self.options.days)
        return torch.tensor(days, dtype=torch.float64)[window_B] * SECONDS_A_DAY

    def _future_events(
        self, windows: Events, cut_B: Tensor, window_B: Tensor, end_B: Tensor
    ) -> Tensor:
        """How many events after the cut lie in each user's window, as many as are seen."""
        most = [*self.options.events, *[math.inf] * len(self.options.days)]
        is_future = windows.position_T >= cut_B[windows.sequence_T]
        counted = windows.sequence_T[is_future & (windows.time_T <= end_B[windows.sequence_T])]
        in_time_B = torch.bincount(counted, minlength=len(cut_B))
        most_B = torch.tensor(most)[window_B].clamp(max=self.model_config.max_length).long()
        return torch.minimum(in_time_B, most_B)

    def _seen_at_its_end(self, future: Events, end_F: Tensor) -> Events:
        """Lets the teacher look at windows of days when they are over, or known no further."""
        if future.clock is None or not self.cuts_by_time:
            return future
        # The next event, or the end of what is known, may come before the window is over.
        over_F = torch.minimum(end_F, future.clock.horizon_B.double())
        return future.seen_at(torch.where(end_F.isfinite(), over_F.long(), future.clock.now_B))

    def _silent(self, windows: Events, future_B: Tensor, end_B: Tensor) -> Tensor:
        """The users in whose windows nothing happened, as far as these are known."""
        assert windows.clock is not None
        is_known_B = end_B < windows.clock.horizon_B
        return torch.nonzero((future_B == 0) & is_known_B)[:, 0]

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Compares the student's prediction with what the teacher makes of the future."""
        if not self.has_begun:
            self._follow(model, momentum=0.0)
        users_BD = model(sample.past)
        figures = {"empty": torch.tensor(1 - len(sample.user_F) / len(users_BD))}
        loss = 0 * users_BD.sum()
        user_C = torch.cat([sample.user_F, sample.silent_E])
        student_CD = gather(users_BD[user_C] + self.prompt(sample.window_B[user_C]))
        teacher_CD = gather(self._future(model, sample, users_BD))
        is_silent_C = gather(torch.arange(len(user_C), device=user_C.device) >= len(sample.user_F))
        if len(student_CD) > 1:  # batch statistics need two
            predicted_CP = self.predictor(self.projector(student_CD))
            with torch.no_grad():
                target_CP = self.teacher_projector(teacher_CD)
            weight_C = _weights(is_silent_C, self.options.empty_share)
            loss = loss + (weight_C * self._distances(predicted_CP, target_CP)).sum()
            figures["future_loss"] = loss.detach()
            figures["target_spread"] = F.normalize(target_CP, dim=1).std(0).mean()
        if self.options.hidden_weight:
            helper = hidden_loss(model, users_BD, sample.hidden)
            loss = loss + self.options.hidden_weight * helper
            figures["hidden_loss"] = helper.detach()
        return Outcome(loss, users_BD, figures)

    @torch.no_grad()
    def _future(self, model: UserModel, sample: Sample, users_BD: Tensor) -> Tensor:
        """What the teacher makes of each future window, and of each empty one [C, D]."""
        if self.item_average:  # the same rows on every rank, or their teachers would round apart
            item_T = sample.user_F[:0] if sample.future is None else sample.future.item_T
            self._catch_up(model, gather(torch.unique(item_T)))
        seen = users_BD[:0].detach() if sample.future is None else self.teacher(sample.future)
        if not len(sample.silent_E):
            return seen
        return torch.cat([seen, self.nothing_D.to(seen.dtype).expand(len(sample.silent_E), -1)])

    def _distances(self, predicted_CP: Tensor, target_CP: Tensor) -> Tensor:
        """How far each prediction is from its target [C]."""
        if self.options.loss == "byol":
            return 2 - 2 * F.cosine_similarity(predicted_CP, target_CP, dim=1)
        shares_CP = ((target_CP - self.center_P) / TEACHER_TEMPERATURE).softmax(dim=1)
        if self.training:
            self.center_P.lerp_(target_CP.mean(dim=0), 1 - CENTRE_MOMENTUM)
        told_CP = (predicted_CP / STUDENT_TEMPERATURE).log_softmax(dim=1)
        return -(shares_CP * told_CP).sum(dim=1)

    def encoded_events(self, sample: Sample) -> int:
        """The events of past and future."""
        return len(sample.past.item_T) + (len(sample.future.item_T) if sample.future else 0)

    def before_step(self, model: UserModel) -> None:
        """Brings the teacher's items up to date that the student is about to change."""
        gradient = model.behavior.tables["item"].grad if self.item_average else None
        if gradient is not None:
            is_sparse = gradient.is_sparse
            self._catch_up(model, gradient.coalesce().indices()[0] if is_sparse else slice(None))

    def after_step(self, model: UserModel, progress: float) -> None:
        """Lets the teacher follow the student."""
        rest = (1 - self.options.momentum) * (math.cos(math.pi * min(1.0, progress)) + 1) / 2
        self._follow(model, momentum=1 - rest)

    @torch.no_grad()
    def _follow(self, model: UserModel, momentum: float) -> None:
        average = self.item_average if self.has_begun else None
        items = self.teacher.behavior.tables["item"] if average else None
        pairs = [(self.teacher, model), (self.teacher_projector, self.projector)]
        for teacher, student in pairs:
            for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
                if mine is not items:
                    mine.lerp_(its, 1 - momentum)
        if average:
            average.follow(momentum)
        self.has_begun.fill_(True)

    def _catch_up(self, model: UserModel, row_U: Tensor | slice) -> None:
        if self.item_average:
            its, mine = (m.behavior.tables["item"] for m in (model, self.teacher))
            self.item_average.catch_up(mine, its, row_U)


def _is_by_row(teacher: UserModel) -> bool:
    return teacher.config.is_lazy and "item" in teacher.behavior.tables


def _weights(is_silent_C: Tensor, share: float) -> Tensor:
    """What each user weighs: 1 / C, the silent less where they would be above their share.

    Where nobody has a future, nothing is learnt: one target alone draws all users to it.
    """
    silent, seen = is_silent_C.sum(), (~is_silent_C).sum()
    most = share / (1 - share) * seen / silent.clamp(min=1)
    weight_C = torch.where(is_silent_C, most.clamp(max=1.0), torch.ones_like(most))
    return weight_C / weight_C.sum().clamp(min=1.0)
