"""Documents: runs of token ids, laid end to end.

The text of an item or a query, as `features/` wrote it. Document 0 is empty and stands for "no
text"; document 1 is the token [MASK], and stands for what is hidden.

Shapes: M documents, K tokens of all of them, N chosen documents.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.packed import ragged_arange


@dataclass(frozen=True)
class Documents:
    """M documents of any length, none included."""

    tokens_K: Tensor  # int64
    lengths_M: Tensor  # int64

    @classmethod
    def of(cls, tokens: np.ndarray, offsets: np.ndarray) -> "Documents":
        """Copies documents out of flat arrays, such as memory-mapped ones."""
        lengths = np.diff(offsets)
        return cls(torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(lengths))

    @property
    def count(self) -> int:
        """How many documents there are."""
        return len(self.lengths_M)

    @cached_property
    def starts_M(self) -> Tensor:
        """Where each document begins."""
        return self.lengths_M.cumsum(0) - self.lengths_M

    @cached_property
    def document_K(self) -> Tensor:
        """The document that each token belongs to."""
        return torch.repeat_interleave(self.lengths_M)

    @cached_property
    def position_K(self) -> Tensor:
        """The place of each token in its document, from 0."""
        return ragged_arange(self.lengths_M)

    def pick(self, index_N: Tensor) -> "Documents":
        """Returns chosen documents, in the order asked for; one may come several times."""
        lengths_N = self.lengths_M[index_N]
        first = torch.repeat_interleave(self.starts_M[index_N], lengths_N)
        return Documents(self.tokens_K[first + ragged_arange(lengths_N)], lengths_N)

    def keep(self, where_K: Tensor) -> "Documents":
        """Returns the same documents without the other tokens; one may become empty."""
        lengths_M = torch.zeros_like(self.lengths_M).index_add_(
            0, self.document_K, where_K.to(self.lengths_M.dtype)
        )
        return Documents(self.tokens_K[where_K], lengths_M)
