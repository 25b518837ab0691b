"""UBM: interactions first, then sessions (Li et al., arXiv 2403.02825).

Contrastive Pre-training for Deep Session Data Understanding: sessions are product texts, queries
and actions, and pre-training has two stages of contrastive objectives on augmented views. What the
public text leaves open is a reconstruction here, and an option:

  stage 1, until `first_share` of training is done: two views of an interaction, made by leaving out
    attributes, category and words, masking and swapping words and hiding ids, against the other
    interactions of the batch; and, by `query_weight`, a query against the item that its session
    comes to next;
  stage 2: two views of a session, cropped, reordered in part and hidden in part, against the other
    sessions of the batch; the interaction encoder is trained on.

Both by InfoNCE on cosines, in both directions, behind a projection that is dropped afterwards. The
stage follows the share of training that is done, which is kept with the weights: a run that resumes
is in the stage that it was in.

Shapes: B windows, T events, N interactions or sessions, V = 2N views, P pairs, L chances a text,
D width.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.errors import FootpathError
from models.distributed import gather
from models.draw import Draw
from models.objectives.base import Objective, Outcome
from models.objectives.sessions import chosen_events, chosen_sessions, cropped, sessions_of
from models.objectives.text_views import Rates, text_view
from models.objectives.views import hidden, reordered
from models.packed import MASK, Events, Packed, join, pack
from models.user_model import ModelConfig, UserModel

CHANCES = 64  # tokens of a text with random numbers of their own


@dataclass(frozen=True)
class Options(Rates):
    """The two stages, and the views of each."""

    temperature: float = 0.07
    first_share: float = 0.4  # of training that goes to stage 1; 0 leaves it out, 1 stage 2
    span: int = 2  # windows are so many times max_length events long
    interactions: int = 8  # of a window, in a step of stage 1
    id_hide: float = 0.5  # how likely a view does without the item's id
    query_weight: float = 0.5  # of queries against items; 0 leaves them out
    gap: float = 1800.0  # seconds without an event that end a session
    sessions: int = 4  # of a window, in a step of stage 2
    shortest: int = 2  # events of a session
    crop: float = 0.6  # of a session that a view keeps at least
    reorder_share: float = 0.3
    hide_share: float = 0.3
    own_negatives: bool = False  # are other sessions of a user told apart from one another?

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0 or self.gap <= 0:
            raise ValueError("temperature and gap must be above 0")
        shares = (self.first_share, self.id_hide, self.crop, self.reorder_share, self.hide_share)
        if not all(0 <= share <= 1 for share in shares) or self.hide_share == 1 or not self.crop:
            raise ValueError(
                "first_share, id_hide, crop, reorder_share and hide_share must be shares, "
                "crop not 0 and hide_share not 1"
            )
        if min(self.span, self.interactions, self.sessions, self.shortest) < 1:
            raise ValueError("span, interactions, sessions and shortest must be 1 or more")
        if self.query_weight < 0:
            raise ValueError("query_weight must not be negative")


@dataclass(frozen=True)
class Happenings:
    """N events, out of their order, and the random numbers of two views of each."""

    item_N: Tensor
    action_N: Tensor
    category_N: Tensor
    document_N: Tensor
    chance_2NL2: Tensor  # of each token
    hides_2N: Tensor  # whether a view does without the id

    @property
    def key_N(self) -> Tensor:
        """The same number for the same item and text, which are no negatives of each other."""
        return self.document_N * (1 << 32) + self.item_N


@dataclass(frozen=True)
class Sample:
    """What both stages need: the stage is known only when the step is made."""

    interactions: Happenings
    queries: Happenings  # P of them
    answers: Happenings  # the P items that were come to
    sessions: Packed  # 2N views
    owner_N: Tensor  # whose session each is


class Ubm(Objective):
    """Two stages of telling things apart."""

    options_class = Options
    progress: Tensor

    def __init__(self, model: ModelConfig, options: Options) -> None:
        super().__init__(model, options)
        if options.first_share and "text" not in model.fields:
            raise FootpathError(
                "method ubm reads text in its first stage, and fields leave 'text' out: add it, "
                "or set objective.first_share to 0"
            )
        self.min_events = self.min_users = 2
        self.span = options.span
        self.project = nn.ModuleDict({n: _projection(model.dim) for n in ("first", "second")})
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    @property
    def is_first(self) -> bool:
        """Tells whether training is in its first stage."""
        return float(self.progress) < self.options.first_share

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Draws interactions, queries and their answers, and two views of each session."""
        options = self.options
        has_text_T = windows.document_T.numpy() > MASK
        most = options.interactions
        chosen = chosen_events(windows, draw, "interactions", has_text_T, most)
        queries, answers = _answered(windows, options.gap)
        is_query_T = np.zeros(len(has_text_T), dtype=bool)
        if options.query_weight:
            is_query_T[queries] = True
        asked = chosen_events(windows, draw, "queries", is_query_T, most)
        found = answers[np.searchsorted(queries, asked)]
        sessions, own, owner_N = chosen_sessions(
            windows, draw, options.gap, options.shortest, options.sessions,
            self.model_config.max_length,
        )  # fmt: skip
        views = []
        for name in "ab":
            view = cropped(sessions, own, name, options.crop)
            view = reordered(view, own, name, options.reorder_share)
            views.append(hidden(view, own, name, options.hide_share))
        return Sample(
            interactions=_happenings(windows, chosen, draw, options.id_hide, is_viewed=True),
            queries=_happenings(windows, asked, draw, 0.0),
            answers=_happenings(windows, found, draw, 0.0),
            sessions=pack(join(views)),
            owner_N=torch.from_numpy(draw.users_B)[owner_N],
        )

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Tells views apart, of interactions or of sessions."""
        return self._first(model, sample) if self.is_first else self._second(model, sample)

    def _first(self, model: UserModel, sample: Sample) -> Outcome:
        views = [self._view(model, sample.interactions, n) for n in range(2)]
        a_ND, b_ND = (gather(self.project["first"](view_ND)) for view_ND in views)
        key_N = gather(sample.interactions.key_N)
        loss, accuracy = contrast(a_ND, b_ND, key_N, self.options.temperature)
        figures = {"interaction_loss": loss.detach(), "accuracy": accuracy}
        if self.options.query_weight:
            matched = self._matched(model, sample)
            loss = loss + self.options.query_weight * matched
            figures["query_loss"] = matched.detach()
        return Outcome(loss, torch.cat(views), figures)

    def _matched(self, model: UserModel, sample: Sample) -> Tensor:
        """Returns the loss of telling a query's item from those of other queries, and back."""
        content = model.behaviour.content
        sides = [
            content(side.item_N, side.action_N, side.category_N, side.document_N)
            for side in (sample.queries, sample.answers)
        ]
        query_PD, item_PD = (gather(self.project["first"](side_PD)) for side_PD in sides)
        keys = [gather(side.key_N) for side in (sample.queries, sample.answers)]
        if len(query_PD) < 2:
            return 0 * (query_PD.sum() + item_PD.sum())
        same_PP = _same(keys[0]) | _same(keys[1])
        logits_PP = F.normalize(query_PD, dim=1) @ F.normalize(item_PD, dim=1).T
        logits_PP = logits_PP / self.options.temperature
        logits_PP = logits_PP.masked_fill(same_PP, float("-inf"))
        right_P = torch.arange(len(query_PD), device=query_PD.device)
        return (F.cross_entropy(logits_PP, right_P) + F.cross_entropy(logits_PP.T, right_P)) / 2

    def _view(self, model: UserModel, events: Happenings, nth: int) -> Tensor:
        behaviour = model.behaviour
        picked = behaviour.documents.pick(events.document_N)
        texts = text_view(picked, behaviour.kind_W, events.chance_2NL2[nth], self.options)
        hides_N = events.hides_2N[nth]
        return behaviour.described(
            events.item_N.masked_fill(hides_N, MASK),
            events.action_N,
            events.category_N.masked_fill(hides_N, MASK),
            texts,
        )

    def _second(self, model: UserModel, sample: Sample) -> Outcome:
        views_VD = model(sample.sessions)
        a_ND, b_ND = (gather(self.project["second"](half)) for half in views_VD.chunk(2))
        owner_N = gather(sample.owner_N)
        if self.options.own_negatives:
            owner_N = torch.arange(len(owner_N), device=owner_N.device)
        loss, accuracy = contrast(a_ND, b_ND, owner_N, self.options.temperature)
        return Outcome(loss, views_VD, {"session_loss": loss.detach(), "accuracy": accuracy})

    def encoded_events(self, sample: Sample) -> int:
        """Returns the events of both views, in the stage that training is in."""
        if self.is_first:
            pairs = len(sample.queries.item_N) + len(sample.answers.item_N)
            return 2 * len(sample.interactions.item_N) + pairs
        return len(sample.sessions.item_T)

    def after_step(self, model: UserModel, progress: float) -> None:  # noqa: ARG002
        """Notes how far training is."""
        self.progress.fill_(progress)


