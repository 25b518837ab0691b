"""Text of events: the catalog and queries as runs of tokens, in a language that stays."""

import datetime as dt
import json

import numpy as np
import pytest

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from features.learning.sequences import build_sequences
from tests.builders.datasets import dataset_like
from tests.builders.events import (
    AS_OF,
    BERLIN,
    CUTOFF,
    Event,
    publish_events,
    publish_items,
)

SHOP = dataset_like("shop", learning={"min_item_count": 2, "query": "query"})
CATALOG = [
    ("a", "Red Shoe, size 42", "shoes", [("brand", "Acme"), ("color", "red")]),
    ("b", "Blue shoe", "shoes", [("brand", "acme")]),
    ("rare", "RED hat", None, None),
    ("bare", None, None, None),
    ("later", "Unseen thing", "new", None),
]


def event(user, hours, item=None, query=None) -> Event:
    at = CUTOFF - dt.timedelta(hours=hours)
    action = "view" if item else "search"
    said = {"query": query} if query else None
    return Event(user, at, f"{user}{hours}", action, item, None, said)


PAST = [event("u", 5, "a"), event("u", 4, "a"), event("u", 3, query="Red, shoe?"), event("v", 9)]
PAST += [event("v", 8, "b"), event("v", 7, "b"), event("v", 6, "rare"), event("v", 5, "bare")]


@pytest.fixture
def lake(lake: Lake) -> Lake:
    publish_items(lake, CATALOG)
    return lake


class Written:
    """What was published, read back."""

    def __init__(self, report) -> None:
        self.words = json.loads((report.folder / "vocabulary.json").read_text())
        for name in ("document", "document_offsets", "document_tokens", "item_document", "item"):
            setattr(self, name, np.load(report.folder / f"{name}.npy"))

    def text(self, document: int) -> str:
        start, stop = self.document_offsets[[document, document + 1]]
        return " ".join(self.words["token"][t] for t in self.document_tokens[start:stop])

    def texts(self) -> list[str]:
        return [self.text(document) for document in self.document]


def test_an_event_s_document_is_its_item_s_catalog_text_or_its_query(lake):
    publish_events(lake, PAST, BERLIN)
    written = Written(build_sequences(SHOP, lake, AS_OF))
    a = "[TITLE] red shoe size 42 [CATEGORY] shoes [BRAND] acme [COLOR] red"
    b = "[TITLE] blue shoe [CATEGORY] shoes [BRAND] acme"
    assert written.texts() == [a, a, "[QUERY] red shoe", "", b, b, "[TITLE] red [UNK]", ""]
    assert [written.text(d) for d in written.item_document] == ["", "", "", a, b]
    assert written.text(0) == ""
    assert written.text(1) == "[MASK]"


def test_markers_come_first_and_words_by_how_many_events_say_them(lake):
    publish_events(lake, PAST, BERLIN)
    words = Written(build_sequences(SHOP, lake, AS_OF)).words["token"]
    markers = ["[TITLE]", "[CATEGORY]", "[BRAND]", "[COLOR]", "[QUERY]"]
    # shoe: 2 + 2 + 1 events; red: twice each time in a, one query, one hat; hat once: too rare
    assert words[:10] == ["[PAD]", "[MASK]", "[UNK]", *markers, "red", "shoe"]
    assert set(words[10:]) == {"acme", "shoes", "blue", "size", "42"}


def test_a_frozen_vocabulary_reads_new_documents_with_the_words_it_knows(lake):
    publish_events(lake, PAST, BERLIN)
    first = build_sequences(SHOP, lake, AS_OF)
    today = [event("w", 2, "later"), event("w", 1, query="blue thing")]
    publish_events(lake, PAST + today, BERLIN)
    frozen = first.folder / "vocabulary.json"
    later = build_sequences(SHOP, lake, AS_OF, frozen)
    assert later.vocabulary_hash == first.vocabulary_hash
    texts = Written(later).texts()
    assert texts[-2:] == ["[TITLE] [UNK] [UNK] [CATEGORY] [UNK]", "[QUERY] blue [UNK]"]
    assert Written(later).item[-2] == 2


def test_events_after_the_as_of_add_no_document_and_no_word(lake):
    publish_events(lake, PAST, BERLIN)
    before = build_sequences(SHOP, lake, AS_OF)
    after = [event("u", -3, "later"), event("u", -4, "later"), event("v", -2, query="new words")]
    publish_events(lake, PAST + after, BERLIN)
    assert build_sequences(SHOP, lake, AS_OF) == before


def test_a_document_is_cut_at_the_declared_length(lake):
    publish_events(lake, PAST, BERLIN)
    dataset = dataset_like("shop", learning={"max_tokens": 3})
    assert Written(build_sequences(dataset, lake, AS_OF)).texts()[0] == "[TITLE] red shoe"


def test_a_vocabulary_from_before_there_was_text_stays_as_it_is(lake, tmp_path):
    publish_events(lake, PAST, BERLIN)
    first = build_sequences(SHOP, lake, AS_OF)
    words = json.loads((first.folder / "vocabulary.json").read_text())
    del words["token"]
    frozen = tmp_path / "vocabulary.json"
    frozen.write_text(json.dumps(words, ensure_ascii=False))
    written = Written(build_sequences(SHOP, lake, AS_OF, frozen))
    assert written.words == words


def test_a_query_that_no_property_holds_is_named(lake):
    publish_events(lake, PAST, BERLIN)
    dataset = dataset_like("shop", learning={"query": "typed"})
    with pytest.raises(FootpathError, match=r"learning\.query: names the property 'typed'"):
        build_sequences(dataset, lake, AS_OF)
