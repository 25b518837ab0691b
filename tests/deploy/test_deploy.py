"""The files of deploy/ against the published schemas of what reads them; nothing is started."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
SECRETS = {
    "DAGSTER_POSTGRES_URL", "FOOTPATH_REGISTRY", "FOOTPATH_REDIS_PASSWORD",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
}  # fmt: skip


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def manifests(folder: Path) -> list[dict]:
    """What the kustomization of a folder lists, as it lies there."""
    files = [folder / name for name in loaded(folder / "kustomization.yaml")["resources"]]
    texts = [path.read_text() for path in files if path.is_file()]
    return [document for text in texts for document in yaml.safe_load_all(text)]


DEPLOYMENTS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for document in manifests(BASE)
    if document["kind"] == "Deployment"
}


@pytest.mark.parametrize("folder", [BASE, DEPLOY / "kubernetes" / "login"])
def test_every_manifest_is_as_the_schema_of_kubernetes_says(folder: Path):
    found = manifests(folder)
    assert found
    for document in found:
        kubernetes_validate.validate(document, "1.37", strict=True)


def test_a_manifest_with_a_wrong_field_is_found():
    wrong = manifests(BASE)[0] | {"secret": []}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_kustomize_builds_them():
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on the PATH")
    for folder in (BASE, DEPLOY / "kubernetes" / "login"):
        command = ["kubectl", "kustomize", str(folder)]
        built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        documents = list(yaml.safe_load_all(built))
        assert {document["metadata"]["namespace"] for document in documents} == {"footpath"}
        for document in documents:
            kubernetes_validate.validate(document, "1.37", strict=True)


def test_every_process_has_a_probe_a_restart_policy_and_its_secrets_by_reference():
    assert set(DEPLOYMENTS) == {"footpath-code", "footpath-webserver", "footpath-daemon"}
    for name, spec in DEPLOYMENTS.items():
        (container,) = spec["containers"]
        assert container["livenessProbe"], name
        assert spec["restartPolicy"] == "Always"
        assert {"secretRef": {"name": "footpath"}} in container["envFrom"]
        assert not {entry["name"] for entry in container.get("env", [])} & SECRETS
    for entry in loaded(BASE / "kustomization.yaml")["configMapGenerator"]:
        assert not {line.partition("=")[0] for line in entry.get("literals", [])} & SECRETS


def test_the_code_server_is_found_where_it_listens():
    (container,) = DEPLOYMENTS["footpath-code"]["containers"]
    literals = loaded(BASE / "kustomization.yaml")["configMapGenerator"][1]["literals"]
    environment = dict(line.split("=", 1) for line in literals)
    port = int(environment["FOOTPATH_CODE_PORT"])
    assert f"--port={port}" in container["args"]
    assert container["livenessProbe"]["grpc"] == {"port": port, "service": "DagsterApi"}
    services = {d["metadata"]["name"]: d for d in manifests(BASE) if d["kind"] == "Service"}
    assert services[environment["FOOTPATH_CODE_HOST"]]["spec"]["ports"][0]["port"] == port
    compose = loaded(DEPLOY / "compose.yaml")["services"]
    assert (
        f"--port={compose['code']['environment'].get('FOOTPATH_CODE_PORT')}"
        in (compose["code"]["command"])
    )


def test_an_instance_in_a_cluster_differs_by_its_launcher_alone():
    cluster, server = loaded(BASE / "dagster.yaml"), loaded(DEPLOY / "dagster.postgres.yaml")
    launcher = cluster.pop("run_launcher")
    assert cluster == server
    config = launcher["config"]
    names = {entry["name"] for entry in loaded(BASE / "kustomization.yaml")["configMapGenerator"]}
    assert {config["instance_config_map"], *config["env_config_maps"]} == names
    assert config["env_secrets"] == ["footpath"]
    claim = config["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim in {d["metadata"]["name"] for d in manifests(BASE)}


def test_training_asks_for_a_graphics_card_where_there_are_some(monkeypatch: pytest.MonkeyPatch):
    from contracts.config.dataset import load_dataset
    from orchestration.jobs import ON_GPU, stage_jobs

    dataset = load_dataset("shop")

    def tagged() -> set[str]:
        jobs = stage_jobs(dataset)
        return {job.name.removeprefix("shop_") for job in jobs if "dagster-k8s/config" in job.tags}

    assert tagged() == set()
    monkeypatch.setenv("FOOTPATH_GPUS", "1")
    assert tagged()
    assert tagged() <= set(ON_GPU)


def test_the_compose_file_is_as_its_specification_says():
    # The library takes what Compose has made of variables and of YAML's merge keys.
    text = re.sub(r"\$\{\w+:(?:-([^}]*)|\?)\}", r"\1", (DEPLOY / "compose.yaml").read_text())
    compose = yaml.safe_load(text)
    parsed = PyCompose.from_json(json.dumps(compose))
    parsed.validate()
    assert set(parsed.service_names()) == set(compose["services"])
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped", name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("wrong", [{"restart": "sometimes"}, {"networks": ["unknown"]}])
def test_a_compose_file_with_a_wrong_value_is_found(wrong: dict):
    with pytest.raises(ValueError, match=r"sometimes|unknown"):
        PyCompose.from_json(json.dumps({"services": {"code": {"image": "x"} | wrong}})).validate()


def test_no_password_stands_in_a_file():
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            for value in re.findall(r"(?im)^\s*\w*password\w*[:=][ ]*(\S+)", path.read_text()):
                assert value.startswith(("${", "$")), f"{path}: {value}"


def test_the_unit_of_systemd_starts_the_command_that_there_is():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DEPLOY / "footpath.service")
    assert unit["Service"]["ExecStart"].endswith("/footpath production")
    assert unit["Service"]["Restart"] == "always"
