import datetime as dt
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import models.embed
from contracts.base.errors import FootpathError
from contracts.lake.schemas import embeddings_schema
from contracts.recipes.checkpoint import load_facts
from contracts.recipes.jobs import EmbedJob
from models.checkpoint import load_checkpoint, save_checkpoint
from models.data.examples import whole_histories
from models.data.packed import pack
from models.data.sequences import open_sequences
from models.embed import embed
from models.finetune import finetune
from models.nn.vectors import user_vectors
from models.probing.task_model import scores_of, task_model_of
from models.runtime.report import Reporter
from tests.builders.jobs import embed_job, evaluation_job, pretrain, write_job
from tests.builders.sequences import CUTOFF, planted_labels, write_labels, write_sequences
from tests.conftest import REPOSITORY
from tests.crash import dies_after, dies_at, preload

preload("models.embed", "models.nn.user_model")

USERS = np.arange(40)
AS_OF, CREATED = "2026-02-01T00:00:00+00:00", "2026-02-01T01:00:00+00:00"


@pytest.fixture
def trained(make_sequences, tmp_path):
    """Sequences, one user without events among them, and a checkpoint of them."""
    pointer = make_sequences([3, 0, 45, 7])
    return pointer, pretrain(pointer, tmp_path / "models" / "none_bert4rec_v1", "none_bert4rec")


def settings_of(trained: tuple[Path, Path], **changes) -> EmbedJob:
    pointer, checkpoint = trained
    out = checkpoint.parent.parent / "user_embeddings" / checkpoint.name / "2026-01-31.parquet"
    settings = {
        "sequences": str(pointer),
        "checkpoint": str(checkpoint),
        "out": str(out),
        "event_timestamp": AS_OF,
        "created": CREATED,
        "model_version": checkpoint.name,
    }
    return embed_job(settings | changes)


def out_of(job: EmbedJob) -> Path:
    (model,) = job.models
    return model.days[0].out


def test_every_user_with_an_event_gets_one_row_of_the_contract(trained):
    job = settings_of(trained)
    assert embed(job, Reporter())["rows"] == 3
    table = pq.read_table(out_of(job))
    assert table.schema.equals(embeddings_schema(16))
    assert table["user_id"].to_pylist() == ["user-0000", "user-0002", "user-0003"]
    assert set(table["event_timestamp"].to_pylist()) == {dt.datetime.fromisoformat(AS_OF)}
    assert set(table["created"].to_pylist()) == {dt.datetime.fromisoformat(CREATED)}
    vectors = np.array(table["embedding"].to_pylist())
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == 3
    visible = [path for path in out_of(job).parent.rglob("*") if path.is_file()]
    assert visible == [out_of(job)]


def test_days_of_one_job_are_what_each_alone_is(trained, make_sequences, tmp_path):
    first, later = settings_of(trained), settings_of(trained, out=tmp_path / "later.parquet")
    alone = []
    for job in (first, later):
        embed(job, Reporter())
        alone.append(pq.read_table(out_of(job)).drop(["written_at"]))
    (one,), (two,) = first.models, later.models
    one = one.model_copy(update={"days": [*one.days, *two.days]})
    assert embed(first.model_copy(update={"models": [one]}), Reporter())["rows"] == 6
    for job, expected in zip((first, later), alone, strict=True):
        assert pq.read_table(out_of(job)).drop(["written_at"]).equals(expected)


def test_a_user_vector_is_the_average_of_chunks_weighted_by_length(trained):
    pointer, folder = trained
    sequences, model = open_sequences(pointer), load_checkpoint(folder).model.eval()
    starts, lengths = np.array([0, 15, 30]), np.array([15, 15, 15])
    chunks = sequences.windows(np.array([2, 2, 2]), starts, lengths)
    with torch.no_grad():
        expected = model(pack(chunks)).mean(0)
    vectors = user_vectors(model, sequences, np.array([0, 2]))
    torch.testing.assert_close(vectors[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"event_timestamp": "2026-01-01T01:00:00+00:00"}, "which is not before event_timestamp"),
        ({"created": "2026-01-31T00:00:00+00:00"}, "a vector cannot be known before its input"),
        ({"created": "yesterday"}, "'yesterday' is not an ISO 8601 instant"),
        ({"event_timestamp": "2026-02-01T00:00:00"}, "has no time zone"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
    ],
)
def test_wrong_clocks_and_devices_are_sentences(trained, change, sentence):
    job = settings_of(trained, **change)
    with pytest.raises(FootpathError, match=sentence):
        embed(job, Reporter())
    assert not out_of(job).exists()


TASKS = {
    "half": {"name": "half", "metric": "auc"},
    "number": {"name": "number", "kind": "regression", "metric": "mae"},
    "third": {"name": "third", "metric": "accuracy"},
}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Sequences, and a folder of task models that were fine-tuned on them."""
    folder = tmp_path_factory.mktemp("tuned")
    pointer = write_sequences(folder, [12] * 40)
    rows = planted_labels(40)
    late = {"label_end": CUTOFF + dt.timedelta(days=30)}
    for n, row in enumerate(rows[:40]):
        rows.append(row | late | {"task": "third", "value": float(n % 3), "label": "abc"[n % 3]})
    labels = write_labels(folder / "labels.parquet", rows)
    made = pretrain(
        pointer, folder / "ptum_bag_v1", "ptum_bag", max_length=8, epochs=2, batch_size=64
    )
    measured = {"sequences": pointer, "labels": labels, "checkpoint": made}
    measured |= {"out": folder / "m.parquet", "models": folder, "epochs": 6}
    measured |= {"batch_size": 8, "finetune_lr": 0.01}
    measured |= {"tasks": list(TASKS.values()), "protocols": ["frozen", "finetuned"]}
    finetune(evaluation_job(measured), Reporter())
    return pointer, folder


@pytest.fixture(scope="module")
def embedded(tuned) -> dict[str, Path]:
    """Embeddings by each task's model, by a process that never saw them trained."""
    pointer, folder = tuned
    jobs = {
        task: settings_of((pointer, folder / "finetuned" / task), out=folder / f"{task}.parquet")
        for task in TASKS
    }
    models = [model for job in jobs.values() for model in job.models]
    job = write_job(jobs["half"].model_copy(update={"models": models}), folder / "job.json")
    subprocess.run([sys.executable, "-m", "models.embed", str(job)], cwd=REPOSITORY, check=True)
    return {task: out_of(job) for task, job in jobs.items()}


