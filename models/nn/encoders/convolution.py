"""One-dimensional convolution over the events of each sequence, without rectangles.

An event's neighbors lie beside it, so a window of k events is k shifted copies and one matrix
product: no bucket, no padding, and beyond the first and the last event there are zeros.

Shapes: T events, D width, k the window.
"""

import torch
from torch import Tensor, nn

from models.data.packed import Packed


class Convolution(nn.Module):
    """A layer over each event and its neighbors: [T, D] -> [T, D]."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.offsets = range(-(window // 2), window - window // 2)
        self.mix = nn.Linear(window * dim, dim)

    def forward(self, x_TD: Tensor, events: Packed) -> Tensor:
        """Mixes each event with those up to half a window away."""
        last_T = events.lengths_B[events.sequence_T] - 1
        copies = [_moved(x_TD, offset, events.position_T, last_T) for offset in self.offsets]
        return self.mix(torch.cat(copies, dim=1))


def _moved(x_TD: Tensor, offset: int, position_T: Tensor, last_T: Tensor) -> Tensor:
    """Puts at each event the one `offset` further on in its sequence, or zeros."""
    if offset == 0:
        return x_TD
    there_T = position_T + offset
    is_there_T = (there_T >= 0) & (there_T <= last_T)
    return x_TD.roll(-offset, dims=0) * is_there_T[:, None].to(x_TD.dtype)
