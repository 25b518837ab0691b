"""What the options of every pre-training method have in common."""

from typing import Any, ClassVar

from contracts.base.schema import Strict
from contracts.recipes.encoders.base import EncoderOptions


class MethodOptions(Strict):
    """Options of a method; a subclass adds `name`, the name it goes by, and its own.

    Attributes:
      trains: false for the baseline with random weights.
      ranks_items: its pre-training scores items, so that it ranks them without a head.
      summarizes: its encoder sees a summary of the history beside the events.
      reads_forwards: it needs an encoder in which no event sees a later one.
      loss_tells: a smaller loss on held-out users means better weights.
    """

    name: Any  # a literal in each subclass
    trains: ClassVar[bool] = True
    ranks_items: ClassVar[bool] = False
    summarizes: ClassVar[bool] = False
    reads_forwards: ClassVar[bool] = False
    loss_tells: ClassVar[bool] = True

    def check(self, encoder: EncoderOptions, fields: tuple[str, ...]) -> None:
        """Refuses encoders and event fields that the method cannot be trained with.

        Raises:
          ValueError: the pair cannot be, in a sentence.
        """


def refuse_ages(fields: tuple[str, ...], method: str) -> None:
    """Refuses the field 'age' where every event predicts the one after it.

    Ages count to one instant after all events of a window. A state in its middle would be told how
    much is still to come, and when the vectors are used nothing is.

    Raises:
      ValueError: the field is asked for.
    """
    if "age" in fields:
        raise ValueError(
            f"method {method} predicts after every event, and the field 'age' counts to an instant "
            f"after them all: leave 'age' out of fields"
        )


def refuse_query_time(encoder: EncoderOptions, method: str) -> None:
    """Refuses encoders whose states tell when the next event comes, where when is to be found out.

    Raises:
      ValueError: the encoder is one.
    """
    if encoder.reads_now:
        raise ValueError(
            f"method {method} predicts what comes in a time, and encoder.query_time tells when the "
            f"next event comes: leave it at false"
        )
