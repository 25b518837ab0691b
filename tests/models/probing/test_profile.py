"""The head of a profile is stored, and says of everybody what was measured of the test users."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_file
from contracts.lake.schemas import VIEW
from contracts.recipes.checkpoint import load_facts
from models.checkpoint import load_checkpoint, read_tensors, write_tensors
from models.embed import embed
from models.encoder import profile_head_of
from models.finetune import finetune
from models.metrics.predictions import Predicted, read_predictions
from models.runtime.report import Reporter
from tests.builders.jobs import embed_job, evaluation_job, pretrain
from tests.builders.sequences import (
    CUTOFF,
    planted_labels,
    user_names,
    write_labels,
    write_sequences,
)

USERS = 160
TASKS = [
    {"name": "secret", "metric": "auc"},
    {"name": "third", "metric": "accuracy"},
    {"name": "spending", "kind": "regression", "metric": "mae"},
]
COLUMNS = ("spent", "days", "nothing")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Users whose labels follow from a feature and from items, with values missing."""
    folder = tmp_path_factory.mktemp("work")
    pointer = write_sequences(folder, [5 + n % 9 for n in range(USERS)])
    rng = np.random.default_rng(0)
    half, told = np.arange(USERS) % 2, rng.integers(0, 2, USERS)
    spent = np.exp(3 * told + rng.normal(size=USERS))
    spent[::11] = np.nan
    dealt = [row for row in planted_labels(USERS) if row["task"] == "half"]
    rows = []
    for n, row in enumerate(dealt):
        third = int(half[n] + told[n])
        number = float(20 * half[n] + 10 * told[n])
        rows += [
            row | {"task": "secret", "value": float(told[n]), "label": "ab"[told[n]]},
            row | {"task": "third", "value": float(third), "label": "xyz"[third]},
            row | {"task": "spending", "value": number, "label": None},
        ]
    write_labels(folder / "labels.parquet", rows)
    columns = [spent, rng.normal(size=USERS), np.full(USERS, np.nan)]
    write_features(folder / "features.parquet", dict(zip(COLUMNS, columns, strict=True)))
    pretrain(pointer, folder / "coles_bag_v1", "coles_bag", max_length=10)
    return folder


def write_features(path: Path, columns: dict[str, np.ndarray]) -> Path:
    table = pa.table({"user_id": user_names(USERS)} | columns)
    pq.write_table(table.replace_schema_metadata({VIEW: b"features_v3"}), path)
    return path


def measure(work: Path, out: Path, **changes) -> dict[str, dict[str, Predicted]]:
    """Measures the frozen probes, and returns what profiles predict, by task and split."""
    settings = {"sequences": str(work / "sequences" / "2026-01-31.json"), "tasks": TASKS}
    settings |= {"labels": str(work / "labels.parquet"), "out": str(out / "m.parquet")}
    settings |= {"head_features": str(work / "features.parquet"), "trees": 15}
    settings |= {"checkpoint": str(work / "coles_bag_v1"), "predictions": str(out / "p.parquet")}
    settings |= {"protocols": ["frozen"], "label_shares": [1.0], "seeds": [0]}
    finetune(evaluation_job(settings | changes), Reporter())
    runs = read_predictions([out / "p.parquet"])
    return {
        run[4]: found
        for run, found in runs.items()
        if run[3] == "profile" and (run[5], run[6]) == (1.0, 0)
    }


@pytest.fixture(scope="module")
def kept(work, tmp_path_factory) -> tuple[Path, dict[str, dict[str, Predicted]]]:
    """Profiles of three tasks, and what was measured of them."""
    out = tmp_path_factory.mktemp("kept")
    return out / "tasks" / "frozen", measure(
        work, out, models=str(out / "tasks"), label_shares=[0.5, 1.0], seeds=[0, 1]
    )


def published(work: Path, profile: Path, out: Path, features: Path | None) -> pa.Table:
    """What `models.embed` writes of everybody by a profile."""
    job = {"sequences": str(work / "sequences" / "2026-01-31.json"), "checkpoint": str(profile)}
    job |= {"out": str(out), "model_version": "v", "device": "cpu", "features": features}
    job |= {"event_timestamp": CUTOFF.isoformat(), "created": CUTOFF.isoformat()}
    embed(embed_job(job), Reporter())
    return pq.read_table(out)


def width(task: str) -> int:
    return {"secret": 2, "third": 3, "spending": 1}[task]


