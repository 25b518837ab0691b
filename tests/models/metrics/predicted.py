"""Predictions with a strength, to measure and to compare."""

import numpy as np

from models.metrics.predictions import Predicted


def classes(seed: int, users: int = 300, strength: float = 1.0, width: int = 2) -> Predicted:
    """Predictions that know the class with a strength; the classes do not depend on it."""
    y = np.random.default_rng(seed).integers(0, width, users)
    rng = np.random.default_rng([seed, 1])
    logits = rng.normal(size=(users, width)).round(1)  # rounded: ties
    logits[np.arange(users), y] += strength
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predicted("classification", np.arange(users), y.astype(float), p)
