"""What every pre-training objective is.

An objective works in two halves. `read` runs on the host: it cuts, hides and draws, mostly in
`sample`, from random windows of a batch, and needs no model. `forward` runs on the device: it
encodes the sample and returns a loss. Neither knows of files, devices or of who started the run.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from models.data.packed import Events
from models.data.rng import Draw
from models.data.sequences import Sequences
from models.nn.user_model import ModelConfig, UserModel


@dataclass(frozen=True)
class Outcome:
    """What one step of an objective gives."""

    loss: Tensor  # scalar
    users_BD: Tensor  # user vectors of the batch, for the health figures
    figures: dict[str, Tensor]  # scalars to report, without gradient


@dataclass(frozen=True)
class ItemScore:
    """How a method scores items without a head, for a zero-shot ranking.

    Attributes:
      by: what items are compared with: the state after the last event, that of a hidden event after
        it, or the user vector.
      of_content: items go with their category and the commonest action, as objectives compare them;
        else the items alone.
      is_cosine: both sides are normalized.
    """

    by: Literal["state", "hidden", "user"]
    of_content: bool = False
    is_cosine: bool = False


class Objective(nn.Module):
    """Base of all objectives. Its own weights, such as a projector, are trained with the model's.

    Attributes:
      needs_encoder: works on more of the model than its user and event vectors, so that a bag
        cannot stand in for the encoder at first.
      min_events: users with fewer events are left out.
      min_users: a smaller last batch of an epoch is left out of training.
      span: windows are up to so many times the model's max_length long.
      others: events of other users that `sample` is given for each user.
      cuts_by_time: `sample` is given windows that tell until when they are all there was.
      cuts_by_session: and in which of its user's sessions each event is.
    """

    needs_encoder: ClassVar[bool] = False

    def __init__(self, model: ModelConfig, options: Any) -> None:
        super().__init__()
        self.model_config, self.options = model, options
        self.min_events = 1
        self.min_users = 1
        self.span = 1
        self.others = 0
        self.cuts_by_time = self.cuts_by_session = False

    @classmethod
    def item_score(cls, options: Any, is_causal: bool) -> ItemScore | None:  # noqa: ARG003
        """How items are scored without a head; None where training teaches no such score.

        Args:
          options: of the objective.
          is_causal: whether the encoder reads forwards.
        """
        return None

    def prepare(self, sequences: Sequences) -> None:
        """Measures what is measured of the data once, before training."""

    def read(self, sequences: Sequences, draw: Draw) -> Any:
        """Makes the sample of the users of a draw."""
        windows = sequences.random_windows(draw, self.model_config.max_length * self.span)
        return self.sample(windows, sequences.others(draw, self.others), draw)

    def sample(self, windows: Events, others: Events, draw: Draw) -> Any:
        """Prepares a batch of B windows: a dataclass of tensors, `Packed` and numbers."""
        raise NotImplementedError

    def forward(self, model: UserModel, sample: Any) -> Outcome:
        """Encodes a sample and returns its loss."""
        raise NotImplementedError

    def encoded_events(self, sample: Any) -> int:
        """How many events the encoder sees in a sample, each pass counted."""
        raise NotImplementedError

    def before_step(self, model: UserModel) -> None:
        """Is called when weights have their gradients, before the optimizer changes them."""

    def after_step(self, model: UserModel, progress: float) -> None:
        """Is called after each optimizer step, with the share of training that is done."""
