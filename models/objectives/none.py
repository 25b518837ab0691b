"""Random initialization: the baseline without pre-training, which all others must beat."""

from models.objectives.base import Objective


class NoPretraining(Objective):
    """There is nothing to train."""
