"""What the cells read: events, labels, sequences, head features. What is missing is built.

Each task reads the inputs of its source of examples (contracts.config.tasks): the end of the as-of
day, users' last events, or what begins after the day. In every case the encoder is pre-trained on
sequences that hold nothing of what the labels look at.

Seeds differ in the users' split as well: seed 0 has the split of the labels' file, and every other
one deals the users anew by a hash of seed and user id. With few test users it is the split that
moves the figures most, and a mean over one split would be a mean over its luck. Where training
users decide what the labels are (above a median, commonest classes), each split has its own.
"""

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.config.dataset import DATASETS, Dataset
from contracts.config.tasks import Task
from contracts.lake.copies import local_copy
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.paths import is_remote
from contracts.lake.publishing import publish_table
from contracts.lake.reading import read_json
from orchestration.chain import Runner, WholeChain, run_chain
from orchestration.compare.settings import Comparison

Say = Callable[[str], None]
OpenRunner = Callable[[Dataset], AbstractContextManager[Runner]]


@dataclass(frozen=True)
class Source:
    """The inputs of the tasks of one source of examples; local paths."""

    pretraining: Path  # pointer of the sequences that encoders are trained on
    sequences: Path  # pointer of those that the examples are cut from
    labels: Path
    head_features: Path | None
    # Builds the labels anew with the split of a seed, where they follow from it.
    build_split: Callable[[int, Path], object] | None = None


def prepare(comparison: Comparison, lake: Lake, as_of: dt.date, say: Say) -> dict[str, Source]:
    """Builds what is missing or older than the events, and returns the inputs by task.table."""
    wanted = dict.fromkeys(task.table for task in comparison.tasks)
    sources: dict[str, Source] = {}
    for table in wanted:
        say(f"inputs of {', '.join(_names(comparison, table))} as of {as_of}")
        sources[table] = _source(comparison, lake, as_of, table)
    return sources


def build_events(dataset: Dataset, open_runner: OpenRunner, say: Say) -> None:
    """Runs the chain up to the daily tables where no event is published yet."""
    lake = Lake.of(dataset.name)
    if lake.days("events"):
        return
    say(f"data set '{dataset.name}' has no events yet: building them")
    with open_runner(dataset) as runner:
        run_chain(runner, WholeChain(until="daily"), say)


def labels_of_seed(lake: Lake, source: Source, seed: int) -> Path:
    """Returns the labels with the users' split of a seed."""
    labels = source.labels
    if seed == 0:
        return labels
    how = "built" if source.build_split else "split"
    target = lake.work / "compare" / "labels" / f"{labels.stem}-{how}{seed}.parquet"
    if target.exists() and target.stat().st_mtime >= labels.stat().st_mtime:
        return target
    if source.build_split:
        source.build_split(seed, target)
    else:
        _deal(lake, labels, seed, target)
    return target


def _deal(lake: Lake, labels: Path, seed: int, target: Path) -> None:
    """Writes the labels as they are, with the users dealt anew."""
    from features.learning.label_rows import split_of

    table = pq.read_table(labels)
    connection = connect()
    connection.register("labeled", table.select(["user_id"]))
    dealt = connection.sql(f"SELECT {split_of(seed)} AS split FROM labeled").to_arrow_table()
    at = table.schema.get_field_index("split")
    table = table.set_column(at, table.schema.field("split"), dealt["split"].combine_chunks())
    publish_table(lake, table, target)


