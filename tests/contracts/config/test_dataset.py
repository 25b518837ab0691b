"""A data set's YAML is checked on load, and a fault names file, line and field."""

import datetime as dt
from pathlib import Path

import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import DATASETS, dataset_names, load_dataset, load_dataset_file
from contracts.config.sources import enable, is_enabled, link_source, source_end, source_folder

SHOP = (DATASETS / "shop.yaml").read_text()


def edited(tmp_path: Path, old: str, new: str) -> tuple[Path, int]:
    """Writes the shop's YAML with one change; returns it and the line of the change."""
    assert old in SHOP
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP.replace(old, new, 1))
    return path, SHOP[: SHOP.index(old)].count("\n") + 1


@pytest.mark.parametrize("name", dataset_names())
def test_every_configured_data_set_loads(name: str):
    assert load_dataset(name).name == name


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(FootpathError, match=r"no data set 'nope'.*shop"):
        load_dataset("nope")


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        ("timezone: Europe/Berlin", "timezone: Mars/Phobos", "timezone", "IANA"),
        (
            "user_id: user",
            "user: user",
            "events.user",
            "there is no such field: did you mean 'user_id'?",
        ),
        ("format: jsonl", "format: xml", "landing.format", "jsonl"),
        ("horizon_days: 7", "horizon_days: 0", "tasks.2.horizon_days", "greater than"),
        ("start: 2026-01-01", "start: yesterday", "partitions.start", "date"),
        ("title: title", "title: no", "items.title", "reads a truth value here: put it in quotes"),
        ("name: shop", "name: shp", "name", "is 'shp', and the file's name says 'shop'"),
        ("of: add_to_cart, per", "of: add_crt, per", "features.declared.0",
         "funnel asks for action 'add_crt', and `actions` has search, view"),
        ("recipes: [", "recipes: [pmut_bag, ", "learning.recipes.0.method", "no method 'pmut'"),
        ("ptum_bert4rec: {epochs: 4", "ptum_bert4rec: {epochs: x",
         "learning.settings.ptum_bert4rec.epochs",
         "valid integer"),
    ],
)  # fmt: skip
def test_a_fault_names_file_line_and_field(tmp_path, old, new, field, reason):
    path, line = edited(tmp_path, old, new)
    with pytest.raises(FootpathError) as error:
        load_dataset_file(path)
    sentences = str(error.value).splitlines()
    assert any(f"{path}:{line}: {field}: " in s and reason in s for s in sentences), sentences


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("coles_gru: {epochs: 4", "settings of 'coles_gru': recipes has future_bag"),
        ("coles_bag: {seed: 4", r"learning.settings.coles_bag.seed: there is no such field"),
        ("coles_bag: {validation: 4", "validation is learning.validation, for all recipes"),
    ],
)
def test_settings_are_those_of_a_recipe_that_is_there(tmp_path, new, reason):
    path, _ = edited(tmp_path, "ptum_bert4rec: {epochs: 4", new)
    with pytest.raises(FootpathError, match=reason):
        load_dataset_file(path)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("{task: shoe_size}", r"task 'shoe_size', and the tasks .* are gender, age, purchase_7d"),
        ("{task: gender, patience: 0}", r"learning.validation.patience: .*greater than"),
        ("{task: gender, labels: here}", r"learning.validation.labels: there is no such field"),
    ],
)
def test_what_stops_pre_training_is_a_task_of_the_data_set(tmp_path, new, reason):
    path, _ = edited(tmp_path, "  finetuning:", f"  validation: {new}\n  finetuning:")
    with pytest.raises(FootpathError, match=reason):
        load_dataset_file(path)


def test_broken_yaml_names_the_line(tmp_path):
    path, line = edited(tmp_path, "timezone: Europe/Berlin", "timezone: [Europe/Berlin")
    with pytest.raises(FootpathError, match=rf"{path}:{line + 1}: not valid YAML"):
        load_dataset_file(path)


