"""Tasks of a draft: questions that fit what the sample tells."""

import datetime as dt
from pathlib import Path

import pytest

from tests.features.drafts.test_drafting import drafted, put

ACTIONS = ("view", "purchase", "view")


def log(days: int, item: bool = True, actions: tuple[str, ...] = ACTIONS) -> bytes:
    """Five users, one event a day each for some days."""
    first = dt.datetime(2026, 1, 1, 9)
    rows = ["user_id,timestamp,action" + (",item_id" if item else "")]
    for n in range(days + 1):
        for user in range(5):
            at = (first + dt.timedelta(days=n, minutes=user)).isoformat()
            what = actions[(n + user) % len(actions)]
            rows.append(f"u{user},{at}Z,{what}" + (f",i{(n * 7 + user) % 11}" if item else ""))
    return "\n".join(rows).encode()


@pytest.mark.parametrize(
    ("days", "item", "actions", "expected"),
    [
        (200, True, ACTIONS, ["returns_30d", "purchase_30d", "next_item"]),
        (30, True, ACTIONS, ["returns_7d", "purchase_7d", "next_item"]),
        (30, False, ("view", "search"), ["returns_7d"]),
        (5, True, ("view",), ["returns_1d", "next_item"]),
        (1, True, ACTIONS, ["next_item"]),
        (1, False, ACTIONS, []),
    ],
)
def test_a_draft_asks_what_its_log_can_answer(tmp_path: Path, days, item, actions, expected):
    path = put(tmp_path / "in" / "log.csv", log(days, item, actions))
    dataset, text, _ = drafted(path, tmp_path)
    assert [task.name for task in dataset.tasks] == expected
    assert ("what do you want to know of a user?" in text) == bool(expected)


def test_users_who_never_come_back_are_not_asked_whether_they_do(tmp_path: Path):
    rows = [f"s{n},2026-01-{n % 28 + 1:02}T09:00:00Z,view,i{n % 7}" for n in range(60)]
    text = "\n".join(["user_id,timestamp,action,item_id", *rows]).encode()
    dataset, _, _ = drafted(put(tmp_path / "in" / "log.csv", text), tmp_path)
    assert [task.name for task in dataset.tasks] == ["next_item"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (
            ("Viewed Item", "added_to_cart", "purchase"),
            ["added_to_cart", "purchase", "viewed_item"],
        ),
        (("gold", "silver", "view"), ["event"]),  # one word of a plan is no proof
        (("view", "viewer", "a", "b", "c"), ["event"]),  # nor are a few of many
    ],
)
def test_a_column_is_the_action_by_its_values_where_no_name_says_so(tmp_path, texts, expected):
    rows = [f"u{n % 7},2026-01-{n % 28 + 1:02}T09:00:00Z,{texts[n % len(texts)]},i{n % 5}"
            for n in range(90)]  # fmt: skip
    text = "\n".join(["user_id,timestamp,what,item_id", *rows]).encode()
    dataset, said, _ = drafted(put(tmp_path / "in" / "log.csv", text), tmp_path)
    assert sorted(dataset.actions) == expected
    assert ("its values look like what was done" in said) == (expected != ["event"])
