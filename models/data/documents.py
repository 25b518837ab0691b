"""Documents: runs of token ids, laid end to end.

The text of an item or a query, as `features/` wrote it. Document 0 is empty and stands for "no
text"; document 1 is the token [MASK], and stands for what is hidden.

Shapes: M documents, K tokens of all of them, N chosen documents, P tokens in front.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.data.packed import Packed, ragged_arange


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
        """The same documents without the other tokens; one may become empty."""
        lengths_M = torch.zeros_like(self.lengths_M).index_add_(
            0, self.document_K, where_K.to(self.lengths_M.dtype)
        )
        return Documents(self.tokens_K[where_K], lengths_M)

    def behind(self, prefix_MP: Tensor) -> "Documents":
        """The same documents with P tokens in front of each."""
        count, width = prefix_MP.shape
        document_M = torch.arange(count, device=prefix_MP.device)
        tokens = self.tokens_K.new_empty(len(self.tokens_K) + prefix_MP.numel())
        here_K = torch.arange(len(self.tokens_K), device=prefix_MP.device)
        tokens[here_K + width * (self.document_K + 1)] = self.tokens_K
        first_M1 = (self.starts_M + width * document_M)[:, None]
        tokens[first_M1 + torch.arange(width, device=prefix_MP.device)] = prefix_MP
        return Documents(tokens, self.lengths_M + width)

    def packed(self) -> Packed:
        """Lays the documents out for an encoder: sequences of events whose item is the token.

        None of them may be empty.
        """
        order_M = torch.sort(self.lengths_M, descending=True, stable=True).indices
        sorted_ = self.pick(order_M)
        none_K = sorted_.tokens_K.new_zeros(1).expand_as(sorted_.tokens_K)
        return Packed(
            item_T=sorted_.tokens_K,
            action_T=none_K,
            category_T=none_K,
            document_T=none_K,
            gap_T=none_K,
            value_T=none_K,
            position_T=sorted_.position_K,
            sequence_T=order_M[sorted_.document_K],
            lengths_B=self.lengths_M,
            sorted_lengths=tuple(sorted_.lengths_M.tolist()),
        )
