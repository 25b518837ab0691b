"""Joins the vector of the last events with the summary of a whole history (models.data.summary).

Shapes: B users, D width, F columns.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.nn.layers import Dropout

FAR = 6.0  # standard deviations to which an outlier is drawn in
WIDER = 4  # the inner layer, times the width


class SummaryReader(nn.Module):
    """Two layers over both. How columns are scaled is measured once, and kept with the weights."""

    mean_F: Tensor
    scale_F: Tensor

    def __init__(self, dim: int, columns: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(columns))
        self.register_buffer("scale_F", torch.ones(columns))
        self.before = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim + columns, WIDER * dim)
        self.narrow = nn.Linear(WIDER * dim, dim)
        self.dropout = Dropout(dropout)

    def measure(self, summary_UF: np.ndarray) -> None:
        """Takes the columns' means and spreads from some users."""
        known_UF = np.where(np.isnan(summary_UF), np.nan, summary_UF).astype(np.float64)
        counts_F = np.maximum((~np.isnan(known_UF)).sum(axis=0), 1)
        mean_F = np.nansum(known_UF, axis=0) / counts_F
        spread_F = np.sqrt(np.nansum(np.square(known_UF - mean_F), axis=0) / counts_F)
        self.mean_F.copy_(torch.from_numpy(mean_F))
        # A column that says nothing yet keeps its scale, so that it cannot blow up later.
        self.scale_F.copy_(torch.from_numpy(np.where(spread_F > 1e-3, spread_F, 1.0)))

    def forward(self, vectors_BD: Tensor, summary_BF: Tensor) -> Tensor:
        """Joins both -> [B, D]; what there is none of is as the average has it."""
        scaled_BF = ((summary_BF - self.mean_F) / self.scale_F).nan_to_num(0.0).clamp(-FAR, FAR)
        joined_BX = torch.cat([self.before(vectors_BD), scaled_BF], dim=1)
        return self.narrow(self.dropout(F.gelu(self.widen(joined_BX))))