def test_a_date_that_is_none_is_a_sentence(tmp_path):
    path, line = edited(tmp_path, "start: 2026-01-01", "start: 2026-01-41")
    place = f":{line}: partitions.start: 2026-01-41 looks like a date and is none"
    with pytest.raises(FootpathError, match=place):
        load_dataset_file(path)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("title: Synthetic shop", "title: Synthetic shop\ntitle: Other", "title"),
        ("  user_id: user\n", "  user_id: user\n  user_id: id\n", "events.user_id"),
    ],
)
def test_a_field_that_is_there_twice_is_refused(tmp_path, old, new, place):
    path, line = edited(tmp_path, old, new)
    with pytest.raises(FootpathError, match=rf"{path}:{line + 1}: {place}: is here a second time"):
        load_dataset_file(path)


def test_a_file_that_is_not_utf8_says_so(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(FootpathError, match="not UTF-8"):
        load_dataset_file(path)


def test_a_task_must_ask_for_a_column_that_is_there(tmp_path):
    path, _ = edited(tmp_path, "column: gender, metric", "column: shoe_size, metric")
    with pytest.raises(FootpathError, match=r"task gender asks for user attribute 'shoe_size'"):
        load_dataset_file(path)


def test_the_source_folder_is_remembered_and_the_environment_wins(lake_home, monkeypatch):
    with pytest.raises(FootpathError, match="footpath datasets link ml-100k FOLDER"):
        source_folder("ml-100k")
    link_source("ml-100k", "/data/movies")
    assert source_folder("ml-100k") == "/data/movies"
    monkeypatch.setenv("FOOTPATH_SOURCE_ML_100K", "s3://bucket/movies")
    assert source_folder("ml-100k") == "s3://bucket/movies"


def test_a_data_set_is_enabled_by_its_link_and_by_the_environment_until_it_is_disabled(
    lake_home, monkeypatch
):
    assert not is_enabled("shop")
    monkeypatch.setenv("FOOTPATH_SOURCE_SHOP", "s3://bucket/shop")
    assert is_enabled("shop")
    enable("shop", enabled=False)
    assert not is_enabled("shop")
    link_source("shop", "/data/shop", dt.date(2026, 1, 31))
    assert is_enabled("shop")
    assert source_end("shop") == dt.date(2026, 1, 31)
    enable("shop", enabled=False)
    assert (source_folder("shop"), source_end("shop")) == ("s3://bucket/shop", dt.date(2026, 1, 31))


def test_sources_of_another_version_are_refused_with_what_to_do(lake_home):
    lake_home.mkdir()
    (lake_home / "sources.json").write_text('{"shop": "/data/shop"}')
    with pytest.raises(FootpathError, match="footpath datasets link NAME FOLDER"):
        source_folder("ml-100k")


def test_data_sets_may_lie_in_folders_of_ones_own_and_the_first_of_a_name_counts(
    tmp_path, monkeypatch
):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, title in ((first, "Ours"), (second, "Theirs")):
        folder.mkdir()
        (folder / "shop.yaml").write_text(SHOP.replace("title: Synthetic shop", f"title: {title}"))
    (second / "kiosk.yaml").write_text(SHOP.replace("name: shop", "name: kiosk"))
    monkeypatch.setenv("FOOTPATH_DATASETS", f"{first}:{second}")
    assert load_dataset("shop").title == "Ours"
    assert load_dataset("kiosk").name == "kiosk"
    assert {"kiosk", "shop", "ml-100k"} <= set(dataset_names())
    with pytest.raises(FootpathError, match=r"no data set 'stall' \(no stall\.yaml in .*first, "):
        load_dataset("stall")
    monkeypatch.setenv("FOOTPATH_DATASETS", str(tmp_path / "nowhere"))
    with pytest.raises(FootpathError, match="nowhere, which is no folder"):
        dataset_names()


@pytest.mark.parametrize(
    ("sessions", "field", "reason"),
    [
        ("{by: source}", "sessions.by", "source needs events.session_id"),
        ("{open_minutes: 60}", "sessions", "open_minutes goes with by: source"),
        ("{by: sauce}", "sessions.by", "'gap' or 'source'"),
    ],
)
def test_sessions_of_the_source_need_its_ids(tmp_path, sessions, field, reason):
    path, line = edited(tmp_path, "quality:", f"sessions: {sessions}\n\nquality:")
    with pytest.raises(FootpathError) as error:
        load_dataset_file(path)
    assert f"{path}:{line}: {field}: " in str(error.value)
    assert reason in str(error.value)
