"""A comparison on a small lake, by the real programs: stopped, half-written, failed, resumed."""

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pyarrow.parquet as pq
import pytest

from contracts.lake.layout import Lake
from contracts.lake.versions import WEIGHTS, is_trained
from models.experiments.cells import evict
from models.experiments.planning import Source
from models.experiments.results import collect, put_into, write
from models.metrics.predictions import read_predictions
from orchestration.experiments.runner import Runner
from tests.models.conftest import planted_labels, write_labels
from tests.models.experiments.planted import (
    comparison,
    planned,
    recipe,
    source_of,
    write_source,
)
from tests.orchestration.experiments.in_dagster import in_dagster, run_plan


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return write_source(tmp_path_factory.mktemp("planted"))


class StopError(Exception):
    """Stands for Ctrl-C: it leaves by the same way."""


@pytest.fixture(scope="module")
def ran(source, tmp_path_factory):
    """Stopped after the first process, then run to its end with two at a time."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    wanted = comparison(recipe("coles_bag"))
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        raise StopError

    with pytest.raises(StopError):
        run_plan(lake, planned(lake, source, wanted), say=stop)
    left = planned(lake, source, wanted)
    outcome = run_plan(lake, left, 2, say=said.append)
    return lake, wanted, left, outcome, said


def test_what_was_measured_before_the_stop_is_not_measured_again(ran, source):
    lake, wanted, left, outcome, said = ran
    assert said[0].startswith("[1/3] baselines, seed 0: half, number; about ")
    assert said[-1] == "[2/2] coles bag, seed 0: half, number"
    assert [job.module for job in left.jobs] == ["models.train", "models.finetune"]
    assert set(outcome.done) == {job.name for job in left.jobs}
    assert not outcome.failed
    assert planned(lake, source, wanted).jobs == []


def test_what_a_job_left_behind_is_its_result_alone(ran):
    lake, _, left, _, _ = ran
    assert not list((lake.work / "running").iterdir())
    assert is_trained(lake, left.jobs[0].trial)
    assert {path.name for path in (lake.work / "runs").glob("*.json")} >= {
        f"{job.name}.json" for job in left.jobs
    }


def test_a_cell_that_is_cut_off_is_measured_again_and_gives_the_same(ran, source):
    lake, wanted, *_ = ran
    cells = planned(lake, source, wanted).cells
    victim = next(cell for cell in cells if (cell.protocol, cell.share) == ("frozen", 0.5))
    before = pq.read_table(victim.path).drop_columns("seconds")
    victim.path.write_bytes(victim.path.read_bytes()[:200])
    again = planned(lake, source, wanted)
    assert [job.module for job in again.jobs] == ["models.finetune"]  # the encoder is still there
    assert [cell.key for cell in again.jobs[0].cells] == [victim.key]
    assert not run_plan(lake, again).failed
    assert pq.read_table(victim.path).drop_columns("seconds").equals(before)


def test_predictions_of_a_cell_are_of_that_cell_alone(ran, source):
    lake, wanted, *_ = ran
    for cell in planned(lake, source, wanted).cells:
        runs = read_predictions([cell.predictions])
        assert {(run[4], run[5], run[2]) for run in runs} == {
            (cell.task, cell.share, cell.protocol)
        }


def test_the_board_the_pictures_and_the_page_come_out_of_the_cells(ran, source, tmp_path):
    lake, wanted, *_ = ran
    work = planned(lake, source, wanted)
    results = collect(work, wanted)
    assert results.missing == 0
    rows = results.table.to_pylist()
    assert {row["method"] for row in rows} == {"coles", "majority", "tfidf_lr"}
    assert {row["inputs"] for row in rows} == {"embedding", "items", "embedding+items", "profile"}
    paths = write(results, work, wanted, lake, lake.root / "comparisons" / "board")
    page = paths["html"].read_text()
    assert page.count("data:image/png") == 3  # labels, map, health
    assert 'src="data:' in page
    assert "http" not in page
    assert pq.read_table(paths["parquet"]).equals(results.table)
    document = tmp_path / "results.md"
    document.write_text("# Results\n")
    put_into(document, "board", paths["md"].read_text())
    put_into(document, "board", "once more")
    text = document.read_text()
    assert text.startswith("# Results")
    assert text.count("<!-- compare board -->") == 1
    assert "once more" in text
    assert "majority" not in text


def test_a_failed_recipe_says_its_sentence_and_the_others_go_on(source, tmp_path):
    lake = Lake(tmp_path)
    wrong = recipe("coles_bag", collapse="stop", min_spread=1000.0)
    wanted = comparison(wrong, tasks=("half",), shares=(1.0,))
    work = planned(lake, source, wanted)
    said: list[str] = []
    outcome = run_plan(lake, work, 2, say=said.append)
    sentence = outcome.failed["coles bag, seed 0: pre-training"]
    assert "collapse" in sentence
    assert any(f"coles bag, seed 0: pre-training: failed: {sentence}" in line for line in said)
    assert outcome.failed["coles bag, seed 0: half"] == (
        "not measured, for 'coles bag, seed 0: pre-training' failed"
    )
    assert list(outcome.done) == [work.jobs[0].name]
    assert collect(work, wanted).missing == 1
    with pytest.raises(Exception, match=r"coles bag, seed 0: pre-training: .*collapse"):
        outcome.raise_failures()


@pytest.mark.long
def test_a_task_that_cannot_be_learnt_takes_no_other_of_its_process_with_it(source, tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = [row for row in planted_labels(100) if row["task"] == "half" or row["split"] != "train"]
    labels = write_labels(tmp_path / "labels.parquet", rows)
    wanted = comparison(recipe("none_bag"), protocols=("frozen",), shares=(1.0,))
    work = planned(lake, source_of(source.sequences, labels), wanted)
    outcome = run_plan(lake, work)
    assert set(outcome.failed) == {"baselines, seed 0: number", "none bag, seed 0: number"}
    assert all("number" in sentence for sentence in outcome.failed.values())
    done = {(cell.task, cell.protocol) for cell in work.cells if cell.is_done()}
    assert done == {("half", "baseline"), ("half", "frozen")}


@pytest.mark.long
def test_two_runs_of_one_plan_at_once_do_its_work_once(source, tmp_path):
    lake = Lake(tmp_path)
    wanted = comparison(recipe("none_bag"), tasks=("half",), shares=(1.0,))
    plans = [planned(lake, source, wanted) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        outcomes = [*pool.map(lambda plan: run_plan(lake, plan), plans)]
    for outcome in outcomes:
        assert not outcome.failed
        assert set(outcome.done) == {job.name for job in plans[0].jobs}
    results = [result for outcome in outcomes for result in outcome.done.values()]
    assert sum(bool(result) for result in results) == len(plans[0].jobs)  # `{}`: found done
    assert planned(lake, source, wanted).jobs == []


def test_programs_of_a_run_that_is_stopped_end_with_it(source, tmp_path):
    lake = Lake(tmp_path)
    endless = recipe("coles_bag", epochs=1_000_000)
    plan = planned(lake, source, comparison(endless, tasks=("half",)))

    def stop(_line: str) -> None:
        programs = [p for p in psutil.Process().children() if "models.train" in p.cmdline()]
        assert len(programs) == 1
        raise StopError

    began = time.monotonic()
    with pytest.raises(StopError):
        run_plan(lake, plan, 2, say=stop)
    assert time.monotonic() - began < 200
    assert not [p for p in psutil.Process().children() if "models.train" in p.cmdline()]


@pytest.mark.long
def test_weights_without_a_name_go_when_nothing_needs_them_any_more(source, tmp_path):
    lake = Lake(tmp_path)
    wanted = comparison(
        recipe("coles_bag"), tasks=("half",), shares=(1.0,), protocols=("finetuned",)
    )
    plan = planned(lake, source, wanted, keep_models=True)
    (tuned,) = [cell.key for cell in plan.cells if cell.keeps_model]

    def run(context, pipes):
        return Runner(context, pipes, lake, 1, keep_bytes=0).run(plan.jobs)

    assert not in_dagster(run).failed
    # Measured before they went; what was fine-tuned stays until the best of it has a name.
    assert planned(lake, source, wanted, keep_models=True).jobs == []
    assert [path.parent.name for path in lake.work.glob(f"trials/*/{WEIGHTS}")] == [tuned]
    assert evict(lake, set(), 0) == [tuned]
    assert collect(plan, wanted).missing == 0  # and its figures stay
