"""Options of Barlow Twins for user sequences (arXiv 2505.00953)."""

from typing import Literal

from contracts.base.schema import BelowOne, Count, Positive, Share, Whole
from contracts.recipes.methods.base import MethodOptions


class BarlowOptions(MethodOptions):
    """Augmentations, projector and the weight of redundancy."""

    name: Literal["barlow"] = "barlow"
    redundancy: Positive = 0.1  # lambda; 0.02 measured worse
    projector: Count = 256  # width of its three layers
    hide_share: BelowOne = 0.1
    reorder_share: Share = 0.2
    shortest: Count = 5  # events of a view
    span: Count = 4  # views lie within so many times max_length events
    memory_users: Whole = 128  # that correlations are averaged over; 0: the batch alone
