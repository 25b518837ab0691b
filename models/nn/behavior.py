"""Behavior encoder: one event -> one vector, the sum of what is known of it.

`content` is what happened (item, action, category, text), and is also what objectives compare a
user vector with; `forward` adds how it happened (value, time gap, age, position).

Text is read from a table of all documents (models.nn.text_reader), which belongs to the sequences
that a model meets; `attach_text` puts it there. Where a softmax over all items would read a large
catalog of texts at each step, it reads a sample (models.nn.catalog).

Shapes: V items, C of them that are scored, T events, N targets or texts, D width.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from contracts.recipes.text import TextOptions
from models.data.documents import Documents
from models.data.packed import AGE_BUCKETS, GAP_BUCKETS, VALUE_BUCKETS, Packed, value_buckets
from models.data.sequences import Sequences
from models.nn.catalog import Catalog, sampled_items
from models.nn.text_reader import TextReader


class BehaviorEncoder(nn.Module):
    """Sum of the embeddings of the chosen fields."""

    def __init__(
        self,
        dim: int,
        max_length: int,
        fields: tuple[str, ...],
        sizes: dict[str, int],
        text: TextOptions | None,
        sampled: int = 0,
        is_lazy: bool = False,
    ) -> None:
        """Makes tables of fresh weights.

        Args:
          dim: width D.
          max_length: positions that are told apart.
          fields: what is read of an event.
          sizes: vocabulary lengths.
          text: with the field `text`.
          sampled: items beside those needed that stand for all the rest of them in a softmax; 0:
            all are read.
          is_lazy: lookups of items give sparse gradients (models.training.lazy_adam).
        """
        super().__init__()
        self.sampled, self.is_lazy = sampled, is_lazy
        rows = sizes | {"gap": GAP_BUCKETS, "age": AGE_BUCKETS}
        rows |= {"value": VALUE_BUCKETS, "position": max_length}
        tables = [f for f in fields if f != "text"]
        self.tables = nn.ParameterDict(
            {f: nn.Parameter(0.02 * torch.randn(rows[f], dim)) for f in tables}
        )
        self.text = TextReader(dim, sizes, text) if text else None

    def content(
        self, item: Tensor, action: Tensor, category: Tensor, document: Tensor | None = None
    ) -> Tensor:
        """Embeds what happened: id tensors of one shape -> the same shape and D.

        Without `document`, the text is that of the item in the vocabulary.
        """
        vectors = self._sum({"item": item, "action": action, "category": category})
        if self.text is None:
            return self._one(vectors)
        document = self.text.item_document_V[item] if document is None else document
        return self._one([*vectors, self.text.read(document, action)])

    def described(self, item: Tensor, action: Tensor, category: Tensor, texts: Documents) -> Tensor:
        """Embeds what happened to N items, each with a text of its own -> [N, D]."""
        assert self.text is not None
        vectors = self._sum({"item": item, "action": action, "category": category})
        return self._one([*vectors, self.text(texts, action)])

    def items(self) -> Tensor:
        """The vectors of all items [V, D], text included, without action and category."""
        if self.text is None:
            return self.tables["item"]
        document_V = self.text.item_document_V
        return self.items_at(torch.arange(len(document_V), device=document_V.device))

    def catalog(self, needed_N: Tensor) -> Catalog:
        """What a softmax over all items is taken of: all, or a sample.

        Of so many items that `sampled` is set, or where more texts than `text.sampled` belong to
        items, a sample is read.

        Args:
          needed_N: items that are targets, or are scored for another reason.
        """
        most, text = self.sampled, self.text
        if text is not None:
            most = text.options.sampled if text.options.sampled < text.item_texts else 0
        if not most:
            return Catalog(self.items())
        items = len(self.tables["item"] if text is None else text.item_document_V)
        item_C, log_weight_C = sampled_items(needed_N, items, most)
        return Catalog(self.items_at(item_C), item_C, log_weight_C)

    def items_at(self, item: Tensor) -> Tensor:
        """The vectors of some items, as `items` has them: ids -> the same shape and D."""
        vectors = self._sum({"item": item})
        if self.text is not None:
            document = self.text.item_document_V[item]
            vectors.append(self.text.read(document, torch.zeros_like(item)))
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
            vectors.append(self.text.read(events.document_T, events.action_T))
        return self._one(vectors)

    def _sum(self, ids: dict[str, Tensor | None]) -> list[Tensor]:
        return [
            F.embedding(ids[f], table, sparse=f == "item" and self.is_lazy)
            for f, table in self.tables.items()
            if f in ids
        ]

    def _one(self, vectors: list[Tensor]) -> Tensor:
        return functools.reduce(torch.add, vectors)


def attach_text(module: nn.Module, sequences: Sequences) -> None:
    """Gives all behavior encoders below a module, a teacher's too, the texts of sequences.

    Raises:
      FootpathError: a model reads text, and the sequences have none, or in another vocabulary.
    """
    readers = [part for part in module.modules() if isinstance(part, TextReader)]
    if not readers:
        return
    if not sequences.has_text:
        raise FootpathError(
            f"{sequences.path}: the model reads text, and these sequences have none: rebuild "
            f"training_sequences of a data set that has a catalog or learning.query"
        )
    items = torch.from_numpy(sequences.item_document.astype("int64"))
    for reader in readers:
        reader.attach(sequences.documents, items, sequences.vocabulary["token"])
