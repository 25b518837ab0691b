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
(models.ranking.zero_shot). An encoder that reads forwards predicts after each interaction; one that
reads both ways sees a random beginning of each session, of which its user vector predicts what
follows.

The stage follows the share of training that is done, which is kept with the weights: a run that
resumes is in the stage that it was in.

What is drawn of a batch is in models.objectives.ubm.sample.

Shapes: T events, V views and beginnings of sessions, N interactions or sessions, P pairs, L chances
a text, M what follows, H buckets, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.recipes.methods import UbmOptions
from models.data.packed import MASK, UNK, Events
from models.data.rng import Draw
from models.nn.user_model import ModelConfig, UserModel
from models.objectives.base import ItemScore, Objective, Outcome
from models.objectives.ubm.contrasts import contrast, follow_loss, same
from models.objectives.ubm.interactions import Happenings
from models.objectives.ubm.sample import Sample, drawn
from models.objectives.ubm.text_views import text_view
from models.runtime.distributed import gather

BUCKETS = 65521  # in which frequencies are counted; a prime


class Ubm(Objective):
    """Two stages of telling things apart."""

    needs_encoder = True
    progress: Tensor
    seen_H: Tensor  # how often interactions followed so far, by a hash of them

    def __init__(self, model: ModelConfig, options: UbmOptions) -> None:
        super().__init__(model, options)
        self.min_events = self.min_users = 2
        self.span = options.span
        self.cuts_by_session = True
        self.project = nn.ModuleDict({n: _projection(model.dim) for n in ("first", "second")})
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        self.register_buffer("seen_H", torch.zeros(BUCKETS, dtype=torch.float64))
        self.reads_forwards = model.encoder.is_causal
        predicts_after_each = self.reads_forwards and options.follow_weight > 0
        assert not (predicts_after_each and "age" in model.fields), "ages tell what is to come"

    @classmethod
    def item_score(cls, options: UbmOptions, is_causal: bool) -> ItemScore | None:
        """By what interactions that follow each other are told by, where training comes to that."""
        if options.follow_weight == 0 or options.first_share >= 1:
            return None
        return ItemScore("state" if is_causal else "user", of_content=True)

    @property
    def is_first(self) -> bool:
        """Whether training is in its first stage."""
        return float(self.progress) < self.options.first_share

    def sample(self, windows: Events, others: Events, draw: Draw) -> Sample:  # noqa: ARG002
        """Draws interactions, queries and their answers, and two views of each session."""
        return drawn(windows, draw, self.options, self.model_config.max_length, self.reads_forwards)

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
        """The loss of telling what goes with each from what goes with others, and back."""
        content = model.behavior.content
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
        reader = model.behavior.text
        assert reader is not None
        picked = reader.documents.pick(events.document_N)
        texts = text_view(picked, reader.kind_W, events.chance_2NL2[nth], self.options)
        hides_N = events.hides_2N[nth]
        return model.behavior.described(
            events.item_N.masked_fill(hides_N, UNK),  # as an item that came after training
            events.action_N,
            events.category_N.masked_fill(hides_N, MASK),
            texts,
        )

    def _second(self, model: UserModel, sample: Sample) -> Outcome:
        packed, options = sample.sessions, self.options
        x_TD = model.behavior(packed)
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
        vectors_MD = model.behavior.content(
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
        """The events of both views, in the stage that training is in."""
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


def _projection(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
