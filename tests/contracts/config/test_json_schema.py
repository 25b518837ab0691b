"""An editor that goes by the JSON schema accepts every YAML that loads, and refuses slips."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from contracts.config.dataset import DATASETS, dataset_names
from contracts.config.json_schema import SCHEMA_FILE, schema_line, schema_text

SCHEMA = json.loads(schema_text())
SHOP = (DATASETS / "shop.yaml").read_text()


def faults(text: str) -> list[str]:
    """Fields that the schema refuses; an editor reads dates as text."""
    values = json.loads(json.dumps(yaml.safe_load(text), default=str))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(values)]


def test_the_schema_is_valid_and_the_shipped_file_is_what_the_configuration_gives():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA_FILE.read_text() == schema_text(), (
        "run footpath datasets schema > datasets/schema.json"
    )


@pytest.mark.parametrize("name", dataset_names())
def test_every_shipped_yaml_is_valid_and_names_the_schema(name):
    text = (DATASETS / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert faults(text) == []


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("user_id: user", "user: user", "events"),
        ("timezone: Europe/Berlin", "zone: Europe/Berlin", ""),
        ("format: jsonl", "format: xml", "landing.format"),
        ("max_broken_share: 0.05", "max_broken_share: 5", "quality.max_broken_share"),
        ("max_broken_share: 0.05", "max_broken_share: few", "quality.max_broken_share"),
        ("horizon_days: 7", "horizon_days: 0", "tasks.2.horizon_days"),
        ("kind: funnel", "kind: tunnel", "features.declared.0"),
        (
            "ptum_bert4rec: {epochs: 4",
            "ptum_bert4rec: {epoch: 4",
            "learning.settings.ptum_bert4rec",
        ),
        ("{epochs: 4, max", "{epochs: many, max", "learning.settings.ptum_bert4rec.epochs"),
    ],
)
def test_a_slip_is_refused(old, new, field):
    assert old in SHOP
    assert field in faults(SHOP.replace(old, new, 1))


def test_a_yaml_elsewhere_names_the_schema_by_its_whole_path(tmp_path: Path):
    assert schema_line(DATASETS) == "# yaml-language-server: $schema=schema.json\n"
    assert schema_line(tmp_path) == f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
