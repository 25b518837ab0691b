"""Text reader: ids of documents -> one vector each, each distinct document encoded once.

The documents are no weights: they belong to the sequences that a model meets, are attached to it,
and are not kept with it.

Shapes: V items, W words, M documents, N distinct texts that are asked for, K encoded ones, D width.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.base.errors import FootpathError
from contracts.recipes.text import TextOptions
from models.data.documents import Documents
from models.data.text_fields import kinds_of, only_fields
from models.nn.text import TextEncoder


class TextReader(TextEncoder):
    """A text encoder over a table of documents."""

    document_tokens_K: Tensor
    document_lengths_M: Tensor
    item_document_V: Tensor
    kind_W: Tensor

    def __init__(self, dim: int, sizes: dict[str, int], options: TextOptions) -> None:
        super().__init__(dim, sizes["token"], sizes["action"], options)
        self.sizes = sizes
        self.item_texts = 0  # how many texts belong to items
        self._kept = _KeptTexts()
        none = torch.zeros(0, dtype=torch.int64)
        for name in ("document_tokens_K", "document_lengths_M", "item_document_V"):
            self.register_buffer(name, none, persistent=False)
        self.register_buffer("kind_W", none, persistent=False)  # of each word: 0, or a marker's

    def attach(self, documents: Documents, item_document: Tensor, words: list[str]) -> None:
        """Takes the texts that events and items are said in.

        Args:
          documents: all of them; events and items name them by their place.
          item_document: [V] the document of each vocabulary item.
          words: the vocabulary of tokens.

        Raises:
          FootpathError: the texts are written in another vocabulary than the model reads.
        """
        if len(words) != self.sizes["token"] or len(item_document) != self.sizes["item"]:
            raise FootpathError(
                f"the model reads {self.sizes['token']} words and {self.sizes['item']} items, and "
                f"the sequences have {len(words)} and {len(item_document)}: build them with the "
                f"checkpoint's vocabulary.json"
            )
        kind_W = kinds_of(words)
        if self.options.markers:
            documents = only_fields(documents, self.options.markers, words, kind_W)
        device = self.tables["token"].device
        self.document_tokens_K = documents.tokens_K.to(device)
        self.document_lengths_M = documents.lengths_M.to(device)
        self.item_document_V = item_document.to(device)
        self.item_texts = len(torch.unique(item_document))
        self.kind_W = kind_W.to(device)

    @property
    def documents(self) -> Documents:
        """All texts.

        Raises:
          FootpathError: none are attached.
        """
        if not len(self.document_lengths_M):
            raise FootpathError(
                "the model reads text, and has been given none: attach the texts of the sequences"
            )
        return Documents(self.document_tokens_K, self.document_lengths_M)

    def read(self, document: Tensor, action: Tensor) -> Tensor:
        """Encodes texts by their ids, each distinct one once: [...] -> [..., D]."""
        key = document * self.sizes["action"]
        key = key + action if self.options.action else key
        distinct_N, place = torch.unique(key, return_inverse=True)
        keys_K, vectors_KD = self._encoded(distinct_N)
        order_K = torch.argsort(keys_K)
        found_N = order_K[torch.searchsorted(keys_K[order_K], distinct_N)]
        return F.embedding(found_N[place], vectors_KD)

    def _encoded(self, distinct_N: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys [K] and vectors [K, D] of these texts, and of others of the same step."""
        texts, actions = self.documents, self.sizes["action"]
        is_step = self.training and torch.is_grad_enabled()
        kept = self._kept.recall(self.parameters()) if is_step else None
        keys_K, vectors_KD = kept or (distinct_N[:0], self.tables["token"].new_zeros(0, self.dim))
        new_N = distinct_N[~torch.isin(distinct_N, keys_K)]
        if len(new_N):
            vectors_ND = self(texts.pick(new_N // actions), new_N % actions)
            keys_K, vectors_KD = torch.cat([keys_K, new_N]), torch.cat([vectors_KD, vectors_ND])
            if is_step and vectors_KD.requires_grad:
                self._kept.keep(self.parameters(), keys_K, vectors_KD)
        return keys_K, vectors_KD


class _KeptTexts:
    """Texts that a step of training has encoded: keys [K] and vectors [K, D].

    They end when a gradient has gone through them, for their graph is gone then, and when weights
    have changed without one.
    """

    def __init__(self) -> None:
        self._texts: tuple[Tensor, Tensor] | None = None
        self._versions: tuple[int, ...] = ()  # how often each weight had changed

    def keep(self, weights: Iterable[Tensor], keys_K: Tensor, vectors_KD: Tensor) -> None:
        self._texts = keys_K, vectors_KD
        self._versions = tuple(weight._version for weight in weights)
        vectors_KD.register_hook(self._forget)

    def recall(self, weights: Iterable[Tensor]) -> tuple[Tensor, Tensor] | None:
        is_same = self._versions == tuple(weight._version for weight in weights)
        return self._texts if is_same else None

    def _forget(self, gradient: Tensor) -> None:  # noqa: ARG002
        self._texts = None

    def __reduce__(self) -> tuple[type["_KeptTexts"], tuple[()]]:
        """A copy begins without any."""
        return _KeptTexts, ()