@pytest.mark.parametrize("task", TASKS)
def test_a_fine_tuned_model_embeds_and_scores_as_it_was_measured(tuned, embedded, task):
    pointer, folder = tuned
    table = pq.read_table(embedded[task])
    checkpoint, sequences = (
        load_checkpoint(folder / "finetuned" / task),
        open_sequences(pointer),
    )
    facts = checkpoint.facts.task
    assert facts
    assert table.schema.equals(embeddings_schema(16, 3 if task == "third" else 1))
    scores = scores_of(task_model_of(checkpoint), sequences, whole_histories(sequences, USERS))
    if task == "number":
        expected = scores[:, 0] * facts.target_spread + facts.target_center
        assert 0 < float(expected.mean()) < 200  # in the unit of the label
    else:
        expected = scores.softmax(1) if task == "third" else scores.softmax(1)[:, 1]
    name = "scores" if task == "third" else "score"
    found = torch.tensor(table[name].to_pylist())
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    own = np.stack(table["embedding"].to_numpy())
    vectors = user_vectors(checkpoint.model, sequences, USERS)
    np.testing.assert_allclose(own, vectors.numpy(), rtol=1e-4, atol=1e-5)


def test_the_vectors_of_a_fine_tuned_model_are_its_own(tuned, tmp_path):
    pointer, folder = tuned
    tables = []
    for checkpoint in (
        folder / "ptum_bag_v1",
        *(folder / "finetuned" / task for task in TASKS),
    ):
        job = settings_of((pointer, checkpoint), out=tmp_path / f"{checkpoint.name}.parquet")
        embed(job, Reporter())
        tables.append(pq.read_table(out_of(job)))
    assert tables[0].schema.equals(embeddings_schema(16))
    assert "score" not in tables[0].column_names
    given, *own = (np.stack(table["embedding"].to_numpy()) for table in tables)
    # A task that no training helps keeps the encoder, and its fitted head.
    assert any(not np.allclose(given, vectors) for vectors in own)


def test_a_fine_tuned_model_knows_what_its_labels_know(tuned):
    pointer, folder = tuned
    facts = {task: load_facts(folder / "finetuned" / task) for task in TASKS}
    assert facts["half"].train_cutoff == load_facts(folder / "ptum_bag_v1").train_cutoff
    assert facts["third"].train_cutoff == (CUTOFF + dt.timedelta(days=30)).isoformat()
    assert len({told.identity for told in facts.values()}) == 3
    assert str(pointer.parent) not in (folder / "finetuned" / "half" / "config.json").read_text()


def test_a_score_that_is_no_number_is_null(tuned, tmp_path):
    pointer, folder = tuned
    for task, name in (("number", "score"), ("third", "scores")):
        checkpoint = load_checkpoint(folder / "finetuned" / task)
        model = task_model_of(checkpoint)
        with torch.no_grad():
            model.head.bias.fill_(torch.nan)
        broken, vocabulary = tmp_path / task, checkpoint.folder / "vocabulary.json"
        facts = checkpoint.facts.pretraining | {"task": checkpoint.facts.task}
        save_checkpoint(broken, model.state_dict(), facts, {}, vocabulary.read_text())
        job = settings_of((pointer, broken), out=tmp_path / f"{task}.parquet")
        embed(job, Reporter())
        assert pq.read_table(out_of(job))[name].null_count == 40


SHARDS = 10  # of 100 users of 5 events


def in_shards(job: EmbedJob) -> None:
    models.embed.SHARD_EVENTS = 50
    embed(job, Reporter())


def test_a_killed_embedding_goes_on_at_its_shard(make_sequences, tmp_path):
    pointer = make_sequences([5] * 10 * SHARDS)
    made = pretrain(pointer, tmp_path / "models" / "none_bert4rec_v1", "none_bert4rec")
    alone = settings_of((pointer, made), out=tmp_path / "alone.parquet")
    assert not dies_after(60, in_shards, alone)
    wanted = pq.read_table(out_of(alone)).drop(["written_at"])
    for step in (0, 4, SHARDS):
        shards, out = tmp_path / f"shards{step}", tmp_path / f"{step}.parquet"
        job = settings_of((pointer, made), out=out, shards=shards, notes={"footpath.a": "b"})
        assert dies_at(step, in_shards, job)
        left = {path: path.stat().st_ino for path in shards.glob("*")}
        assert len(left) == step
        assert not dies_after(60, in_shards, job)
        # What was finished was not made again.
        assert {path: path.stat().st_ino for path in left} == left
        assert len([*shards.glob("*")]) == SHARDS
        assert pq.read_table(out).drop(["written_at"]).equals(wanted)
        assert pq.read_metadata(out).metadata[b"footpath.a"] == b"b"
