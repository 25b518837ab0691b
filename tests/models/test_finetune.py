import datetime as dt
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from contracts.base.errors import FootpathError
from contracts.lake.schemas import METRICS
from contracts.recipes.checkpoint import load_facts
from contracts.recipes.jobs import TaskSpec
from models.baselines.measure import baselines
from models.checkpoint import load_checkpoint, read_tensors, save_checkpoint
from models.data.labels import Model, load_tasks
from models.data.sequences import open_sequences
from models.finetune import finetune
from models.runtime.report import Reporter
from tests.builders.jobs import baselines_job, evaluation_job, pretrain
from tests.builders.sequences import planted_labels

TASKS = [
    {"name": "half", "kind": "classification", "metric": "auc"},
    {"name": "number", "kind": "regression", "metric": "mae"},
]
CHOSEN = tuple(TaskSpec(**task) for task in TASKS)


@pytest.fixture(scope="module")
def checkpoint(pointer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "ptum_gru4rec_v1"
    return pretrain(pointer, out, "ptum_gru4rec", epochs=15, lr=0.01)


def settings_of(pointer: Path, out: Path, **changes) -> dict:
    labels = pointer.parent.parent / "labels.parquet"
    common = {"sequences": str(pointer), "labels": str(labels), "out": str(out), "tasks": TASKS}
    return common | {"label_shares": [0.2, 1.0], "seeds": [0, 1]} | changes


def values(path: Path, **wanted) -> list[float]:
    rows = pq.read_table(path).to_pylist()
    return [r["value"] for r in rows if all(r[k] == v for k, v in wanted.items())]


def test_probe_and_finetuning_find_planted_labels(pointer, checkpoint, tmp_path):
    out = tmp_path / "metrics" / "m.parquet"
    settings = settings_of(pointer, out, checkpoint=str(checkpoint), epochs=2)
    result = finetune(evaluation_job(settings | {"models": str(tmp_path / "tasks")}), Reporter())
    assert pq.read_schema(out).equals(METRICS)
    for protocol in ("frozen", "finetuned"):
        auc = {"task": "half", "metric": "auc", "protocol": protocol}
        assert min(values(out, **auc, label_share=1.0)) > 0.9
        inputs = 2 if protocol == "frozen" else 1  # the embedding, and the profile of it and items
        assert len(values(out, **auc, label_share=0.2)) == 2 * inputs  # of two seeds
        mae = values(out, task="number", metric="mae", protocol=protocol, label_share=1.0)
        assert max(mae) < 25  # the median would be wrong by 50
        assert result[f"half/{protocol}_auc"] > 0.9
    assert values(out, task="half", metric="auc", seed=0, label_share=1.0, encoder="gru4rec")
    assert result["rows"] == pq.read_table(out).num_rows

    facts, given = load_facts(tmp_path / "tasks" / "finetuned" / "half"), load_facts(checkpoint)
    assert facts.task
    assert facts.task.classes == ("left", "right")
    assert (facts.task.protocol, facts.task.finetuning.epochs) == ("finetuned", 2)
    assert facts.task.validation.metric == "auc"
    assert facts.task.validation.value == pytest.approx(1.0, abs=0.15)
    assert facts.recipe == given.recipe
    number = load_facts(tmp_path / "tasks" / "finetuned" / "number")
    assert len({facts.identity, given.identity, number.identity}) == 3
    weights, _ = read_tensors(tmp_path / "tasks" / "finetuned" / "half" / "model.safetensors")
    assert weights["head.weight"].shape == (2, 16)


def test_the_frozen_probe_does_not_change_the_encoder(pointer, checkpoint, tmp_path):
    before = (checkpoint / "model.safetensors").read_bytes()
    settings = settings_of(pointer, tmp_path / "m.parquet", checkpoint=str(checkpoint), seeds=[0])
    finetune(evaluation_job(settings | {"epochs": 1}), Reporter())
    first = pq.read_table(tmp_path / "m.parquet").drop_columns("seconds")
    finetune(evaluation_job(settings | {"epochs": 1}), Reporter())
    assert pq.read_table(tmp_path / "m.parquet").drop_columns("seconds").equals(first)
    assert (checkpoint / "model.safetensors").read_bytes() == before


def test_training_starts_from_even_pooling_where_the_given_one_looks_away(pointer, tmp_path):
    misled = pretrain(pointer, tmp_path / "none_nativectr_v1", "none_nativectr")
    found = load_checkpoint(misled)
    with torch.no_grad():
        found.model.encoder.pool.score.weight.mul_(1e4)  # at one event of each user
    vocabulary = (misled / "vocabulary.json").read_text()
    save_checkpoint(misled, found.model.state_dict(), found.facts.pretraining, {}, vocabulary)
    settings = settings_of(pointer, tmp_path / "m.parquet", checkpoint=str(misled), seeds=[0])
    settings |= {"protocols": ["frozen", "scratch"], "epochs": 1, "scratch_lr": 1e-9}
    finetune(evaluation_job(settings), Reporter())
    of = {"task": "half", "metric": "auc", "label_share": 1.0}
    frozen, scratch = (
        values(tmp_path / "m.parquet", **of, protocol=name)[0] for name in ("frozen", "scratch")
    )
    assert scratch > frozen + 0.05


def test_scratch_is_for_random_weights_only(pointer, checkpoint, tmp_path):
    settings = settings_of(pointer, tmp_path / "m.parquet", checkpoint=str(checkpoint))
    wrong = evaluation_job(settings | {"protocols": ["scratch"]})
    with pytest.raises(FootpathError, match="'scratch' is for 'none'"):
        finetune(wrong, Reporter())
    random = pretrain(pointer, tmp_path / "none_bert4rec_v1", "none_bert4rec")
    settings |= {"checkpoint": str(random), "protocols": ["scratch"], "epochs": 1, "seeds": [0]}
    assert "half/scratch_auc" in finetune(evaluation_job(settings), Reporter())


def test_another_vocabulary_is_refused(checkpoint, planted, make_sequences, tmp_path):
    other = make_sequences([9] * 20, vocabulary_hash="vocabulary-1")
    settings = settings_of(other, tmp_path / "m.parquet", checkpoint=str(checkpoint))
    settings["labels"] = str(planted / "labels.parquet")
    with pytest.raises(FootpathError, match="was encoded with another vocabulary"):
        finetune(evaluation_job(settings), Reporter())


def test_baselines_know_the_planted_items_and_majority_knows_nothing(pointer, tmp_path):
    out = tmp_path / "baselines.parquet"
    settings = settings_of(pointer, out, lsa_dim=8)
    result = baselines(baselines_job(settings), Reporter())
    assert pq.read_schema(out).equals(METRICS)
    assert result["half/majority_auc"] == 0.5
    for method in ("tfidf_lr", "lsa_lr"):
        assert result[f"half/{method}_auc"] > 0.95
        assert result[f"number/{method}_mae"] < 30 < result["number/majority_mae"]


def test_a_larger_label_share_holds_the_smaller_one_and_every_class(pointer):
    sequences = open_sequences(pointer)
    task = load_tasks(pointer.parent.parent / "labels.parquet", sequences, CHOSEN)[0]
    for seed in range(5):
        shares = [set(task.train_share(s, seed).users_n.tolist()) for s in (0.02, 0.3, 0.6, 1.0)]
        assert all(small < large for small, large in itertools.pairwise(shares))
        assert set(task.train_share(0.02, seed).y_n.tolist()) == {0, 1}
        assert shares[-1] == set(task.splits["train"].users_n.tolist())
    held_out = [set(task.splits[s].users_n.tolist()) for s in ("train", "valid", "test")]
    assert not held_out[0] & (held_out[1] | held_out[2])


def _relabel(rows, task, **changes):
    return [r | changes if r["task"] == task else r for r in rows]


LATE = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
FAULTS = {
    "labels 1 users who have no events in .*, such as 'ghost'": lambda rows: [
        *rows,
        {"user_id": "ghost", "task": "half", "value": 0.0},
    ],
    "labels a user twice": lambda rows: [*rows, rows[0]],
    "the value of user 'user-0000' is not a number": lambda rows: [
        rows[0] | {"value": float("nan")},
        *rows[1:],
    ],
    "a value that is no class index": lambda rows: [rows[0] | {"value": 0.5}, *rows[1:]],
    "one class only, 'left', among the 14 users of the train": lambda rows: _relabel(
        rows, "half", value=0.0, label="left"
    ),
    "has no users in the valid split": lambda rows: _relabel(rows, "half", split="train"),
    "task 'half' has no labels": lambda rows: [r for r in rows if r["task"] != "half"],
    "labels are as of 2026-01-31.* saw events until 2026-02-01": lambda rows: [
        r | {"as_of": LATE} for r in rows
    ],
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_broken_labels_are_refused_with_a_sentence(make_sequences, make_labels, sentence):
    sequences = open_sequences(make_sequences([5] * 20))
    labels = make_labels(FAULTS[sentence](planted_labels(20)))
    with pytest.raises(FootpathError, match=sentence):
        load_tasks(labels, sequences, CHOSEN)


def test_a_model_that_saw_the_future_of_the_labels_is_refused(make_sequences, make_labels):
    sequences, labels = open_sequences(make_sequences([5] * 20)), make_labels(planted_labels(20))
    assert load_tasks(labels, sequences, CHOSEN, Model("2026-02-01T00:00:00+00:00", ""))
    with pytest.raises(FootpathError, match="the checkpoint saw events until 2026-02-02"):
        load_tasks(labels, sequences, CHOSEN, Model("2026-02-02T00:00:00+00:00", ""))


def test_a_column_of_another_type_is_refused_with_a_sentence(make_sequences, make_labels):
    sequences, labels = open_sequences(make_sequences([5] * 20)), make_labels(planted_labels(20))
    table = pq.read_table(labels)
    words = pa.array(["yes"] * len(table))
    at = table.column_names.index("value")
    pq.write_table(table.set_column(at, "value", words), labels)
    with pytest.raises(FootpathError, match="column 'value' is string, and it does not"):
        load_tasks(labels, sequences, CHOSEN)


def test_the_labels_file_must_be_one(make_sequences, tmp_path):
    sequences = open_sequences(make_sequences([5, 5]))
    (tmp_path / "labels.parquet").write_text("no")
    with pytest.raises(FootpathError, match="cannot be read as Parquet"):
        load_tasks(tmp_path / "labels.parquet", sequences, CHOSEN)


def test_a_checkpoint_survives_the_round_trip(checkpoint):
    loaded = load_checkpoint(checkpoint)
    assert loaded.recipe.name == "ptum_gru4rec"
    assert json.loads((checkpoint / "vocabulary.json").read_text())["action"][3] == "view"
    assert all(torch.isfinite(w).all() for w in loaded.model.state_dict().values())
    assert np.isfinite(json.loads((checkpoint / "metrics.json").read_text())["loss"])
