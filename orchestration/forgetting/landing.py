"""Landing without some users: fragments, refused rows, repairs, and the manifests that count them.

In:  `landing`, `quarantine/landing` and `repairs` of a lake. Out: the same without the users, whose
rows the manifests count as `forgotten`. Manifests come last; killed before, the next call counts
what is there. The digests stay those of what was delivered, so that no day becomes stale.
"""

from dataclasses import dataclass
from pathlib import Path

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.engine import connect
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata, read_table, side_by_side
from features.ingestion.manifest import (
    Manifest,
    fragment_path,
    fragments_folder,
    publish_manifest,
    readable_manifests,
)
from features.ingestion.mapping import REFUSALS
from features.ingestion.replay import refused_path
from orchestration.forgetting.ids import Ids
from orchestration.forgetting.refused import Refused
from orchestration.forgetting.tables import rewrite, rows_by_object, without_users


@dataclass(frozen=True)
class Landed:
    """Rows of the users by object."""

    fragments: dict[Path, int]
    refused: dict[Path, int]  # of quarantine, whatever its stage
    repairs: dict[Path, int]

    @property
    def all(self) -> dict[Path, int]:
        """All of them."""
        return self.fragments | self.refused | self.repairs


def landed_with(dataset: Dataset, lake: Lake, ids: Ids) -> Landed:
    """What landing and the gate keep of the users."""
    fragments = rows_by_object(sorted(fragments_folder(lake).glob("*/*.parquet")), ids)
    refused = sorted(lake.table("quarantine").glob("*/*.parquet"))
    repairs = lake.table("repairs")
    kept = [*sorted(repairs.glob("*/*.parquet")), *sorted(repairs.glob("*/refused/*.parquet"))]
    with connect() as connection:
        judge = Refused(connection, dataset, ids)
        counts = {path: judge.gone(read_table(path)).to_pylist() for path in [*refused, *kept]}
    found = {path: sum(gone) for path, gone in counts.items() if any(gone)}
    return Landed(
        fragments,
        {path: rows for path, rows in found.items() if path in {*refused}},
        {path: rows for path, rows in found.items() if path in {*kept}},
    )


def source_files(landed: Landed) -> list[str]:
    """Files of the source in which the users stand: each of these objects is of one file."""
    of_landing = [path for path in landed.refused if path.parent.name == "landing"]
    found = set()
    for path in [*landed.fragments, *of_landing]:
        found.update(read_table(path, columns=["source_file"])["source_file"].to_pylist())
    return sorted(found)


def forget_landed(dataset: Dataset, lake: Lake, ids: Ids, recount: bool) -> None:
    """Removes the users from what has landed.

    Args:
      dataset: maps landing rows to events.
      lake: is changed.
      ids: who goes.
      recount: every manifest is held to what is there, since a call before was killed.

    Raises:
      FootpathError: a landing file was read by another release.
    """
    with lake.locked("landing"), lake.staging() as folder, connect() as connection:
        manifests = readable_manifests(lake)
        landed, judge = landed_with(dataset, lake, ids), Refused(connection, dataset, ids)
        for path in landed.fragments:
            without_users(lake, path, ids)
        for path in [*landed.refused, *landed.repairs]:
            if path.parent.name not in ("events", "stopped"):  # those go with their day
                rewrite(lake, path, judge.gone)
        touched = {path.stem.partition("-")[0] for path in landed.fragments}
        touched |= {path.stem for path in landed.refused if path.parent.name == "landing"}
        touched |= {_file_of(path) for path in landed.repairs}
        for identity in sorted(manifests if recount else touched & manifests.keys()):
            manifest = manifests[identity]
            counted = _counted(lake, manifest)
            if counted != manifest:
                publish_manifest(lake, counted, folder)


def _file_of(path: Path) -> str:
    folder = path.parent.parent if path.parent.name == "refused" else path.parent
    return folder.name.partition("-")[0]


def _counted(lake: Lake, manifest: Manifest) -> Manifest:
    """A manifest that counts what is there; what is not there any more was forgotten."""
    paths = [fragment_path(lake, manifest, day) for day in manifest.days]
    footers = side_by_side(read_metadata, paths)
    days = {day: f.num_rows for day, f in zip(manifest.days, footers, strict=True)}
    refused = refused_path(lake, manifest)
    broken = read_table(refused, columns=["broken"])["broken"] if refused.exists() else None
    rules = [each[0] for each in broken.to_pylist()] if broken is not None else []
    counts = {rule: rules.count(rule) for rule in REFUSALS}
    forgotten = manifest.rows + manifest.added - sum(days.values()) - sum(counts.values())
    if forgotten < manifest.forgotten:
        raise FootpathError(
            f"{manifest.path}: more rows are in the lake than its manifest knows: run "
            "`footpath audit`, and forget then"
        )
    return manifest.model_copy(update={"days": days, "forgotten": forgotten, **counts})
