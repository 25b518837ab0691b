"""Moving average of a table of which a step changes few rows, each brought up to date when needed.

A row that stands at s from step a to step b draws its average by decays d from m_a to

    m_b = s + (m_a - s) d_(a+1) ... d_b

so one product does for all steps in which nothing happened: where the average is read, and before
the row itself changes.

Shapes: V rows, U of them, D width.
"""

import math

import torch
from torch import Tensor, nn

SMALLEST = 1e-30  # decay whose logarithm is taken


class RowAverage(nn.Module):
    """How far the average of each row has come; part of the state, the average itself is not."""

    now: Tensor
    since_V: Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("now", torch.zeros((), dtype=torch.float64))  # log of all decays
        self.register_buffer("since_V", torch.zeros(rows, dtype=torch.float64))  # of those made

    @torch.no_grad()
    def catch_up(self, average_VD: Tensor, table_VD: Tensor, row_U: Tensor | slice) -> None:
        """Brings some or all rows of the average up to date with the table, as it is still."""
        weight_U1 = -torch.expm1(self.now - self.since_V[row_U])[:, None]
        rows_UD = torch.lerp(average_VD[row_U], table_VD[row_U], weight_U1.to(table_VD.dtype))
        average_VD[row_U], self.since_V[row_U] = rows_UD, self.now

    def follow(self, decay: float) -> None:
        """Lets all rows draw nearer once, which is made good later."""
        self.now += math.log(max(decay, SMALLEST))
