"""No pre-training: the encoder keeps the weights it was born with. What all others must beat."""

from models.objectives.base import Objective


class NoPretraining(Objective):
    """The comparison: there is nothing to train."""

    trains = False
