"""Views of texts: documents with fields left out, and words left out, hidden or swapped.

A view never adds a word. Something of every document is left: the field, and the word, with the
highest chance stay.

Shapes: M documents, K tokens, W words of the vocabulary, L chances a document.
"""

import torch
from torch import Tensor

from contracts.recipes.methods import UbmOptions
from models.data.documents import Documents
from models.data.packed import MASK
from models.data.text_fields import ATTRIBUTE, CATEGORY, fields_of


def text_view(
    documents: Documents, kind_W: Tensor, chance_ML2: Tensor, rates: UbmOptions
) -> Documents:
    """A view of each document.

    Args:
      documents: what to change; every one comes out once, in order.
      kind_W: what each word of the vocabulary is, as `TextReader.kind_W`.
      chance_ML2: numbers in [0, 1): whether a token stays, and whether it is swapped. Tokens beyond
        L use them again.
      rates: how likely each change is.
    """
    place_K = documents.position_K % chance_ML2.shape[1]
    stay_K, swap_K = chance_ML2[documents.document_K, place_K].unbind(1)
    head_K = kind_W[documents.tokens_K] > 0
    kept_K = _kept_fields(documents, kind_W, head_K, stay_K, rates)
    dropped_K = ~head_K & (stay_K < rates.word_drop)
    kept_K &= ~dropped_K | _highest(documents, stay_K, kept_K & ~head_K)
    masked_K = ~head_K & ~dropped_K & (stay_K < rates.word_drop + rates.word_mask)
    tokens_K = documents.tokens_K.masked_fill(masked_K, MASK)
    order_K = _swapped(documents, head_K, ~head_K & (swap_K < rates.word_swap))
    view = Documents(tokens_K[order_K], documents.lengths_M)
    return view.keep(kept_K[order_K])


def _kept_fields(
    documents: Documents, kind_W: Tensor, head_K: Tensor, stay_K: Tensor, rates: UbmOptions
) -> Tensor:
    """Returns true for the tokens of the fields that stay; titles and queries always do."""
    if not head_K.any():
        return torch.ones_like(head_K)
    kind_K = kind_W[documents.tokens_K]
    stays_K = stay_K >= rates.attribute_drop * (kind_K == ATTRIBUTE).to(stay_K.dtype)
    stays_K &= stay_K >= rates.category_drop * (kind_K == CATEGORY).to(stay_K.dtype)
    stays_K |= _highest(documents, stay_K, head_K)
    field_K = fields_of(documents, head_K)
    return (field_K < 0) | stays_K[head_K][field_K.clamp(min=0)]


def _highest(documents: Documents, chance_K: Tensor, among_K: Tensor) -> Tensor:
    """Returns true for the token of each document with the highest chance among some."""
    asked_K = chance_K.masked_fill(~among_K, -1.0)
    top_M = asked_K.new_full((documents.count,), -1.0)
    top_M = top_M.scatter_reduce(0, documents.document_K, asked_K, "amax")
    return among_K & (asked_K == top_M[documents.document_K])


def _swapped(documents: Documents, head_K: Tensor, moved_K: Tensor) -> Tensor:
    """The order of tokens in which those that move come after the word behind them."""
    longest = int(documents.lengths_M.max()) + 2 if documents.count else 2
    # Rises at each document and each field, so that no word leaves its own.
    block_K = documents.document_K + head_K.cumsum(0)
    place_K = 2 * documents.position_K + 3 * moved_K.to(torch.int64)
    return torch.argsort(block_K * (2 * longest + 4) + place_K, stable=True)