def _source(comparison: Comparison, lake: Lake, as_of: dt.date, table: str) -> Source:
    from features.learning.labels import build_labels
    from features.learning.sequences import build_sequences

    dataset = comparison.dataset
    follows = any(task.follows_split for task in dataset.tasks if task.table == table)
    pointers = lake.root / "sequences"
    plain = pointers / f"{as_of}.json"
    if not table.startswith("holdout"):
        _build(dataset, lake, plain, lambda: build_sequences(dataset, lake, as_of))
    if table == "day":
        labels, features = lake.day("labels", as_of), None
        _build(dataset, lake, labels, lambda: build_labels(dataset, lake, as_of))
        if comparison.features:
            features = _head_features(dataset, lake, as_of, labels)
        again = partial(build_labels, dataset, lake, as_of)
        return _local(lake, plain, plain, labels, features, again if follows else None)
    from features.learning.later_examples import build_examples

    labels = lake.root / "examples" / f"{as_of}__{table}.parquet"
    _build(dataset, lake, labels, lambda: build_examples(dataset, lake, as_of, table))
    again = partial(build_examples, dataset, lake, as_of, table) if follows else None
    if table.startswith("holdout"):
        count = int(table.removeprefix("holdout"))
        pointer = pointers / f"{as_of}__{table}.json"
        _build(dataset, lake, pointer, lambda: build_sequences(dataset, lake, as_of, holdout=count))
        return _local(lake, pointer, pointer, labels, None, again)
    return _local(lake, plain, _until_the_end(dataset, lake, plain), labels, None, again)


def _until_the_end(dataset: Dataset, lake: Lake, plain: Path) -> Path:
    """Returns sequences as of the last day, in the vocabulary of those of the as-of."""
    from features.learning.sequences import build_sequences

    said, last = read_json(plain), lake.days("events")[-1]
    pointer = lake.root / "sequences" / f"{last}__{said['vocabulary_hash'][:8]}.json"
    vocabulary = plain.parent / said["folder"] / "vocabulary.json"
    _build(dataset, lake, pointer, lambda: build_sequences(dataset, lake, last, vocabulary))
    return pointer


def _head_features(dataset: Dataset, lake: Lake, as_of: dt.date, labels: Path) -> Path | None:
    """Returns the head features; none where the data set has no features of that day."""
    from features.learning.head_features import TABLE, write_head_features

    daily = lake.day("user_behavior_features", as_of)
    if not daily.exists():
        return None
    path = lake.day(TABLE, as_of)
    if is_remote(path) or not path.exists() or _mtime(path) < max(_mtime(daily), _mtime(labels)):
        write_head_features(dataset, lake, as_of)
    return path


def _build(dataset: Dataset, lake: Lake, path: Path, build: Callable[[], object]) -> None:
    """Builds what is not there, or older than the events, the tables or the YAML."""
    if not is_remote(path) and path.exists():
        read = [DATASETS / f"{dataset.name}.yaml", lake.single("items"), lake.single("users")]
        read += lake.table("events").glob("*.parquet")
        if _mtime(path) >= max(_mtime(each) for each in read if each.exists()):
            return
    build()


def _local(
    lake: Lake,
    pretraining: Path,
    sequences: Path,
    labels: Path,
    features: Path | None,
    build_split: Callable[[int, Path], object] | None,
) -> Source:
    for pointer in (pretraining, sequences):
        local_copy(lake, pointer.parent / read_json(pointer)["folder"])
    return Source(
        local_copy(lake, pretraining),
        local_copy(lake, sequences),
        local_copy(lake, labels),
        local_copy(lake, features) if features else None,
        build_split,
    )


def check_labeled(tasks: tuple[Task, ...], sources: dict[str, Source]) -> None:
    """Checks that every task has labels.

    Raises:
      FootpathError: one has none.
    """
    for task in tasks:
        path = sources[task.table].labels
        if task.name not in pc.unique(pq.read_table(path, columns=["task"])["task"]).to_pylist():
            raise FootpathError(
                f"{path} has no labels of task '{task.name}': no user has one as of that day, or "
                f"all have the same; leave it out of --tasks, or choose another learning.as_of"
            )


def _names(comparison: Comparison, table: str) -> list[str]:
    return [task.name for task in comparison.tasks if task.table == table]


def _mtime(path: Path) -> float:
    return path.stat().st_mtime
