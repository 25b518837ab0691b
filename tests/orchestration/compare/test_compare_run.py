"""A comparison on a small lake, by the real programs: killed, half-written, failed, resumed."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.dataset import load_dataset
from contracts.config.tasks import Task
from contracts.lake.layout import Lake
from models.metrics.predictions import read_predictions
from models.objectives.coles import Coles
from models.objectives.coles import Options as ColesOptions
from orchestration.compare.cells import WEIGHTS, Cell, evict, key_of, publish_cells
from orchestration.compare.inputs import Source, labels_of_seed
from orchestration.compare.jobs import Plan, plan
from orchestration.compare.recipes import Recipe
from orchestration.compare.results import collect, put_into, write
from orchestration.compare.run import run_jobs
from orchestration.compare.settings import Comparison
from tests.models.conftest import planted_labels, write_labels, write_sequences

TASKS = (
    Task(name="half", column="gender", metric="auc"),
    Task(name="number", kind="regression", sql="count(*)", horizon_days=1, metric="mae"),
)
SMALL = {"dim": 8, "max_length": 10, "epochs": 2, "batch_size": 16}


def recipe(name: str, **changes) -> Recipe:
    method, encoder = name.split("_")
    return Recipe(name, method, encoder, SMALL | changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    folder = tmp_path_factory.mktemp("planted")
    lengths = np.random.default_rng(1).integers(8, 20, 100).tolist()
    pointer = write_sequences(folder, lengths)
    labels = write_labels(folder / "2026-01-31.parquet", planted_labels(100))
    return Source(pointer, pointer, labels, None)


def comparison(*recipes: Recipe, **changes) -> Comparison:
    common = {"dataset": load_dataset("shop"), "tasks": TASKS, "shares": (0.5, 1.0), "seeds": 1}
    common |= {"protocols": ("frozen",), "finetune": {"epochs": 1}}
    return Comparison(recipes=recipes, **common | changes)


def planned(lake: Lake, source: Source, wanted: Comparison, **changes) -> Plan:
    return plan(wanted, lake, {"day": source}, **changes)


class StopError(Exception):
    """Stands for Ctrl-C: it leaves by the same way."""


@pytest.fixture(scope="module")
def ran(source, tmp_path_factory):
    """Stopped after the first process, stopped again while others run, then run to its end."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    wanted = comparison(recipe("coles_bag"))
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        raise StopError

    with pytest.raises(StopError):
        run_jobs(lake, planned(lake, source, wanted).jobs, 1, stop)
    left = planned(lake, source, wanted)
    outcome = run_jobs(lake, left.jobs, 2, said.append)
    return lake, wanted, left, outcome, said


def test_what_was_measured_before_the_stop_is_not_measured_again(ran, source):
    lake, wanted, left, outcome, said = ran
    assert "baselines" in said[0]
    assert [job.module for job in left.jobs] == ["models.train", "models.finetune"]
    assert not outcome.failed
    assert planned(lake, source, wanted).jobs == []


def test_a_cell_that_is_cut_off_is_measured_again_and_gives_the_same(ran, source):
    lake, wanted, *_ = ran
    cells = [cell for each in planned(lake, source, wanted).measured for cell in each.cells]
    victim = next(cell for cell in cells if (cell.protocol, cell.share) == ("frozen", 0.5))
    before = pq.read_table(victim.path).drop_columns("seconds")
    victim.path.write_bytes(victim.path.read_bytes()[:200])
    again = planned(lake, source, wanted)
    assert [job.module for job in again.jobs] == ["models.finetune"]  # the encoder is still there
    assert not run_jobs(lake, again.jobs, 1, lambda _: None).failed
    assert pq.read_table(victim.path).drop_columns("seconds").equals(before)


