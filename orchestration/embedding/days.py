"""Plans the embedding of days x model versions so that it costs what has changed; publishes them.

In:  cells, and what is known of their days and of those embedded before. Out: the job of
models/embed.py with its sequences staged, and then the published days.

A day is based on the newest one before it that its version has embedded from the very events, the
catalog and the code of now: users with an event after the base are embedded, all others keep the
vectors that they have there. A late event changes the history of its day and of all after it: they
are no bases until they are embedded again, oldest first, each with the users of its own day.
Where a model looks at the time that has passed, by ages or a summary, or reads behavior features,
everybody is embedded.
"""

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.base.clock import as_of_instant
from contracts.base.hashing import hash_file, hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import remove_folder
from contracts.lake.schemas import BUILT_FROM, READ_WITH
from contracts.lake.versions import version_named
from contracts.recipes.checkpoint import load_facts
from contracts.recipes.jobs import EmbedDay, EmbedJob, EmbedModel
from models.experiments.cells import local_model
from models.runtime.code import code_version
from orchestration.embedding.features import DayFeatures, Say

if TYPE_CHECKING:
    from features.learning.catalog_hashes import CatalogHashes
    from features.learning.sequences import StagedSequences

Cell = tuple[dt.date, str]  # day, model version
ReadWith = Callable[[dt.date], str]  # day -> what its footer says of READ_WITH


@dataclass(frozen=True)
class PlannedDay:
    """One cell: what is embedded of it, and what is carried."""

    day: dt.date
    version: str
    checkpoint: Path
    base: dt.date | None
    everyone: Path | None  # with a base: who has a vector on the day
    out: Path
    clocks: tuple[dt.datetime, dt.datetime]  # event_timestamp, created
    notes: dict[bytes, str]  # for the footer
    features: Path | None = None  # of its users, where the model reads some
    embedded: EmbedDay | None = None  # None where nobody has done anything since the base


def plan_days(
    dataset: Dataset, lake: Lake, cells: list[Cell], folder: Path, warn: Say
) -> list[PlannedDay]:
    """Plans cells, and stages their sequences in a folder.

    Args:
      dataset: which data set.
      lake: its lake.
      cells: of a version, earlier days come first: they are the bases of later ones.
      folder: a local one; vectors are to go there too.
      warn: is told what cannot be predicted.
    """
    from features.learning.catalog_hashes import CatalogHashes
    from features.learning.sequences import stage_sequences
    from features.store.freshness import event_histories, feature_histories

    # Before events are read: should a day change in between, its embeddings are stale.
    histories = event_histories(lake)
    of_profiles = feature_histories(lake, histories)
    known = DayFeatures(dataset, lake, folder, warn)
    catalog = CatalogHashes.up_to(dataset, lake, max(day for day, _ in cells))
    delay = dt.timedelta(minutes=dataset.features.delay_minutes)
    staged: dict[tuple, StagedSequences] = {}  # versions that were trained together share them
    bases: dict[str, set[dt.date]] = {}
    planned = []
    for day, version in cells:
        checkpoint = local_model(lake, version_named(lake, version).trial)
        facts = load_facts(checkpoint)
        recipe, task = facts.recipe, facts.task
        view = task.profile.view if task and task.profile and task.reads_features else ""
        read_with = _read_with(catalog, "text" in recipe.fields)
        if version not in bases:
            bases[version] = _bases(lake, version, histories, read_with)
        earlier = [] if recipe.looks_at_now or view else [b for b in bases[version] if b < day]
        base = max(earlier, default=None)
        bases[version].add(day)
        words = checkpoint / "vocabulary.json"
        place = (day, hash_file(words), base)
        if place not in staged:
            into = folder / f"sequences-{len(staged)}"
            staged[place] = stage_sequences(dataset, lake, day, words, into, base)
        instant = as_of_instant(day, dataset.timezone)
        made_from = (of_profiles if view else histories).get(day, "")
        pointer = staged[place].pointer
        each = PlannedDay(
            day=day,
            version=version,
            checkpoint=checkpoint,
            base=base,
            everyone=staged[place].everyone,
            out=folder / version / f"{day}.parquet",
            clocks=(instant, instant + delay),
            notes={BUILT_FROM: made_from, READ_WITH: read_with(day)},
            features=known.of(day, view, pointer) if view and pointer else None,
        )
        planned.append(_with_job(lake, each, staged[place]))
    return planned


def _bases(
    lake: Lake, version: str, histories: Mapping[dt.date, str], read_with: ReadWith
) -> set[dt.date]:
    """Embedded days of a version whose vectors are those that it would make of them now."""
    from features.store.freshness import embedded_days

    return {
        day
        for day, made in embedded_days(lake, version).items()
        if day in histories and made == (histories[day], read_with(day))
    }


def _with_job(lake: Lake, planned: PlannedDay, staged: "StagedSequences") -> PlannedDay:
    """The same day with what is embedded of it.

    Its shards lie where a later run of the same vectors finds them, and no other.
    """
    if staged.pointer is None:
        return planned
    weights = load_facts(planned.checkpoint).identity
    instants = [instant.isoformat() for instant in planned.clocks]
    features = hash_file(planned.features) if planned.features else ""
    read = [staged.fingerprint, features]
    key = hash_json([planned.version, weights, *read, *instants, code_version()])
    embedded = EmbedDay(
        event_timestamp=instants[0],
        created=instants[1],
        notes={name.decode(): said for name, said in planned.notes.items()},
        sequences=staged.pointer,
        features=planned.features,
        out=planned.out,
        shards=lake.work / "running" / f"embed-{key}",
    )
    return dataclasses.replace(planned, embedded=embedded)


def _read_with(catalog: "CatalogHashes", with_text: bool) -> ReadWith:
    """Of a day, the hash of all that vectors follow from beside events and weights."""
    return lambda day: hash_json([code_version(), catalog.of(day, with_text)])


def job_of(planned: list[PlannedDay]) -> EmbedJob | None:
    """The job that embeds what is planned; None where nobody is to be embedded."""
    days: dict[tuple[str, Path], list[EmbedDay]] = defaultdict(list)
    for each in planned:
        if each.embedded:
            days[each.version, each.checkpoint].append(each.embedded)
    models = [
        EmbedModel(model_version=version, checkpoint=checkpoint, days=of_model)
        for (version, checkpoint), of_model in days.items()
    ]
    return EmbedJob(models=models) if models else None


def publish_day(lake: Lake, planned: PlannedDay) -> dict[str, int]:
    """Publishes a day once its job has run, with what is carried; bases go before.

    Returns:
      Figures of the day: rows of its object, and how many vectors were carried.
    """
    from features.store import publish_embeddings
    from features.store.carrying import carry_over

    carried = 0
    if planned.base and planned.everyone:
        carried = carry_over(
            lake, planned.version, planned.base, planned.out, planned.everyone,
            planned.clocks, planned.notes,
        )  # fmt: skip
    rows = publish_embeddings(lake, planned.version, planned.day, planned.out)
    if planned.embedded and planned.embedded.shards:
        remove_folder(planned.embedded.shards)
    return {"dagster/row_count": rows, "carried": carried}
