"""Text encoders: documents in, one vector each out.

A document is to a text encoder what a history is to a user encoder, so the layers are the same, run
on packed tokens in buckets of almost equal length:

  mean         the average of the words
  cnn          convolution, then additive attention (HURA, NativeCTR)
  attention    self-attention without residual, then additive attention (PTUM's text encoder, HSA)
  gru          recurrent both ways, then additive attention (HAN)
  transformer  behind [CLS], whose state is the vector (UBM's interaction encoder)

With the option `action` the action stands in front of the words as a token of its own, as in UBM's
`[CLS] [BUY] [TITLE] hexagon tiles`. A document without words, and without an action in front, is
the zero vector: there is nothing to say of it.

Shapes: M documents, K tokens of all of them, E width of a word, D width of an event.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.recipes.text import TextOptions
from models.data.documents import Documents
from models.data.packed import Packed
from models.nn.encoders import ENCODERS
from models.nn.encoders.pooling import MeanPooling
from models.nn.layers import Dropout

PLACED = ("attention", "transformer")  # what does not see the order of words without a place


class TextEncoder(nn.Module):
    """A word table under an encoder of word sequences."""

    def __init__(self, dim: int, tokens: int, actions: int, options: TextOptions) -> None:
        super().__init__()
        self.options, self.dim = options, dim
        width = options.width or dim
        self.cls, self.first_action = tokens, tokens + 1
        rows = {"token": tokens + 1 + actions}
        if options.encoder in PLACED:
            rows["place"] = options.places
        self.tables = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(n, width)) for name, n in rows.items()}
        )
        self.encoder = _encoder(width, options)
        self.dropout = Dropout(options.dropout)
        is_plain = width == dim and options.encoder != "transformer"
        self.out = nn.Identity() if is_plain else nn.Linear(width, dim)

    def forward(self, documents: Documents, action_M: Tensor) -> Tensor:
        """Encodes documents, each with the action that it goes with -> [M, D]."""
        prefix_MP = self._prefix(action_M)
        if self.options.action and documents.count:
            return self._encode(documents.behind(prefix_MP))
        vectors_MD = self.tables["token"].new_zeros(documents.count, self.dim)
        filled = torch.nonzero(documents.lengths_M)[:, 0]
        if not len(filled):
            return vectors_MD + 0 * self.tables["token"][0, 0]  # part of the graph all the same
        texts = Documents(documents.tokens_K, documents.lengths_M[filled])
        if prefix_MP.shape[1]:
            texts = texts.behind(prefix_MP[filled])
        return vectors_MD.index_copy(0, filled, self._encode(texts))

    def _prefix(self, action_M: Tensor) -> Tensor:
        """The tokens in front of each document, [M, 0 to 2]."""
        parts = []
        if self.options.encoder == "transformer":
            parts.append(torch.full_like(action_M, self.cls))
        if self.options.action:
            parts.append(action_M + self.first_action)
        return torch.stack(parts, dim=1) if parts else action_M.new_zeros(len(action_M), 0)

    def _encode(self, documents: Documents) -> Tensor:
        packed = documents.packed()
        x_KE = F.embedding(packed.item_T, self.tables["token"])
        if "place" in self.tables:
            place_K = packed.position_T.clamp(max=self.options.places - 1)
            x_KE = x_KE + F.embedding(place_K, self.tables["place"])
        if self.options.encoder == "mean":
            x_KE = self.dropout(x_KE)
        return self.out(self.encoder(x_KE, packed))


class _Mean(MeanPooling):
    """The bag of words."""

    def __init__(self) -> None:
        super().__init__(0, 0)


class _FirstState(nn.Module):
    """The state of each sequence's first token."""

    def forward(self, states_KE: Tensor, packed: Packed) -> Tensor:
        first = torch.nonzero(packed.position_T == 0)[:, 0]
        return states_KE[first[torch.argsort(packed.sequence_T[first])]]


def _encoder(width: int, options: TextOptions) -> nn.Module:
    words = options.words
    if words is None:
        return _Mean()
    encoder = ENCODERS[words.name](width, words)
    if options.encoder == "transformer":
        encoder.pool = _FirstState()  # type: ignore[assignment]
    return encoder