def test_the_board_the_pictures_and_the_page_come_out_of_the_cells(ran, source, tmp_path):
    lake, wanted, *_ = ran
    work = planned(lake, source, wanted)
    results = collect(work, wanted)
    assert results.missing == 0
    rows = results.table.to_pylist()
    assert {row["method"] for row in rows} == {"coles", "majority", "tfidf_lr"}
    assert {row["inputs"] for row in rows} == {"embedding", "items", "embedding+items"}
    paths = write(results, work, wanted, lake, "board")
    page = paths["html"].read_text()
    assert page.count("data:image/png") == 3  # labels, map, health
    assert "http" not in page and 'src="data:' in page  # noqa: PT018
    document = tmp_path / "results.md"
    document.write_text("# Results\n")
    put_into(document, "board", paths["md"].read_text())
    put_into(document, "board", "once more")
    text = document.read_text()
    assert text.startswith("# Results") and text.count("<!-- compare board -->") == 1  # noqa: PT018
    assert "once more" in text and "majority" not in text  # noqa: PT018


def test_a_failed_recipe_says_its_sentence_and_the_others_go_on(source, tmp_path):
    lake = Lake(tmp_path)
    wrong = recipe("next_bag")  # a bag does not read forwards
    wanted = comparison(wrong, tasks=TASKS[:1], shares=(1.0,))
    work = planned(lake, source, wanted)
    outcome = run_jobs(lake, work.jobs, 2, lambda _: None)
    assert "reads forwards" in outcome.failed["next bag, seed 0: pre-training"]
    assert "not measured, for" in outcome.failed["next bag, seed 0: half"]
    assert [job.module for job in outcome.done] == ["models.baselines"]
    assert collect(work, wanted).missing == 1


CHANGES = {
    "dim": 16, "max_length": 12, "epochs": 3, "batch_size": 8, "lr": 0.01, "clip": 2.0,
    "objective": {"temperature": 0.5}, "fields": ["item"], "warmup": 0.1, "weight_decay": 0.0,
    "max_seconds": 5.0, "encoder_options": {"dropout": 0.3}, "item_lr_factor": 1.0,
}  # fmt: skip


def keys(lake: Lake, source: Source, wanted: Comparison, **changes) -> set[str]:
    found = planned(lake, source, wanted, **changes).measured
    return {cell.key for each in found for cell in each.cells if cell.protocol != "baseline"}


def test_every_setting_is_part_of_a_cells_name(source, tmp_path):
    lake = Lake(tmp_path)
    seen = keys(lake, source, comparison(recipe("coles_bag")))
    for name, value in CHANGES.items():
        more = keys(lake, source, comparison(recipe("coles_bag", **{name: value})))
        assert not more & seen, name
        seen |= more
    for changes in (
        {"finetune": {"epochs": 2}},
        {"protocols": ("finetuned",)},
        {"shares": (0.2,)},
    ):
        more = keys(lake, source, comparison(recipe("coles_bag"), **changes))
        assert more and not more & seen, changes  # noqa: PT018
        seen |= more
    # A second seed adds cells; another code is another name only where it is asked for.
    two = keys(lake, source, comparison(recipe("coles_bag"), seeds=2))
    assert len(two - seen) == len(two) / 2
    assert not keys(lake, source, comparison(recipe("coles_bag")), same_code=True) & seen


