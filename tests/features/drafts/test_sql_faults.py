"""A slip in any SQL of a YAML is told by file, line and field, before a file is read."""

from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import DATASETS, dataset_names, load_dataset
from features.drafts.column_uses import column_uses
from features.drafts.sql_faults import check_sql
from orchestration.cli.datasets import load_checked

SHOP = (DATASETS / "shop.yaml").read_text()
TASK = """\
  - name: {name}
    kind: ranking
    {fields}
    metric: mrr
"""


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    with pytest.raises(FootpathError) as error:
        load_checked(path)
    return [line.removeprefix(f"{path}:") for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        ("user_id: user", "user_id: usr", "events.user_id", "`usr` is not valid over the declared"),
        ("query: query", "query: qery", "events.properties.query", '"qery" not found'),
        ("price: DOUBLE", "price: DUBLE", "landing.columns.price", "'DUBLE', which is not a Duck"),
        ("item_id: item\n", "sequence: ts\n", "events.sequence", "not a whole number"),
        ("category: category", "category: kind", "items.category", "`kind` is not valid"),
        ("gender: gender", "gender: sex", "users.attributes.gender", "`sex` is not valid"),
        ("(action = 'purchase') > 0", "(act = 'purchase') > 0", "tasks.2.sql",
         "`count(*) FILTER (act = 'purchase') > 0` is not valid over the columns of events"),
        ("max_broken_share: 0.05", "rules: {user_idd: 0.1}", "quality.rules.user_idd", "no rule"),
        ("max_broken_share: 0.05", "expect: [{column: properties.x, required: true}]",
         "quality.expect.0.column", "events.properties has no 'x', it has query, device"),
        ("query: query\n", "asked: query\n", "learning.query", "names the property 'query'"),
    ],
)  # fmt: skip
def test_a_slip_is_told_by_line_and_field(tmp_path, old, new, field, reason):
    assert old in SHOP
    line = SHOP[: SHOP.index(old)].count("\n") + 1
    said = faults(tmp_path, SHOP.replace(old, new, 1))
    place = f": {field}: " if field == "learning.query" else f"{line}: {field}: "
    assert any(place in each and reason in each for each in said), said


def test_all_slips_are_told_at_once(tmp_path):
    text = SHOP.replace("user_id: user", "user_id: usr", 1).replace("action: type", "action: kind")
    text = text.replace("gender: gender", "gender: sex", 1)
    said = faults(tmp_path, text)
    fields = ["events.user_id", "events.action", "users.attributes.gender"]
    assert [line.split(": ")[1] for line in said] == fields


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ("session: {before: \"act = 'view'\"}", "session.before"),
        ("holdout: 1\n    of: act = 'view'", "of"),
        ("candidates: {where: actn = 'a', relevant: 'true'}", "candidates.where"),
        ("candidates: {where: 'true', relevant: clicked}", "candidates.relevant"),
        ("candidates: {where: 'true', relevant: 'true', numbers: {price: prize}}",
         "candidates.numbers.price"),
    ],
)  # fmt: skip
def test_every_expression_of_a_task_is_bound(tmp_path, fields, field):
    metric = "mrr" if "candidates" in fields else "recall@10"
    task = TASK.format(name="more", fields=fields).replace("mrr", metric)
    said = faults(tmp_path, SHOP.replace("tasks:\n", f"tasks:\n{task}", 1))
    assert [f": tasks.0.{field}: " in each for each in said] == [True], said


def test_sql_of_a_task_sees_what_is_known_of_the_past_and_nothing_else(tmp_path):
    task = "  - {name: again, metric: auc, horizon_days: 7, known: {n: %s}, sql: count(*) > n}\n"
    (tmp_path / "shop.yaml").write_text(SHOP.replace("tasks:\n", "tasks:\n" + task % "count(*)"))
    load_checked(tmp_path / "shop.yaml")
    said = faults(tmp_path, SHOP.replace("tasks:\n", "tasks:\n" + task % "count(itm)"))
    assert [line.split(": ")[1] for line in said] == ["tasks.0.known.n", "tasks.0.sql"]


@pytest.mark.parametrize("name", dataset_names())
def test_all_sql_of_every_configured_data_set_binds(name):
    check_sql(load_dataset(name))


def test_columns_are_listed_with_the_fields_whose_sql_names_them():
    uses = column_uses(load_dataset("shop"))
    assert uses["landing"]["price"] == ["events.value"]
    assert uses["items"]["price"] == ["items.attributes.price"]
    assert uses["users"]["age"] == ["users.attributes.age_band"]
    hotels = column_uses(load_dataset("trivago-2019"))["landing"]
    assert "events.explode" in hotels["impressions"]
    # A word in a text, or behind a lambda's arrow, is no column.
    beauty = column_uses(load_dataset("s3rec-beauty"))["landing"]
    assert beauty == {"line": [field for field in beauty["line"] if field.startswith("events.")]}


def test_a_column_that_nothing_uses_is_used_for_nothing(tmp_path):
    text = SHOP.replace("device: VARCHAR", "device: VARCHAR\n    extra: VARCHAR", 1)
    (tmp_path / "shop.yaml").write_text(text)
    assert column_uses(load_checked(tmp_path / "shop.yaml"))["landing"]["extra"] == []
