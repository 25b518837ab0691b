"""Trials and cells are named by all that their figures follow from, and by nothing else."""

import dataclasses
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.base.errors import FootpathError
from contracts.config.comparison import Comparison, NamedRecipe
from contracts.lake.layout import Lake
from contracts.lake.schemas import METRICS
from contracts.lake.versions import CONFIG, WEIGHTS, allocate, is_trained, trial_folder
from contracts.recipes.jobs import Finetuning
from contracts.recipes.methods.coles import ColesOptions
from contracts.recipes.recipe import Recipe
from models.experiments.cells import (
    Cell,
    Measured,
    evict,
    keep_measured,
    publish_cells,
    read_measured,
)
from models.experiments.planning import Job, Source, unmeasurable
from tests.builders.sequences import planted_labels, write_labels, write_sequences
from tests.models.experiments.planted import (
    SMALL,
    TASKS,
    comparison,
    planned,
    planner,
    recipe,
    source_of,
    write_source,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return write_source(tmp_path_factory.mktemp("planted"))


def keys(lake: Lake, source: Source, wanted: Comparison, **changes) -> set[str]:
    found = planned(lake, source, wanted, **changes).measured
    return {cell.key for each in found for cell in each.cells if cell.protocol != "baseline"}


def trials(lake: Lake, source: Source, wanted: Comparison) -> set[str]:
    return {each.trial for each in planned(lake, source, wanted).measured if each.trial}


CHANGES = {
    "dim": 16, "max_length": 12, "epochs": 3, "batch_size": 8, "lr": 0.01, "clip": 2.0,
    "method": {"temperature": 0.5}, "fields": ["item"], "warmup": 0.1, "weight_decay": 0.0,
    "max_seconds": 5.0, "encoder": {"dropout": 0.3}, "item_lr_factor": 1.0, "ema": 0.9,
    "bag_epochs": 1, "bag_lr": 0.1, "lr_users": 32, "collapse": "off", "min_spread": 0.1,
    "min_effective_rank": 1.5, "precision": "bf16", "compile": True,
    "validation": {"task": "half"}, "sampled_items": 8, "lazy_items": True,
}  # fmt: skip


def test_every_setting_of_a_recipe_is_tried():
    # The summary goes with the method.
    assert {*CHANGES, "text", "summary"} == {*Recipe.model_fields}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_of_a_recipe_is_part_of_the_keys_of_its_trial_and_cells(
    source, tmp_path, name
):
    lake = Lake(tmp_path)
    one = comparison(recipe("coles_bag"))
    other = comparison(recipe("coles_bag", **{name: CHANGES[name]}))
    assert trials(lake, source, one).isdisjoint(trials(lake, source, other))
    assert keys(lake, source, one).isdisjoint(keys(lake, source, other))


def test_settings_of_the_comparison_are_part_of_the_keys_of_what_they_change(source, tmp_path):
    lake = Lake(tmp_path)
    seen = keys(lake, source, comparison(recipe("coles_bag")))
    for changes in ({"protocols": ("finetuned",)}, {"shares": (0.2,)}, {"seeds": (1,)}):
        more = keys(lake, source, comparison(recipe("coles_bag"), **changes))
        assert more, changes
        assert not more & seen, changes
        seen |= more
    # A second seed adds cells; another code is another name only where it is asked for.
    two = keys(lake, source, comparison(recipe("coles_bag"), seeds=(0, 1)))
    assert two <= seen
    assert len(two) == 2 * len(keys(lake, source, comparison(recipe("coles_bag"))))
    assert not keys(lake, source, comparison(recipe("coles_bag")), same_code=True) & seen


def test_the_name_of_a_recipe_and_the_title_are_no_part_of_a_key(source, tmp_path):
    lake, named = Lake(tmp_path), recipe("coles_bag")
    other = NamedRecipe(name="mine_bag", recipe=named.recipe)
    assert keys(lake, source, comparison(named)) == keys(
        lake, source, comparison(other, title="Another")
    )


@pytest.mark.parametrize(
    "change",
    [{"epochs": 2}, {"patience": 3}, {"batch_size": 8}, {"finetune_lr": 0.1}, {"scratch_lr": 0.1},
     {"weight_decay": 0.1}],
)  # fmt: skip
@pytest.mark.parametrize(
    ("protocol", "name"), [("frozen", "coles_bag"), ("finetuned", "coles_bag"),
                           ("scratch", "none_bag")],
)  # fmt: skip
def test_settings_of_finetuning_are_part_of_the_keys_of_what_is_trained_by_them_alone(
    source, tmp_path, change, protocol, name
):
    lake = Lake(tmp_path)
    one, other = (
        keys(lake, source, comparison(recipe(name), protocols=(protocol,), finetuning=finetuning))
        for finetuning in (Finetuning(epochs=1), Finetuning(**{"epochs": 1} | change))
    )
    assert one
    assert (one == other) == (protocol == "frozen")


def test_a_default_is_part_of_the_keys_said_or_not(source, tmp_path):
    lake, plain = Lake(tmp_path), comparison(recipe("coles_bag"))
    before = keys(lake, source, plain)
    default = ColesOptions.model_fields["temperature"].default
    said = recipe("coles_bag", method={"temperature": default}, encoder={"dropout": 0.1})
    assert keys(lake, source, comparison(said)) == before

    class Changed(ColesOptions):
        temperature: float = 2 * default

    changed = recipe("coles_bag").recipe.model_copy(update={"method": Changed()})
    other = comparison(NamedRecipe(name="coles_bag", recipe=changed))
    assert not keys(lake, source, other) & before


def test_other_labels_are_other_cells_and_other_tasks_are_not(source, tmp_path):
    lake, wanted = Lake(tmp_path / "lake"), comparison(recipe("coles_bag"), tasks=("half",))
    before = keys(lake, source, wanted)
    fewer = [row for row in planted_labels(100) if row["task"] == "half"]
    same = write_labels(tmp_path / "same.parquet", fewer)
    assert keys(lake, source_of(source.sequences, same), wanted) == before
    other = source_of(source.sequences, write_labels(tmp_path / "other.parquet", fewer[1:]))
    assert not keys(lake, other, wanted) & before
    assert trials(lake, other, wanted) == trials(lake, source, wanted)


def test_labels_are_part_of_a_trial_that_stops_early_by_them_alone(source, tmp_path):
    lake = Lake(tmp_path / "lake")
    fewer = [row for row in planted_labels(100) if row["task"] == "half"][1:]
    other = source_of(source.sequences, write_labels(tmp_path / "other.parquet", fewer))
    stops = {"validation": {"task": "half"}}
    for wanted, is_same in (
        (comparison(recipe("coles_bag")), True),
        (comparison(recipe("coles_bag", **stops)), False),
        (comparison(recipe("none_bag", **stops)), True),  # nothing is trained
    ):
        assert (trials(lake, source, wanted) == trials(lake, other, wanted)) == is_same


def test_other_sequences_and_other_head_features_are_other_cells(source, tmp_path):
    lake, wanted = Lake(tmp_path / "lake"), comparison(recipe("coles_bag"))
    before = keys(lake, source, wanted)
    pointer = write_sequences(tmp_path, [10] * 100)
    assert not keys(lake, source_of(pointer, source.labels), wanted) & before
    assert trials(lake, source_of(pointer, source.labels), wanted) != trials(lake, source, wanted)
    features = tmp_path / "features.parquet"
    pq.write_table(pa.table({"user_id": ["user-0001"], "orders": [1.0]}), features)
    known = source_of(source.sequences, source.labels, head_features=features)
    assert not keys(lake, known, wanted) & before
    assert trials(lake, known, wanted) == trials(lake, source, wanted)


def test_a_moved_lake_gives_the_same_keys(source, tmp_path):
    wanted = comparison(recipe("coles_bag"), recipe("none_bag"), seeds=(0, 1))
    moved = tmp_path / "elsewhere"
    shutil.copytree(source.sequences.parent, moved / "sequences")
    labels = Path(shutil.copy(source.labels, moved / "labels.parquet"))
    there = source_of(moved / "sequences" / source.sequences.name, labels)
    one, other = Lake(tmp_path / "one"), Lake(tmp_path / "other")
    assert keys(one, source, wanted) == keys(other, there, wanted)
    assert trials(one, source, wanted) == trials(other, there, wanted)


def test_labels_of_a_seed_are_part_of_the_key_only_where_they_follow_from_the_split(
    source, tmp_path
):
    lake = Lake(tmp_path / "lake")
    rows = [row | {"value": 1.0} for row in planted_labels(100)]
    built = write_labels(tmp_path / "built.parquet", rows)
    own = dataclasses.replace(source, labels_of_seed=lambda seed: built if seed else source.labels)
    above = TASKS[0].model_copy(update={"column": None, "sql": "count(*)", "above": "median"})
    for task, changes in ((above, True), (TASKS[0], False)):
        wanted = comparison(recipe("coles_bag"), tasks=("half",), seeds=(0, 1), shares=(1.0,))
        before, after = (
            {each.seed: each.cells for each in planner(lake, s, wanted, task).plan().measured}
            for s in (source, own)
        )
        assert before[0] == after[0]
        assert (before[1] == after[1]) is not changes


def test_folds_are_other_cells_of_the_same_trials(source, tmp_path):
    lake, named = Lake(tmp_path), recipe("coles_bag")
    seeds = comparison(named, seeds=(0, 1, 2, 3))
    folds, fewer = comparison(named, seeds=(0, 1, 2, 3), folds=4), comparison(named, seeds=(0, 1))
    halves = comparison(named, seeds=(0, 1, 2, 3), folds=2)
    found = [keys(lake, source, wanted) for wanted in (seeds, folds, halves)]
    assert len(set.union(*found)) == 3 * len(found[0])
    assert keys(lake, source, fewer) < found[0]
    assert trials(lake, source, folds) == trials(lake, source, seeds)
    baselines = [
        {c.key for e in planned(lake, source, w).measured if not e.recipe for c in e.cells}
        for w in (seeds, folds)
    ]
    assert not baselines[0] & baselines[1]


@pytest.mark.parametrize("asked", [("finetuned",), ("scratch",), ("finetuned", "frozen")])
def test_random_weights_are_measured_frozen_whatever_is_asked(source, tmp_path, asked):
    wanted = comparison(recipe("coles_bag"), recipe("none_bag"), protocols=asked)
    plan = planned(Lake(tmp_path), source, wanted)
    protocols = {
        name: {c.protocol for e in plan.measured if e.recipe and e.recipe.name == name
               for c in e.cells}
        for name in ("coles_bag", "none_bag")
    }  # fmt: skip
    assert protocols["none_bag"] == {"frozen", *asked} - {"finetuned"}
    assert protocols["coles_bag"] == {*asked} - {"scratch"}


def test_random_weights_of_one_shape_are_one_trial_under_whatever_name_and_settings(
    source, tmp_path
):
    lake = Lake(tmp_path)
    one = comparison(recipe("none_bag"), protocols=("scratch",))
    trained_longer = NamedRecipe(
        name="none 2_bag", recipe=Recipe.named("none_bag", SMALL | {"epochs": 9, "lr": 0.5})
    )
    other = comparison(trained_longer, protocols=("scratch",))
    assert keys(lake, source, one) == keys(lake, source, other)
    wide = comparison(recipe("none_bag", dim=16), protocols=("scratch",))
    assert not keys(lake, source, wide) & keys(lake, source, one)
    both = comparison(recipe("none_bag"), trained_longer, protocols=("scratch",))
    jobs = planned(lake, source, both).jobs
    assert [job.module for job in jobs] == ["models.baselines", "models.train", "models.finetune"]


def test_a_trial_is_trained_before_it_is_measured_and_tasks_share_a_process(source, tmp_path):
    jobs = planned(Lake(tmp_path), source, comparison(recipe("coles_bag"))).jobs
    assert [job.module for job in jobs] == ["models.baselines", "models.train", "models.finetune"]
    assert jobs[2].needs is jobs[1]
    assert [task.name for task in jobs[2].work.evaluation.tasks] == ["half", "number"]
    assert [part.title for part in jobs[2].parts] == [
        "coles bag, seed 0: half", "coles bag, seed 0: number",
    ]  # fmt: skip
    assert {part.needs for part in jobs[2].parts} == {jobs[1]}


def test_a_profile_and_a_fine_tuned_model_a_task_are_kept_of_most_labels_and_the_first_seed(
    source, tmp_path
):
    wanted = comparison(
        recipe("coles_bag"), recipe("none_bag"), seeds=(3, 4), protocols=("frozen", "finetuned")
    )
    plan = planned(Lake(tmp_path), source, wanted, keep_models=True)
    kept = [
        (each.recipe.name, each.seed, c.task, c.share, c.protocol)
        for each in plan.measured
        for c in each.cells
        if c.keeps_model and each.recipe
    ]
    assert kept == [
        ("coles_bag", 3, task, 1.0, protocol)
        for task in ("half", "number")
        for protocol in ("frozen", "finetuned")
    ]
    # Whether it is kept is no part of its key: a comparison has measured the same cell.
    assert keys(Lake(tmp_path), source, wanted, keep_models=True) == keys(
        Lake(tmp_path), source, wanted
    )


def measured_folder(folder: Path, cells: list[Cell]) -> Path:
    """What a program leaves that has measured cells."""
    rows = [
        {"task": c.task, "protocol": c.protocol, "label_share": c.share, "metric": "auc",
         "value": 0.5, "method": "coles", "encoder": "bag", "inputs": "embedding", "seed": 0}
        for c in cells
    ]  # fmt: skip
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(
        [{field.name: row.get(field.name) for field in METRICS} for row in rows]
    )
    pq.write_table(table, folder / "metrics.parquet")
    pq.write_table(table, folder / "predictions.parquet")
    return folder


def job_of(source: Source, lake: Lake) -> Job:
    return planned(lake, source, comparison(recipe("coles_bag"))).jobs[-1]


def test_a_cell_is_whole_or_not_there(source, tmp_path):
    lake = Lake(tmp_path)
    cell = Cell(lake, "0123", "half", 1.0, "frozen")
    assert not cell.is_done()
    cell.path.parent.mkdir(parents=True)
    for path in (cell.path, cell.predictions):
        path.write_bytes(b"PAR1 half a file")
    assert not cell.is_done()
    work = job_of(source, lake).work
    with pytest.raises((FootpathError, OSError)):
        publish_cells([cell], tmp_path / "nothing", work)
    assert not cell.is_done()
    publish_cells([cell], measured_folder(tmp_path / "out", [cell]), work)
    assert cell.is_done()
    cell.path.write_bytes(cell.path.read_bytes()[:100])
    assert not cell.is_done()


def test_a_cell_without_its_predictions_or_without_its_kept_model_is_not_done(source, tmp_path):
    lake = Lake(tmp_path)
    work = job_of(source, lake).work
    cell = Cell(lake, "0123", "half", 1.0, "finetuned", keeps_model=True)
    out = measured_folder(tmp_path / "out", [cell])
    (out / "models" / "finetuned" / "half").mkdir(parents=True)
    (out / "models" / "finetuned" / "half" / CONFIG).write_text("{}")
    publish_cells([cell], out, work)
    assert cell.is_done()
    assert is_trained(lake, cell.key)
    assert not list(lake.root.rglob("models"))[1:]  # it lies among the trials, and only there
    trial_folder(lake, cell.key).joinpath(CONFIG).unlink()
    assert not cell.is_done()
    assert cell.is_measured()  # figures stay though the model went to make room
    assert dataclasses.replace(cell, keeps_model=False).is_done()
    cell.predictions.unlink()
    assert not cell.is_measured()
    assert not dataclasses.replace(cell, keeps_model=False).is_done()


def test_a_program_that_did_not_measure_a_cell_is_told_and_the_cell_is_not_there(source, tmp_path):
    lake = Lake(tmp_path)
    there, gone = (Cell(lake, f"{n}", "half", 1.0, p) for n, p in enumerate(("frozen", "scratch")))
    out = measured_folder(tmp_path / "out", [there])
    with pytest.raises(FootpathError, match="has no row of half, scratch, at 100% of the labels"):
        publish_cells([there, gone], out, job_of(source, lake).work)
    assert not gone.is_done()


def test_cells_of_a_version_are_kept_under_its_name(source, tmp_path):
    lake = Lake(tmp_path)
    plan = planned(lake, source, comparison(recipe("coles_bag", epochs=3)), keep_models=True)
    assert read_measured(lake, "coles_bag_v1") == []
    keep_measured(lake, "coles_bag_v1", plan.measured)
    assert read_measured(lake, "coles_bag_v1") == plan.measured
    one: Measured = read_measured(lake, "coles_bag_v1")[-1]
    assert one.recipe is not None
    assert one.recipe.recipe.epochs == 3


def checkpoint(lake: Lake, trial: str, age: int) -> Path:
    folder = lake.work / "trials" / trial
    folder.mkdir(parents=True)
    for file in (WEIGHTS, CONFIG, "curves.parquet"):
        (folder / file).write_bytes(b"x" * 100)
    os.utime(folder / WEIGHTS, (1000 - age, 1000 - age))
    return folder


def test_the_weights_that_were_used_longest_ago_go_first_and_curves_and_named_versions_stay(
    tmp_path,
):
    lake = Lake(tmp_path)
    for age, name in enumerate(("new", "old", "needed", "named")):
        checkpoint(lake, name, age)
    allocate(lake, "coles_bag", "named", "2026-01-31")
    assert evict(lake, {"needed"}, 250) == ["old"]
    left = {path.parent.name for path in tmp_path.rglob(WEIGHTS)}
    assert left == {"new", "needed", "named"}
    old = lake.work / "trials" / "old"
    assert not (old / CONFIG).exists()
    assert (old / "curves.parquet").exists()
    assert not is_trained(lake, "old")
    # A version keeps its weights however small the room is.
    assert set(evict(lake, set(), 0)) == {"new", "needed"}
    assert is_trained(lake, "named")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, {}),
        ({"label": ("test", "left")}, {
            "half": "all 12 users have the label 'left' in the test split",
        }),
        ({"label": ("valid", "left")}, {}),
        ({"split": ("test", "train")}, {
            "half": "nobody has a label in the test split",
            "number": "nobody has a label in the test split",
        }),
    ],
    ids=["measurable", "one class", "one class to judge by", "a split without users"],
)  # fmt: skip
def test_a_task_of_too_few_users_is_named_with_the_reason(tmp_path, changes, why):
    rows = planted_labels(60)
    for field, (split, value) in changes.items():
        for row in rows:
            if row["split"] == split and field in row:
                row[field] = value
    source = source_of(tmp_path / "none.json", write_labels(tmp_path / "labels.parquet", rows))
    assert unmeasurable(list(TASKS), source, (0, 1)) == why