def contrast(
    a_ND: Tensor, b_ND: Tensor, key_N: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Returns loss and accuracy of telling each of 2N views' partner from all other views.

    loss = mean over views v of -log(exp(cos(v, v+) / t) / sum over u != v of exp(cos(v, u) / t)),
    where views of other rows with the same key do not stand in the sum: they are no contrast.
    """
    count = len(a_ND)
    if count < 2:
        return 0 * (a_ND.sum() + b_ND.sum()), torch.zeros(())
    unit_VD = F.normalize(torch.cat([a_ND, b_ND]), dim=1)
    logits_VV = unit_VD @ unit_VD.T / temperature
    left_out_VV = _same(key_N).repeat(2, 2)
    left_out_VV.fill_diagonal_(True)
    logits_VV = logits_VV.masked_fill(left_out_VV, float("-inf"))
    partner_V = torch.arange(2 * count, device=unit_VD.device).roll(count)
    accuracy = (logits_VV.detach().argmax(1) == partner_V).float().mean()
    return F.cross_entropy(logits_VV, partner_V), accuracy


def _same(key_N: Tensor) -> Tensor:
    """Returns true where two different rows have one key."""
    same_NN = key_N[:, None] == key_N[None, :]
    return same_NN.fill_diagonal_(False)


def _projection(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))


def _answered(windows: Events, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns which events are queries that an item of the same session follows, and which."""
    item, document = windows.item_T.numpy(), windows.document_T.numpy()
    session = sessions_of(windows, gap).session_T
    events = len(item)
    here = np.where((item != 0) & (document > MASK), np.arange(events), events)
    ahead = np.minimum.accumulate(here[::-1])[::-1]
    is_query = (item == 0) & (document > MASK) & (ahead < events)
    query = np.flatnonzero(is_query)
    query = query[session[query] == session[ahead[query]]]
    return query, ahead[query]


def _happenings(
    windows: Events, index_N: np.ndarray, draw: Draw, id_hide: float, is_viewed: bool = False
) -> Happenings:
    window, place = windows.sequence_T.numpy()[index_N], windows.position_T.numpy()[index_N]
    # Each user and place has numbers of its own.
    own = Draw(draw.seed, draw.epoch, draw.users_B[window] + ((place.astype(np.int64) + 1) << 40))
    shape = (len(index_N), CHANCES if is_viewed else 0, 2)
    chances = [own.uniform(f"{name} text", shape[1] * 2).reshape(shape) for name in "ab"]
    hides = id_hide > own.uniform("id", 2).T
    names = ("item_T", "action_T", "category_T", "document_T")
    return Happenings(
        *(getattr(windows, name)[torch.from_numpy(index_N)] for name in names),
        chance_2NL2=torch.from_numpy(np.stack(chances)),
        hides_2N=torch.from_numpy(hides),
    )