@pytest.mark.parametrize("task", ["secret", "third", "spending"])
def test_what_is_stored_predicts_what_was_measured(work, kept, tmp_path, task):
    profiles, measured = kept
    rows = published(work, profiles / task, tmp_path / "day.parquet", work / "features.parquet")
    assert rows.num_rows == USERS
    said = np.array(rows["score" if width(task) < 3 else "scores"].to_pylist(), np.float32)
    for found in measured[task].values():
        expected = found.scores_nC[:, -1] if width(task) < 3 else found.scores_nC
        np.testing.assert_allclose(said[found.users_n], expected, rtol=1e-5, atol=1e-5)


def test_what_is_measured_of_a_stored_profile_is_what_its_stack_says(work, kept, tmp_path):
    stack = measure(work, tmp_path)
    for task, measured in kept[1].items():
        for split, found in measured.items():
            said = stack[task][split].scores_nC
            np.testing.assert_allclose(found.scores_nC, said, rtol=1e-6, atol=1e-7)


def test_a_profile_is_a_checkpoint_of_its_encoder_and_arrays(work, kept):
    facts, given = load_facts(kept[0] / "third"), load_facts(work / "coles_bag_v1")
    assert facts.task
    assert facts.task.profile
    assert (facts.task.protocol, facts.task.finetuning) == ("frozen", None)
    assert (facts.task.profile.view, facts.task.profile.features) == ("features_v3", COLUMNS)
    assert facts.task.reads_features
    assert all(member.weight > 0 for member in facts.task.profile.members)
    assert facts.recipe == given.recipe
    identities = {load_facts(kept[0] / task["name"]).identity for task in TASKS}
    assert len(identities | {given.identity}) == 4
    folders = kept[0] / "third", work / "coles_bag_v1"
    weights, before = (read_tensors(folder / "model.safetensors")[0] for folder in folders)
    for name, tensor in before.items():
        assert (weights[f"user_model.{name}"] == tensor).all(), name
    files = {path.suffix for path in (kept[0] / "third").iterdir()}
    assert files == {".safetensors", ".json"}  # nothing that could be run


def test_the_same_is_stored_again(work, kept, tmp_path):
    measure(work, tmp_path, models=str(tmp_path / "tasks"))
    for task in ("secret", "third", "spending"):
        files = [
            folder / task / name
            for folder in (kept[0], tmp_path / "tasks" / "frozen")
            for name in ("model.safetensors",)
        ]
        assert hash_file(files[0]) == hash_file(files[1])
        assert load_facts(files[0].parent).identity == load_facts(files[1].parent).identity


def test_a_profile_without_its_features_says_nothing(work, kept, tmp_path):
    rows = published(work, kept[0] / "third", tmp_path / "day.parquet", None)
    assert rows["scores"].null_count == rows.num_rows == USERS
    assert rows["embedding"].null_count == 0


def test_other_features_are_refused(work, kept, tmp_path):
    columns = {"spent": np.ones(USERS), "weeks": np.ones(USERS), "nothing": np.ones(USERS)}
    other = write_features(tmp_path / "features.parquet", columns)
    with pytest.raises(FootpathError, match=r"reads other features .*days, weeks\): .*features_v3"):
        published(work, kept[0] / "secret", tmp_path / "day.parquet", other)


def test_without_features_a_profile_is_of_vectors_and_items(work, tmp_path):
    models = tmp_path / "tasks"
    found = measure(work, tmp_path, head_features=None, models=str(models))
    facts = load_facts(models / "frozen" / "third")
    assert facts.task
    assert facts.task.profile
    assert not facts.task.reads_features
    names = {member.name for member in facts.task.profile.members}
    assert names <= {"embedding_lr", "embedding_gbm", "items_lr"}
    rows = published(work, models / "frozen" / "third", tmp_path / "day.parquet", None)
    test = found["third"]["test"]
    said = np.array(rows["scores"].to_pylist())[test.users_n]
    np.testing.assert_allclose(said, test.scores_nC, rtol=1e-5, atol=1e-5)


def test_a_damaged_head_is_refused(kept, tmp_path):
    weights = kept[0] / "third" / "model.safetensors"
    folder = tmp_path / "third"
    folder.mkdir()
    for path in (kept[0] / "third").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    body = bytearray(weights.read_bytes())
    body[-5] ^= 1
    (folder / "model.safetensors").write_bytes(body)
    with pytest.raises(FootpathError, match=r"model.safetensors is damaged"):
        load_checkpoint(folder)

    tensors = {n: x for n, x in read_tensors(weights)[0].items() if not n.endswith("idf_V")}
    write_tensors(folder / "model.safetensors", tensors)
    config = (folder / "config.json").read_text()
    changed = config.replace(hash_file(weights), hash_file(folder / "model.safetensors"))
    (folder / "config.json").write_text(changed)
    with pytest.raises(FootpathError, match="has no 'idf_V' of its profile: measure"):
        profile_head_of(load_checkpoint(folder))
