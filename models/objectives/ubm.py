"""UBM: interactions first, then sessions (Li et al., arXiv 2403.02825).

Contrastive Pre-training for Deep Session Data Understanding: sessions are product texts, queries
and actions, and pre-training has two stages of contrastive objectives on augmented views. What the
public text leaves open is a reconstruction here, and an option:

  stage 1, until `first_share` of training is done:
    intra-item: two views of an interaction, made by leaving out attributes, category and words,
    masking and swapping words and hiding ids, against the other interactions of the batch;
    inter-item: by `query_weight` a query against the item that its session comes to next, and by
    `pair_weight` an item against the other item that its session comes to next;
  stage 2, in which the interaction encoder is trained on:
    by `session_weight` two views of a session, cropped, reordered in part and hidden in part,
    against the other sessions of the batch;
    inter-interaction: by `follow_weight` a session up to an interaction against the interaction
    that follows, among all those of the batch: see `follow_loss`.

The abstract names two stages, contrast at different granularities and the three things captured;
which pairs capture the second and the third, and every rate and weight, is reconstruction.

All but the last by InfoNCE on cosines, in both directions, behind a projection that is dropped
afterwards. The last is a dot product of the vectors themselves, so it ranks items without a head
(models.native). An encoder that reads forwards predicts after each interaction; one that reads both
ways sees a random beginning of each session, of which its user vector predicts what follows.

The stage follows the share of training that is done, which is kept with the weights: a run that
resumes is in the stage that it was in.

Shapes: B windows, T events, N interactions or sessions, P pairs, L chances a text, M what follows,
U distinct interactions, H buckets, D width.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.errors import FootpathError
from models.config import parse
from models.distributed import gather
from models.draw import Draw
from models.encoders import ENCODERS
from models.objectives.base import Objective, Outcome, refuse_ages
from models.objectives.contrasts import contrast, follow_loss, same
from models.objectives.happenings import (
    Happenings,
    chosen_pairs,
    happenings_at,
    next_items,
    taking_turns,
)
from models.objectives.sessions import chosen_events, chosen_sessions, cropped
from models.objectives.text_views import Rates, text_view
from models.objectives.views import hidden, reordered
from models.packed import MASK, UNK, Events, Packed, join, pack
from models.user_model import ModelConfig, UserModel

BUCKETS = 65521  # in which frequencies are counted; a prime


@dataclass(frozen=True)
class Options(Rates):
    """The two stages, and the views of each."""

    temperature: float = 0.07
    first_share: float = 0.4  # of training that goes to stage 1; 0 leaves it out, 1 stage 2
    span: int = 2  # windows are so many times max_length events long
    interactions: int = 8  # of a window, in a step of stage 1
    id_hide: float = 0.5  # how likely a view does without the item's id
    query_weight: float = 0.5  # of queries against items; 0 leaves them out
    pair_weight: float = 0.5  # of items against the items after them; 0 leaves them out
    gap: float = 1800.0  # seconds without an event that end a session
    sessions: int = 4  # of a window, in a step of stage 2
    shortest: int = 2  # events of a session
    follows: int = 16  # interactions of a session that are told from others; actions take turns
    crop: float = 0.6  # of a session that a view keeps at least
    reorder_share: float = 0.3
    hide_share: float = 0.3
    own_negatives: bool = False  # are other sessions of a user told apart from one another?
    session_weight: float = 0.1  # of sessions' views against each other; 0 leaves them out
    follow_weight: float = 1.0  # of sessions against what follows; 0 leaves it out
    read_hide: float = 0.1  # of items with text, read by their text alone, as a new item is

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0 or self.gap <= 0:
            raise ValueError("temperature and gap must be above 0")
        shares = (self.first_share, self.id_hide, self.crop, self.reorder_share, self.hide_share)
        shares = (*shares, self.read_hide)
        if not all(0 <= share <= 1 for share in shares) or self.hide_share == 1 or not self.crop:
            raise ValueError(
                "first_share, id_hide, crop, reorder_share, hide_share and read_hide must be "
                "shares, crop not 0 and hide_share not 1"
            )
        counts = (self.span, self.interactions, self.sessions, self.shortest, self.follows)
        if min(counts) < 1:
            raise ValueError("span, interactions, sessions, shortest and follows must be 1 or more")
        weights = (self.query_weight, self.pair_weight, self.session_weight, self.follow_weight)
        if min(weights) < 0:
            raise ValueError("weights must not be negative")
        if self.first_share < 1 and not self.session_weight and not self.follow_weight:
            raise ValueError("session_weight and follow_weight leave nothing of the second stage")


@dataclass(frozen=True)
class Sample:
    """What both stages need: the stage is known only when the step is made."""

    interactions: Happenings
    queries: Happenings  # P of them
    answers: Happenings  # the P items that were come to
    items: Happenings  # P others, not as many
    nexts: Happenings  # the P other items that were come to
    sessions: Packed  # 2N views, and what of each of the N sessions is seen of what follows
    owner_N: Tensor  # whose session each is
    follows: Happenings  # M of them
    before_M: Tensor  # the event, or the sequence, of `sessions` that each follows


class Ubm(Objective):
    """Two stages of telling things apart."""

    options_class = Options
    needs_encoder = True
    progress: Tensor
    seen_H: Tensor  # how often interactions followed so far, by a hash of them

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
        self.register_buffer("seen_H", torch.zeros(BUCKETS, dtype=torch.float64))
        self.reads_forwards = reads_forwards(model)
        if self.reads_forwards and options.follow_weight:
            refuse_ages(model, "ubm with an encoder that reads forwards")

    @property
    def is_first(self) -> bool:
        """Tells whether training is in its first stage."""
        return float(self.progress) < self.options.first_share

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Draws interactions, queries and their answers, and two views of each session."""
        options = self.options
        has_text_T = windows.document_T.numpy() > MASK
        chosen = chosen_events(windows, draw, "interactions", has_text_T, options.interactions)
        pairs = [
            chosen_pairs(windows, draw, name, found, options.interactions if weight else 0)
            for name, found, weight in zip(
                ("queries", "items"), next_items(windows, options.gap),
                (options.query_weight, options.pair_weight), strict=True,
            )
        ]  # fmt: skip
        queries, answers, items, nexts = (
            happenings_at(windows, index, draw, 0.0) for pair in pairs for index in pair
        )
        sessions, own, owner_N = chosen_sessions(
            windows, draw, options.gap, options.shortest, options.sessions,
            self.model_config.max_length,
        )  # fmt: skip
        views = self._views(sessions, own) if options.session_weight else []
        packed, follows, before_M = self._followed(views, sessions, own)
        return Sample(
            interactions=happenings_at(windows, chosen, draw, options.id_hide, is_viewed=True),
            queries=queries,
            answers=answers,
            items=items,
            nexts=nexts,
            sessions=packed,
            owner_N=torch.from_numpy(draw.users_B)[owner_N],
            follows=follows,
            before_M=before_M,
        )

    def _views(self, sessions: Events, own: Draw) -> list[Events]:
        views = []
        for name in "ab":
            view = cropped(sessions, own, name, self.options.crop)
            view = reordered(view, own, name, self.options.reorder_share)
            views.append(hidden(view, own, name, self.options.hide_share))
        return views

    def _followed(
        self, views: list[Events], sessions: Events, own: Draw
    ) -> tuple[Packed, Happenings, Tensor]:
        """Adds what is seen before M interactions to the views; see `Sample`."""
        read, first = self._read(sessions, own), sum(len(view.lengths_B) for view in views)
        if not self.options.follow_weight:
            none = torch.zeros(0, dtype=torch.int64)
            return pack(join(views)), happenings_at(sessions, none.numpy(), own, 0.0), none
        if self.reads_forwards:
            packed = pack(join([*views, read]))
            index_M = taking_turns(sessions, own, self.options.follows)
            # Events of a sequence lie side by side, so the one before is one row back.
            row_T = torch.empty(len(packed.item_T), dtype=torch.int64)
            is_read_T = packed.sequence_T >= first
            place_T = sessions.starts_B[packed.sequence_T[is_read_T] - first]
            row_T[place_T + packed.position_T[is_read_T]] = torch.nonzero(is_read_T)[:, 0]
            before_M = row_T[torch.from_numpy(index_M)] - 1
        else:
            lengths = sessions.lengths_B.numpy()
            cut_N = 1 + own.integers("follows", np.maximum(lengths - 1, 1))[:, 0]
            everyone = torch.arange(len(lengths))
            seen_N = torch.from_numpy(cut_N)
            packed = pack(join([*views, read.cut(everyone, torch.zeros_like(everyone), seen_N)]))
            followed = np.flatnonzero(cut_N < lengths)
            index_M = sessions.starts_B.numpy()[followed] + cut_N[followed]
            before_M = first + torch.from_numpy(followed)
        return packed, happenings_at(sessions, index_M, own, self.options.read_hide), before_M

    def _read(self, sessions: Events, own: Draw) -> Events:
        """Returns sessions in which some items are known by their text alone."""
        chance_NL = own.uniform("read", int(sessions.lengths_B.max()))
        chance_T = chance_NL[sessions.sequence_T.numpy(), sessions.position_T.numpy()]
        where_T = torch.from_numpy(chance_T < self.options.read_hide)
        where_T &= (sessions.item_T > UNK) & (sessions.document_T > MASK)
        return dataclasses.replace(sessions, item_T=sessions.item_T.masked_fill(where_T, UNK))

    def forward(self, model: UserModel, sample: Sample) -> Outcome:
        """Tells views apart, of interactions or of sessions."""
        return self._first(model, sample) if self.is_first else self._second(model, sample)

    def _first(self, model: UserModel, sample: Sample) -> Outcome:
        views = [self._view(model, sample.interactions, n) for n in range(2)]
        a_ND, b_ND = (gather(self.project["first"](view_ND)) for view_ND in views)
        key_N = gather(sample.interactions.key_N)
        loss, accuracy = contrast(a_ND, b_ND, key_N, self.options.temperature)
        figures = {"interaction_loss": loss.detach(), "accuracy": accuracy}
        for name, weight, sides in (
            ("query", self.options.query_weight, (sample.queries, sample.answers)),
            ("pair", self.options.pair_weight, (sample.items, sample.nexts)),
        ):
            if weight:
                matched = self._matched(model, *sides)
                loss = loss + weight * matched
                figures[f"{name}_loss"] = matched.detach()
        return Outcome(loss, torch.cat(views), figures)

    def _matched(self, model: UserModel, one: Happenings, other: Happenings) -> Tensor:
        """Returns the loss of telling what goes with each from what goes with others, and back."""
        content = model.behaviour.content
        one_PD, other_PD = (
            gather(
                self.project["first"](
                    content(side.item_N, side.action_N, side.category_N, side.document_N)
                )
            )
            for side in (one, other)
        )
        keys = [gather(side.key_N) for side in (one, other)]
        if len(one_PD) < 2:
            return 0 * (one_PD.sum() + other_PD.sum())
        # What goes with the same, or is the same, is no negative; nor is one its own successor's.
        same_PP = same(keys[0]) | same(keys[1]) | (keys[0][:, None] == keys[1][None, :])
        logits_PP = F.normalize(one_PD, dim=1) @ F.normalize(other_PD, dim=1).T
        logits_PP = logits_PP / self.options.temperature
        logits_PP = logits_PP.masked_fill(same_PP, float("-inf"))
        right_P = torch.arange(len(one_PD), device=one_PD.device)
        return (F.cross_entropy(logits_PP, right_P) + F.cross_entropy(logits_PP.T, right_P)) / 2

    def _view(self, model: UserModel, events: Happenings, nth: int) -> Tensor:
        behaviour = model.behaviour
        picked = behaviour.documents.pick(events.document_N)
        texts = text_view(picked, behaviour.kind_W, events.chance_2NL2[nth], self.options)
        hides_N = events.hides_2N[nth]
        return behaviour.described(
            events.item_N.masked_fill(hides_N, UNK),  # as an item that came after training
            events.action_N,
            events.category_N.masked_fill(hides_N, MASK),
            texts,
        )

    def _second(self, model: UserModel, sample: Sample) -> Outcome:
        packed, options = sample.sessions, self.options
        x_TD = model.behaviour(packed)
        if self.reads_forwards:
            states_TD = model.encoder.states(x_TD, packed)
            vectors_VD = model.encoder.pool(states_TD, packed)
        else:
            states_TD = vectors_VD = model.encoder(x_TD, packed)
        loss, figures = vectors_VD.new_zeros(()), {}
        if options.session_weight:
            views = vectors_VD[: 2 * len(sample.owner_N)].chunk(2)
            a_ND, b_ND = (gather(self.project["second"](view_ND)) for view_ND in views)
            owner_N = gather(sample.owner_N)
            if options.own_negatives:
                owner_N = torch.arange(len(owner_N), device=owner_N.device)
            found, accuracy = contrast(a_ND, b_ND, owner_N, options.temperature)
            loss = loss + options.session_weight * found
            figures |= {"session_loss": found.detach(), "accuracy": accuracy}
        if options.follow_weight:
            found, accuracy = self._follow(model, states_TD[sample.before_M], sample.follows)
            loss = loss + options.follow_weight * found
            figures |= {"follow_loss": found.detach(), "follow_accuracy": accuracy}
        return Outcome(loss, vectors_VD, figures)

    def _follow(
        self, model: UserModel, seen_MD: Tensor, follows: Happenings
    ) -> tuple[Tensor, Tensor]:
        vectors_MD = model.behaviour.content(
            follows.read_N, follows.action_N, follows.category_N, follows.document_N
        )
        actions, items = self.model_config.sizes["action"], self.model_config.sizes["item"]
        key_M = (follows.document_N * items + follows.item_N) * actions + follows.action_N
        key_M, seen_MD, vectors_MD = gather(key_M), gather(seen_MD), gather(vectors_MD)
        bucket_M = key_M % BUCKETS
        if self.training:
            ones_M = torch.ones_like(bucket_M, dtype=self.seen_H.dtype)
            self.seen_H.index_add_(0, bucket_M, ones_M)
        share_M = self.seen_H[bucket_M].clamp(min=1) / self.seen_H.sum().clamp(min=1)
        return follow_loss(seen_MD, vectors_MD, key_M, share_M)

    def encoded_events(self, sample: Sample) -> int:
        """Returns the events of both views, in the stage that training is in."""
        if self.is_first:
            return 2 * (
                len(sample.interactions.item_N)
                + len(sample.queries.item_N)
                + len(sample.items.item_N)
            )
        return len(sample.sessions.item_T)

    def after_step(self, model: UserModel, progress: float) -> None:  # noqa: ARG002
        """Notes how far training is."""
        self.progress.fill_(progress)


def reads_forwards(model: ModelConfig) -> bool:
    """Tells whether no event sees a later one in a model of this configuration."""
    kind = ENCODERS[model.encoder]
    options = parse(kind.options_class, model.encoder_options, f"encoder {model.encoder}")
    with torch.device("meta"):  # neither memory nor random numbers
        return kind(model.dim, options).is_causal


def _projection(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
