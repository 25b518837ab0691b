"""Inputs of experiments: events, labels, sequences, head features. What is missing is built.

Each task reads the inputs of its source of examples (contracts.config.tasks): the end of the as-of
day, users' last events, or what begins after the day. In every case the encoder is pre-trained on
sequences that hold nothing of what the labels look at.

Seeds differ in the users' split as well: seed 0 has the split of the labels' file, and every other
one deals the users anew by a hash of seed and user id. With few test users it is the split that
moves the figures most, and a mean over one split would be a mean over its luck. Of a comparison
with folds, the split of a seed is one fold (features.learning.label_rows.Split). Where training
users decide what the labels are (above a median, commonest classes), or are labeled at earlier days
too (`snapshots`), each split has its own.
"""

import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.comparison import Comparison
from contracts.config.dataset import Dataset, dataset_file
from contracts.lake.copies import local_copy
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from contracts.lake.pointers import folder_beside, pointed_folder
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_json
from features.learning.label_rows import PUBLISHED, Split
from models.experiments.planning import Source, check_labeled

Say = Callable[[str], None]


def prepare(
    comparison: Comparison, dataset: Dataset, lake: Lake, as_of: dt.date, say: Say
) -> dict[str, Source]:
    """Builds what is missing or older than the events, and returns the inputs by `Task.table`.

    Raises:
      FootpathError: a task has no labels.
    """
    tasks = [task for task in dataset.tasks if task.name in comparison.tasks]
    recipes = [named.recipe for named in comparison.recipes]
    stops_early = any(recipe.judged_by for recipe in recipes)
    tables = dict.fromkeys([*(task.table for task in tasks), *(["day"] if stops_early else [])])
    sources: dict[str, Source] = {}
    for table in tables:
        named = ", ".join(task.name for task in tasks if task.table == table)
        say(f"inputs of {named or 'early stopping'} as of {as_of}")
        sources[table] = _source(dataset, lake, as_of, table, comparison)
    check_labeled(tasks, sources)
    return sources


def labels_of_split(
    lake: Lake, labels: Path, build: Callable[[Split, Path], object] | None, split: Split
) -> Path:
    """The labels with another split of the users; built anew where they follow from it."""
    if split == PUBLISHED:
        return labels
    how = "built" if build else "split"
    target = lake.work / "labels_of_seeds" / f"{labels.stem}-{how}{split.name}.parquet"
    if target.exists() and target.stat().st_mtime >= labels.stat().st_mtime:
        return target
    if build:
        build(split, target)
    else:
        _deal(lake, labels, split, target)
    return target


def _deal(lake: Lake, labels: Path, split: Split, target: Path) -> None:
    """Writes the labels as they are, with the users dealt anew."""
    table = pq.read_table(labels)
    connection = connect()
    connection.register("labeled", table.select(["user_id"]))
    dealt = connection.sql(f"SELECT {split.sql} AS split FROM labeled").to_arrow_table()
    at = table.schema.get_field_index("split")
    table = table.set_column(at, table.schema.field("split"), dealt["split"].combine_chunks())
    publish_table(lake, table, target)


def _source(
    dataset: Dataset, lake: Lake, as_of: dt.date, table: str, comparison: Comparison
) -> Source:
    from features.learning.labels import build_labels
    from features.learning.later_examples import build_examples
    from features.learning.sequences import build_sequences

    follows = any(task.follows_split for task in dataset.tasks if task.table == table)
    pointers = lake.root / "sequences"
    plain = pointers / f"{as_of}.json"
    if not table.startswith("holdout"):
        _build(dataset, lake, plain, lambda: build_sequences(dataset, lake, as_of))
    if table == "day":
        labels = lake.day("labels", as_of)
        _build(dataset, lake, labels, lambda: build_labels(dataset, lake, as_of))
        return day_source(dataset, lake, as_of, comparison.features, comparison.folds)
    labels = lake.root / "examples" / f"{as_of}__{table}.parquet"
    _build(dataset, lake, labels, lambda: build_examples(dataset, lake, as_of, table))
    again = partial(build_examples, dataset, lake, as_of, table) if follows else None
    if table.startswith("holdout"):
        count = int(table.removeprefix("holdout"))
        pointer = pointers / f"{as_of}__{table}.json"
        _build(dataset, lake, pointer, lambda: build_sequences(dataset, lake, as_of, holdout=count))
        both = (pointer, pointer)
    else:
        both = (plain, _until_the_end(dataset, lake, plain))
    return _local(lake, *both, labels, None, again, comparison.folds)