def test_a_default_is_part_of_a_cells_name_said_or_not(source, tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    before = keys(lake, source, comparison(recipe("coles_bag")))
    said = recipe("coles_bag", objective={"temperature": 0.1}, encoder_options={"dropout": 0.1})
    assert keys(lake, source, comparison(said)) == before
    coles = dataclasses.make_dataclass(
        "Options", [("temperature", float, 0.2)], bases=(ColesOptions,), frozen=True
    )
    monkeypatch.setattr(Coles, "options_class", coles)
    assert not keys(lake, source, comparison(recipe("coles_bag"))) & before


def test_other_labels_are_other_cells_and_other_tasks_are_not(source, tmp_path):
    lake, wanted = Lake(tmp_path / "lake"), comparison(recipe("coles_bag"), tasks=TASKS[:1])
    before = keys(lake, source, wanted)
    rows = planted_labels(100)
    fewer = [row for row in rows if row["task"] == "half"]
    same = dataclasses.replace(source, labels=write_labels(tmp_path / "same.parquet", fewer))
    assert keys(lake, same, wanted) == before
    other = dataclasses.replace(source, labels=write_labels(tmp_path / "o.parquet", fewer[1:]))
    assert not keys(lake, other, wanted) & before


def test_each_seed_deals_the_users_anew_and_keeps_what_belongs_to_one_together(source, tmp_path):
    lake = Lake(tmp_path)
    assert labels_of_seed(lake, source, 0) == source.labels
    splits = []
    for seed in (1, 2):
        table = pq.read_table(labels_of_seed(lake, source, seed))
        dealt = {(r["user_id"], r["split"]) for r in table.to_pylist()}
        assert len(dealt) == 100  # both tasks of a user lie in one split
        splits.append(dealt)
        original = pq.read_table(source.labels)
        assert table.drop_columns("split").equals(original.drop_columns("split"))
        assert 60 < sum(split == "train" for _, split in dealt) < 95
    assert splits[0] != splits[1]


def test_labels_that_follow_from_the_split_are_built_for_each_seed(source, tmp_path):
    lake, built = Lake(tmp_path), []

    def build(seed: int, path: Path) -> None:
        built.append(seed)
        rows = [row | {"value": float(seed)} for row in planted_labels(100)]
        write_labels(path, rows)

    (lake.work / "compare" / "labels").mkdir(parents=True, exist_ok=True)
    own = dataclasses.replace(source, build_split=build)
    path = labels_of_seed(lake, own, 1)
    assert path != labels_of_seed(lake, source, 1)
    assert set(pq.read_table(path)["value"].to_pylist()) == {1.0}
    assert labels_of_seed(lake, own, 1) == path
    assert built == [1]  # and kept
    # Cells of such a task are of these labels; those of other tasks keep their keys.
    above = TASKS[0].model_copy(update={"column": None, "sql": "count(*)", "above": "median"})
    for task, changes in ((above, True), (TASKS[0], False)):
        wanted = comparison(recipe("coles_bag"), tasks=(task,), seeds=2, shares=(1.0,))
        before = [each for each in planned(lake, source, wanted).measured if each.seed]
        after = [each for each in planned(lake, own, wanted).measured if each.seed]
        same = [a.cells == b.cells for a, b in zip(before, after, strict=True)]
        assert same == [not changes] * 2


def test_a_cell_is_whole_or_not_there(tmp_path):
    cell = Cell(key_of("x"), "half", 1.0, "frozen", tmp_path / "cells")
    assert not cell.is_done()
    cell.path.parent.mkdir()
    cell.path.write_bytes(b"PAR1 half a file")
    assert not cell.is_done()
    with pytest.raises((FootpathError, OSError)):
        publish_cells(Lake(tmp_path), [cell], tmp_path / "m.parquet", tmp_path / "p.parquet", {})
    assert not list(cell.path.parent.glob("*.predictions.parquet"))


def test_the_weights_that_were_used_longest_ago_go_first_and_curves_stay(tmp_path):
    import os

    for age, name in enumerate(("new", "old", "needed")):
        folder = tmp_path / name
        folder.mkdir()
        for file in (WEIGHTS, "config.json", "curves.parquet"):
            (folder / file).write_bytes(b"x" * 100)
        os.utime(folder / WEIGHTS, (1000 - age, 1000 - age))
    evict(tmp_path, {tmp_path / "needed"}, 250)
    assert {path.parent.name for path in tmp_path.glob(f"*/{WEIGHTS}")} == {"new", "needed"}
    assert not (tmp_path / "old" / "config.json").exists()
    assert (tmp_path / "old" / "curves.parquet").exists()


def test_predictions_of_a_cell_are_of_that_cell_alone(ran, source):
    lake, wanted, *_ = ran
    for each in planned(lake, source, wanted).measured:
        for cell in each.cells:
            runs = read_predictions([cell.predictions])
            assert {(run[4], run[5], run[2]) for run in runs} == {
                (cell.task, cell.share, cell.protocol)
            }


def test_two_comparisons_of_a_data_set_do_not_run_at_once(tmp_path):
    def second(_: str) -> None:
        run_jobs(Lake(tmp_path), [], 1, print)

    from orchestration.compare.run import _alone

    with _alone(Lake(tmp_path)), pytest.raises(FootpathError, match="another comparison runs"):
        second("")
    run_jobs(Lake(tmp_path), [], 1, print)
