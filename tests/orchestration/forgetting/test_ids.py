"""An id is found wherever it is meant, and nothing else is taken for one."""

import html
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.base.errors import FootpathError
from contracts.lake.forgotten import Forgotten
from orchestration.forgetting.ids import MASK, Ids

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)


@pytest.mark.parametrize("name", ["196", "anna", "2026-01-04", "u-7@x.org", "ü'5\"b\\c", "a&b1"])
def test_a_sentence_about_a_user_loses_the_id_however_it_is_written(name: str):
    said = {"description": f"user '{name}' in view v", "user_id": name, "rows": 196}
    texts = [
        f"the embedding of user '{name}' is not finite",
        f"1 rows, such as user_id = {name} in events/x line 3",
        json.dumps(said),
        json.dumps(json.dumps(said)),
        json.dumps(said, ensure_ascii=False),
        f"<li>user '{html.escape(name)}'</li>",
    ]
    for text in texts:
        masked = Ids([name]).masked(text)
        assert MASK in masked
        assert not Ids([name]).are_in(masked)
        assert f"'{name}'" not in masked
    assert json.loads(Ids([name]).masked(texts[2]))["rows"] == 196


@pytest.mark.parametrize("name", ["196", "anna", "events", "2026-01-04"])
def test_an_id_that_other_things_are_called_too_is_left_where_no_user_is_meant(name: str):
    text = f'{{"rows": {name}, "partition": "{name}", "asset": ["shop", "{name}"]}}'
    assert Ids([name]).masked(text) == text
    assert Ids(["u-7"]).masked("xu-7 u-77 u-7b") == "xu-7 u-77 u-7b"


@given(TEXTS, TEXTS)
def test_a_log_keeps_its_length_when_ids_are_blotted_out(before: str, after: str):
    line = f"{before} user 'ü-7x' {after}"
    blotted = Ids(["ü-7x"]).blotted(line)
    assert "ü-7x" not in blotted
    assert len(blotted.encode()) == len(line.encode())


@given(st.from_regex(r"[\w.@-]{1,20}", fullmatch=True), TEXTS)
def test_landing_and_forgetting_find_an_id_in_the_same_unreadable_rows(name: str, rest: str):
    empty = Forgotten(b"key", frozenset())
    listed = Forgotten(b"key", frozenset({empty._hash(name)}))
    for text in (f'{{"user": "{name}", {rest}', f"{name}\t{rest}", f"{rest} {name}", rest):
        assert listed.is_named_in(text) or not Ids([name]).is_word_of(text)
        if text is not rest:
            assert Ids([name]).is_word_of(text)


def test_what_is_no_id_is_refused_in_one_sentence():
    for wrong in ([], [""], ["a b c d e f g h i j k l m n o p q r"]):
        with pytest.raises(FootpathError):
            Ids(wrong)
