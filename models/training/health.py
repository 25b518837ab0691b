"""Has the representation collapsed? Two figures of a batch of user vectors that would show it."""

import torch
from torch import Tensor

from contracts.recipes.recipe import Recipe


def spread(users_BD: Tensor) -> float:
    """The mean over dimensions of the standard deviation over users; 0 when all agree."""
    return float(users_BD.detach().float().std(dim=0, correction=0).mean())


def effective_rank(users_BD: Tensor) -> float:
    """Returns exp of the entropy of the normalized singular values, from 1 to min(B, D).

    Roy and Vetterli, 2007: The effective rank: a measure of effective dimensionality.
    """
    centered = users_BD.detach().float()
    values = torch.linalg.svdvals(centered - centered.mean(dim=0))
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(torch.special.entr(shares).sum()))


def fault_of(figures: dict[str, float], recipe: Recipe) -> str:
    """The sentence for vectors that have collapsed; empty where they have not."""
    limits = {"spread": recipe.min_spread, "effective_rank": recipe.min_effective_rank}
    if recipe.collapse == "off":
        return ""
    below = [
        f"{name.replace('_', ' ')} {figures[name]:.3g} is below min_{name} {limit:g}"
        for name, limit in limits.items()
        if figures.get(name, limit) < limit
    ]
    if not below:
        return ""
    return (
        f"user vectors have collapsed ({', '.join(below)}): "
        f"they hardly differ between users; lower lr, hide more, or take another objective"
    )
