"""Behaviour encoder: one event -> one vector, the sum of what is known of it.

`content` is what happened (item, action, category, text), and is also what objectives compare a
user vector with; `forward` adds how it happened (value, time gap, age, position).

Text is read from a table of all documents, which is no weight: it belongs to the sequences that a
model meets, and `attach_text` puts it there. Each distinct document of a batch is encoded once, as
an input and as what inputs are compared with; and where a softmax over all items would read a large
catalogue at each step, it reads a sample (`catalogue`).

Shapes: V items, C of them that are scored, N texts or targets, K kept texts, D width.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.errors import FootpathError
from models.age import AGE_BUCKETS
from models.data import Sequences
from models.data_files import SPECIAL
from models.documents import Documents
from models.packed import GAP_BUCKETS, VALUE_BUCKETS, Packed, value_buckets
from models.text import Options as TextOptions
from models.text import TextEncoder

ATTRIBUTE, TITLE, CATEGORY, QUERY = 1, 2, 3, 4  # markers, by what they mark
_KINDS = {"[TITLE]": TITLE, "[CATEGORY]": CATEGORY, "[QUERY]": QUERY}


@dataclass(frozen=True)
class BehaviourShape:
    """What the tables of a behaviour encoder are as large as."""

    dim: int
    max_length: int
    fields: tuple[str, ...]
    sizes: dict[str, int]  # vocabulary lengths
    text: TextOptions = field(default_factory=TextOptions)


@dataclass(frozen=True)
class Catalogue:
    """The items that a softmax over all of them looks at."""

    items_CD: Tensor
    item_C: Tensor | None = None  # which they are; all, in order, where it is left out
    log_weight_C: Tensor | None = None  # of how many items each stands for

    def scores(self, query_ND: Tensor) -> Tensor:
        """Returns logits [N, C] whose sum of exponentials is, on average, that over all items."""
        logits_NC = query_ND @ self.items_CD.T
        return logits_NC if self.log_weight_C is None else logits_NC + self.log_weight_C

    def place(self, item_N: Tensor) -> Tensor:
        """Returns the columns of items that were asked for when the catalogue was read."""
        if self.item_C is None:
            return item_N
        order_C = torch.argsort(self.item_C)
        return order_C[torch.searchsorted(self.item_C[order_C], item_N)]


@dataclass(frozen=True)
class _Kept:
    """Texts that were encoded in a step of training."""

    weights: tuple[int, ...]  # how often each had changed
    keys_K: Tensor
    vectors_KD: Tensor


class BehaviourEncoder(nn.Module):
    """Sum of the embeddings of the chosen fields."""

    document_tokens_K: Tensor
    document_lengths_M: Tensor
    item_document_V: Tensor
    kind_W: Tensor

    def __init__(self, shape: BehaviourShape) -> None:
        super().__init__()
        self.sizes = shape.sizes
        rows = shape.sizes | {"gap": GAP_BUCKETS, "age": AGE_BUCKETS}
        rows |= {"value": VALUE_BUCKETS, "position": shape.max_length}
        tables = [f for f in shape.fields if f != "text"]
        self.tables = nn.ParameterDict(
            {f: nn.Parameter(0.02 * torch.randn(rows[f], shape.dim)) for f in tables}
        )
        self.text = None
        if "text" in shape.fields:
            sizes = shape.sizes["token"], shape.sizes["action"]
            self.text = TextEncoder(shape.dim, *sizes, shape.text)
        self.item_texts = 0  # how many texts belong to items
        self._kept: _Kept | None = None
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
        if self.text is None:
            return
        if len(words) != self.sizes["token"] or len(item_document) != self.sizes["item"]:
            raise FootpathError(
                f"the model reads {self.sizes['token']} words and {self.sizes['item']} items, and "
                f"the sequences have {len(words)} and {len(item_document)}: build them with the "
                f"checkpoint's vocabulary.json"
            )
        kind_W = torch.tensor([_kind_of(n, word) for n, word in enumerate(words)])
        if read := self.text.options.markers:
            documents = _only(documents, read, words, kind_W > 0)
        device = self._device
        self.document_tokens_K = documents.tokens_K.to(device)
        self.document_lengths_M = documents.lengths_M.to(device)
        self.item_document_V = item_document.to(device)
        self.item_texts = len(torch.unique(item_document))
        self.kind_W = kind_W.to(device)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

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

    def content(
        self, item: Tensor, action: Tensor, category: Tensor, document: Tensor | None = None
    ) -> Tensor:
        """Embeds what happened: id tensors of one shape -> the same shape and D.

        Without `document`, the text is that of the item in the vocabulary.
        """
        vectors = self._sum({"item": item, "action": action, "category": category})
        if self.text is None:
            return self._one(vectors)
        document = self.item_document_V[item] if document is None else document
        return self._one([*vectors, self.text_of(document, action)])

    def described(self, item: Tensor, action: Tensor, category: Tensor, texts: Documents) -> Tensor:
        """Embeds what happened to N items, each with a text of its own -> [N, D]."""
        assert self.text is not None
        vectors = self._sum({"item": item, "action": action, "category": category})
        return self._one([*vectors, self.text(texts, action)])

    def items(self) -> Tensor:
        """Returns the vectors of all items [V, D], text included, without action and category."""
        if self.text is None:
            return self.tables["item"]
        return self._vectors_of(torch.arange(len(self.item_document_V), device=self._device))

    def catalogue(self, needed_N: Tensor) -> Catalogue:
        """Returns what a softmax over all items is taken of: all, or in training a sample.

        Where more texts than `text.sampled` belong to items, the items that are needed stand for
        themselves, and as many others, drawn alike, for all the rest: the sum over all items is
        then right on average, and no state has to be kept. Special items are drawn by nobody.

        Args:
          needed_N: items that are targets.
        """
        most = self.text.options.sampled if self.text is not None else 0
        if not self.training or not most or self.item_texts <= most:
            return Catalogue(self.items())
        needed = torch.unique(needed_N)
        is_rest_V = torch.ones(len(self.item_document_V), dtype=torch.bool, device=needed.device)
        is_rest_V[: len(SPECIAL)] = False
        is_rest_V[needed] = False
        rest = torch.nonzero(is_rest_V)[:, 0]
        drawn = rest[torch.randperm(len(rest), device=rest.device)[:most]]
        item_C = torch.cat([needed, drawn])
        weight_C = torch.ones(len(item_C), device=item_C.device)
        weight_C[len(needed) :] = len(rest) / max(1, len(drawn))
        return Catalogue(self._vectors_of(item_C), item_C, weight_C.log())

    def _vectors_of(self, item_C: Tensor) -> Tensor:
        vectors = [self.tables["item"][item_C]] if "item" in self.tables else []
        if self.text is not None:
            vectors.append(self.text_of(self.item_document_V[item_C], torch.zeros_like(item_C)))
        return self._one(vectors)

    def forward(self, events: Packed) -> Tensor:
        """Embeds packed events -> [T, D].

        Raises:
          FootpathError: ages are read, and nobody has said when the events are looked at.
        """
        if "age" in self.tables and events.age_T is None:
            raise FootpathError(
                "the model reads the field 'age', and the events were read without a clock: "
                "take the sequences .with_clock()"
            )
        vectors = self._sum(
            {
                "item": events.item_T,
                "action": events.action_T,
                "category": events.category_T,
                "gap": events.gap_T,
                "age": events.age_T,
                "value": value_buckets(events.value_T) if "value" in self.tables else None,
                "position": events.position_T,
            }
        )
        if self.text is not None:
            vectors.append(self.text_of(events.document_T, events.action_T))
        return self._one(vectors)

    def text_of(self, document: Tensor, action: Tensor) -> Tensor:
        """Encodes texts by their ids, each distinct one once: [...] -> [..., D]."""
        assert self.text is not None
        texts, actions = self.documents, self.sizes["action"]
        key = document * actions + action if self.text.options.action else document * actions
        distinct_N, place = torch.unique(key, return_inverse=True)
        keys_K, vectors_KD = self._recall(distinct_N)
        new_N = distinct_N[~torch.isin(distinct_N, keys_K)]
        if len(new_N):
            vectors_ND = self.text(texts.pick(new_N // actions), new_N % actions)
            keys_K, vectors_KD = torch.cat([keys_K, new_N]), torch.cat([vectors_KD, vectors_ND])
            self._keep(keys_K, vectors_KD)
        order_K = torch.argsort(keys_K)
        found_N = order_K[torch.searchsorted(keys_K[order_K], distinct_N)]
        return F.embedding(found_N[place], vectors_KD)

    def _recall(self, distinct_N: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what was encoded before in this step of training: keys [K] and vectors [K, D]."""
        kept, text = self._kept, self.text
        assert text is not None
        if kept and self.training and torch.is_grad_enabled() and kept.weights == _version(text):
            return kept.keys_K, kept.vectors_KD
        return distinct_N[:0], text.tables["token"].new_zeros(0, text.dim)

    def _keep(self, keys_K: Tensor, vectors_KD: Tensor) -> None:
        """Keeps texts until the step's gradient has gone through them, or weights have changed."""
        assert self.text is not None
        if not (self.training and vectors_KD.requires_grad):
            return
        self._kept = _Kept(_version(self.text), keys_K, vectors_KD)

        def forget(gradient: Tensor) -> None:  # noqa: ARG001
            self._kept = None

        vectors_KD.register_hook(forget)

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins without what a step keeps."""
        return self.__dict__ | {"_kept": None}

    def _sum(self, ids: dict[str, Tensor | None]) -> list[Tensor]:
        return [F.embedding(ids[f], table) for f, table in self.tables.items() if f in ids]

    def _one(self, vectors: list[Tensor]) -> Tensor:
        return functools.reduce(torch.add, vectors)


def _version(module: nn.Module) -> tuple[int, ...]:
    return tuple(weight._version for weight in module.parameters())


def _kind_of(token: int, word: str) -> int:
    if token < len(SPECIAL) or not word.startswith("["):
        return 0
    return _KINDS.get(word, ATTRIBUTE)


def attach_text(module: nn.Module, sequences: Sequences) -> None:
    """Gives all behaviour encoders below a module, a teacher's too, the texts of sequences.

    Raises:
      FootpathError: a model reads text, and the sequences have none, or in another vocabulary.
    """
    readers = [
        part
        for part in module.modules()
        if isinstance(part, BehaviourEncoder) and part.text is not None
    ]
    if not readers:
        return
    if not sequences.has_text:
        raise FootpathError(
            f"{sequences.path}: the model reads text, and these sequences have none: rebuild "
            f"training_sequences of a data set that has a catalogue or learning.query"
        )
    items = torch.from_numpy(sequences.item_document.astype("int64"))
    for reader in readers:
        reader.attach(sequences.documents, items, sequences.vocabulary["token"])


def _only(
    documents: Documents, markers: tuple[str, ...], words: list[str], is_marker_W: Tensor
) -> Documents:
    """Leaves out the fields that are not read; what has no field, such as [MASK], stays."""
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
    """Returns which field each token is in, counted over all documents; -1 for none.

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
