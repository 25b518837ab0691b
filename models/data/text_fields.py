"""Fields of texts: `[TITLE] red shoe [BRAND] acme` has two, and each begins with its marker.

Shapes: M documents, K tokens of all of them, W words of the vocabulary.
"""

import torch
from torch import Tensor

from contracts.base.errors import FootpathError
from models.data.documents import Documents
from models.data.packed import SPECIAL

ATTRIBUTE, TITLE, CATEGORY, QUERY = 1, 2, 3, 4  # markers, by what they mark
_KINDS = {"[TITLE]": TITLE, "[CATEGORY]": CATEGORY, "[QUERY]": QUERY}


def kinds_of(words: list[str]) -> Tensor:
    """Returns of each word of a vocabulary what it marks [W], 0 where it is no marker."""
    return torch.tensor([_kind_of(n, word) for n, word in enumerate(words)])


def _kind_of(token: int, word: str) -> int:
    if token < len(SPECIAL) or not word.startswith("["):
        return 0
    return _KINDS.get(word, ATTRIBUTE)


def only_fields(
    documents: Documents, markers: tuple[str, ...], words: list[str], kind_W: Tensor
) -> Documents:
    """Leaves out the fields that are not read; what has no field, such as [MASK], stays.

    Raises:
      FootpathError: one of the markers marks nothing in these texts.
    """
    is_marker_W = kind_W > 0
    unknown = [m for m in markers if m not in words or not is_marker_W[words.index(m)]]
    if unknown:
        known = [word for word, is_one in zip(words, is_marker_W.tolist(), strict=True) if is_one]
        raise FootpathError(
            f"text: markers names {unknown[0]}, and the texts have {', '.join(known)}"
        )
    is_read_W = ~is_marker_W
    is_read_W[[words.index(marker) for marker in markers]] = True
    head_K = is_marker_W[documents.tokens_K]
    if not head_K.any():
        return documents
    field_K = fields_of(documents, head_K)
    is_read_K = is_read_W[documents.tokens_K[head_K]]
    # Tokens before the first marker belong to no field.
    kept_K = (field_K < 0) | is_read_K[field_K.clamp(min=0)]
    return documents.keep(kept_K)


def fields_of(documents: Documents, head_K: Tensor) -> Tensor:
    """Which field each token is in, counted over all documents; -1 for none.

    Args:
      documents: the tokens.
      head_K: true where a field begins.
    """
    before_K = head_K.cumsum(0) - 1
    first_M = torch.zeros(documents.count + 1, dtype=torch.int64, device=head_K.device)
    first_M[1:] = torch.zeros_like(documents.lengths_M).index_add_(
        0, documents.document_K, head_K.to(torch.int64)
    )
    first_K = first_M.cumsum(0)[documents.document_K]
    return torch.where(before_K >= first_K, before_K, -1)
