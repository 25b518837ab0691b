"""Behaviour encoder: one event -> one vector, the sum of what is known of it.

`content` is what happened (item, action, category, text), and is also what objectives compare a
user vector with; `forward` adds where it happened (time gap, age, position).

Text is read from a table of all documents, which is no weight: it belongs to the sequences that a
model meets, and `attach_text` puts it there. Each distinct document of a batch is encoded once.
"""

import functools
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.errors import FootpathError
from models.age import AGE_BUCKETS
from models.data import Sequences
from models.data_files import SPECIAL
from models.documents import Documents
from models.packed import GAP_BUCKETS, Packed
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
        rows["position"] = shape.max_length
        tables = [f for f in shape.fields if f != "text"]
        self.tables = nn.ParameterDict(
            {f: nn.Parameter(0.02 * torch.randn(rows[f], shape.dim)) for f in tables}
        )
        self.text = None
        if "text" in shape.fields:
            sizes = shape.sizes["token"], shape.sizes["action"]
            self.text = TextEncoder(shape.dim, *sizes, shape.text)
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
        device = next(self.parameters()).device
        self.document_tokens_K = documents.tokens_K.to(device)
        self.document_lengths_M = documents.lengths_M.to(device)
        self.item_document_V = item_document.to(device)
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
        vectors = [self.tables["item"]] if "item" in self.tables else []
        if self.text is not None:
            documents = self.item_document_V
            vectors.append(self.text_of(documents, torch.zeros_like(documents)))
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
        vectors_ND = self.text(texts.pick(distinct_N // actions), distinct_N % actions)
        return F.embedding(place, vectors_ND)

    def _sum(self, ids: dict[str, Tensor | None]) -> list[Tensor]:
        return [F.embedding(ids[f], table) for f, table in self.tables.items() if f in ids]

    def _one(self, vectors: list[Tensor]) -> Tensor:
        return functools.reduce(torch.add, vectors)


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
