"""What an encoder looks at: how attention falls off with the distance between two events."""

import numpy as np
import torch

from models.data.packed import Packed
from models.nn.encoders.base import Attended
from models.nn.user_model import UserModel


@torch.no_grad()
def attention_by_distance(model: UserModel, events: Packed) -> tuple[np.ndarray, np.ndarray]:
    """Averages the attention weights of a small batch by distance.

    Args:
      model: put into evaluation mode.
      events: a batch that fits into memory with all its pairs of events.

    Returns:
      Distances, int64 [N], ascending: 3 for an event three before the one that looks, -3 for one
      three after it; where only the pooling looks, how far before the last event. And the mean
      weight at each, float64 [N], over all events that have one so far away, all heads and layers.

    Raises:
      FootpathError: the encoder has no attention.
    """
    model.eval()
    layers = model.encoder.attention(model.behavior(events), events)  # type: ignore[operator]
    sums, counts, least = _sums(layers)
    seen = np.flatnonzero(counts)
    return seen + least, sums[seen] / counts[seen]


def _sums(layers: list[Attended]) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns sum and number of the weights of each distance, and the first distance."""
    distance_P = torch.cat([layer.distance_P for layer in layers]).cpu()
    weight_P = torch.cat([layer.weight_P for layer in layers]).cpu().double()
    least = int(distance_P.min())
    sums = torch.bincount(distance_P - least, weights=weight_P)
    return sums.numpy(), torch.bincount(distance_P - least).numpy(), least
