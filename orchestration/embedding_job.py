"""What `models.embed` is given: checkpoints, sequences of each day, features for profiles.

In:  cells of day x model version. Out: a job with its inputs built, all on a local disk.
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from contracts.base.clock import as_of_instant
from contracts.base.hashing import hash_file
from contracts.config.dataset import Dataset
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.pointers import pointed_folder
from contracts.lake.reading import read_table
from contracts.lake.versions import version_named
from contracts.recipes.checkpoint import load_facts
from contracts.recipes.jobs import EmbedDay, EmbedJob, EmbedModel
from models.experiments.cells import local_model

Say = Callable[[str], None]


def embed_job(
    dataset: Dataset, lake: Lake, cells: list[tuple[dt.date, str]], folder: Path, warn: Say
) -> EmbedJob:
    """Job that embeds days x versions into files of a folder, with their inputs built.

    Args:
      dataset: whose.
      lake: of the data set.
      cells: day and model version.
      folder: for inputs of the job alone, and what it writes: `<version>/<day>.parquet`.
      warn: is told what cannot be predicted.
    """
    from features.store.freshness import event_histories, feature_histories

    # Before events are read: should a day change in between, its embeddings are stale.
    histories = event_histories(lake)
    of_profiles = feature_histories(lake, histories)
    delay = dt.timedelta(minutes=dataset.features.delay_minutes)
    inputs = _Inputs(dataset, lake, folder, warn)
    models: dict[str, EmbedModel] = {}
    for day, version in cells:
        checkpoint = local_model(lake, version_named(lake, version).trial)
        task = load_facts(checkpoint).task
        view = task.profile.view if task and task.profile and task.reads_features else ""
        pointer = inputs.sequences(day, checkpoint / "vocabulary.json")
        instant = as_of_instant(day, dataset.timezone)
        part = EmbedDay(
            event_timestamp=instant.isoformat(),
            created=(instant + delay).isoformat(),
            built_from=(of_profiles if view else histories).get(day, ""),
            sequences=pointer,
            features=inputs.features(day, view, pointer) if view else None,
            out=folder / version / f"{day}.parquet",
        )
        if version in models:
            models[version].days.append(part)
        else:
            models[version] = EmbedModel(model_version=version, checkpoint=checkpoint, days=[part])
    return EmbedJob(models=list(models.values()))


class _Inputs:
    """Builds inputs once for all versions that read the same."""

    def __init__(self, dataset: Dataset, lake: Lake, folder: Path, warn: Say) -> None:
        self._dataset, self._lake, self._folder, self._warn = dataset, lake, folder, warn
        self._sequences: dict[tuple[dt.date, str], Path] = {}
        self._features: dict[tuple[dt.date, str], Path | None] = {}

    def sequences(self, day: dt.date, words: Path) -> Path:
        """The sequences of a day in a vocabulary, which versions trained together share."""
        from features.learning.sequences import build_sequences

        place = (day, hash_file(words))
        if place not in self._sequences:
            pointer = build_sequences(self._dataset, self._lake, day, words).pointer
            local_copy(self._lake, pointed_folder(pointer))
            self._sequences[place] = local_copy(self._lake, pointer)
        return self._sequences[place]

    def features(self, day: dt.date, view: str, pointer: Path) -> Path | None:
        """Features of the users of a day, in any vocabulary; none where they are not built."""
        place = (day, view)
        if place not in self._features:
            self._features[place] = self._write_features(day, view, pointer)
        return self._features[place]

    def _write_features(self, day: dt.date, view: str, pointer: Path) -> Path | None:
        from features.learning.head_features import not_built, write_day_features

        if missing := not_built(self._lake, view, day):
            self._warn(
                f"profiles on {view} predict nothing of {day}, which was built without "
                f"{', '.join(missing[:5])}: train them anew, on the present features"
            )
            return None
        users = read_table(pointed_folder(pointer) / "users.parquet")["user_id"].to_pylist()
        target = self._folder / f"features-{view}-{day}.parquet"
        write_day_features(self._dataset, self._lake, view, day, users, target)
        return target