def day_source(
    dataset: Dataset, lake: Lake, as_of: dt.date, with_features: bool, folds: int = 0
) -> Source:
    """The inputs of tasks whose examples end with the as-of day, of labels and sequences built.

    Raises:
      FootpathError: the sequences are not built.
    """
    from features.learning.labels import build_labels

    pointer, labels = lake.root / "sequences" / f"{as_of}.json", lake.day("labels", as_of)
    if not pointer.exists():
        raise FootpathError(f"{pointer} is not there: materialize training_sequences of {as_of}")
    follows = any(task.follows_split for task in dataset.daily_tasks)
    again = partial(build_labels, dataset, lake, as_of) if follows else None
    features = _head_features(dataset, lake, as_of, labels) if with_features else None
    return _local(lake, pointer, pointer, labels, features, again, folds)


def _until_the_end(dataset: Dataset, lake: Lake, plain: Path) -> Path:
    """Returns sequences as of the last day, in the vocabulary of those of the as-of."""
    from features.learning.sequences import build_sequences

    said, last = read_json(plain), lake.days("events")[-1]
    pointer = lake.root / "sequences" / f"{last}__{said['vocabulary_hash']}.json"
    vocabulary = folder_beside(plain, said) / "vocabulary.json"
    _build(dataset, lake, pointer, lambda: build_sequences(dataset, lake, last, vocabulary))
    return pointer


def _head_features(dataset: Dataset, lake: Lake, as_of: dt.date, labels: Path) -> Path | None:
    """Returns the head features; none where the data set has no features of that day."""
    from features.behavior.tables import BEHAVIOR
    from features.learning.head_features import TABLE, write_head_features

    if not lake.day(BEHAVIOR.name, as_of).exists():
        return None
    days = {as_of, *(day for task in dataset.daily_tasks for day in task.snapshot_days(as_of))}
    read = [labels, *(lake.day(BEHAVIOR.name, day) for day in days)]
    path = lake.day(TABLE, as_of)
    if is_remote(path) or not path.exists() or _mtime(path) < _newest(read):
        write_head_features(dataset, lake, as_of)
    return path


def _build(dataset: Dataset, lake: Lake, path: Path, build: Callable[[], object]) -> None:
    """Builds what is not there, or older than the events, the tables or the YAML."""
    if not is_remote(path) and path.exists():
        read = [dataset_file(dataset.name), lake.single("items"), lake.single("users")]
        read += lake.table("events").glob("*.parquet")
        if _mtime(path) >= _newest(read):
            return
    build()


def _local(
    lake: Lake,
    pretraining: Path,
    sequences: Path,
    labels: Path,
    features: Path | None,
    build_split: Callable[[Split, Path], object] | None,
    folds: int,
) -> Source:
    for pointer in (pretraining, sequences):
        local_copy(lake, pointed_folder(pointer))
    here = local_copy(lake, labels)
    return Source(
        local_copy(lake, pretraining),
        local_copy(lake, sequences),
        here,
        local_copy(lake, features) if features else None,
        lambda seed: labels_of_split(lake, here, build_split, Split(seed, folds)),
    )


def _newest(paths: list[Path]) -> float:
    return max(_mtime(path) for path in paths if path.exists())


def _mtime(path: Path) -> float:
    return path.stat().st_mtime
