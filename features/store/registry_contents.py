"""What a registry of Feast may hold: what Footpath registers, nothing that is run as code.

In:  a registry as Feast's protobuf. Out: it is taken, or refused. Parsing the protobuf executes
nothing, but Feast executes the source of on-demand views, unpickles transformations and profilers,
and imports classes by the names that a registry gives.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.base.errors import FootpathError

if TYPE_CHECKING:
    from google.protobuf.message import Message

# What Footpath registers, and data sets of files that somebody has saved with Feast.
VIEW = "feature_view"  # the kind of an earlier version of a view
KNOWN = frozenset(
    f"feast.core.{name}"
    for name in (
        "Registry", "Project", "ProjectSpec", "ProjectMeta", "ProjectMetadata", "Infra",
        "Entity", "EntitySpecV2", "EntityMeta",
        "FeatureView", "FeatureViewSpec", "FeatureViewMeta", "FeatureSpecV2",
        "MaterializationInterval",
        "FeatureViewVersionHistory", "FeatureViewVersionRecord",
        "FeatureService", "FeatureServiceSpec", "FeatureServiceMeta", "FeatureViewProjection",
        "DataSource", "DataSource.FileOptions", "DataSource.SourceMeta",
        "FileFormat", "FileFormat.ParquetFormat",
        "SavedDataset", "SavedDatasetSpec", "SavedDatasetMeta", "SavedDatasetStorage",
    )
) | {"google.protobuf.Timestamp", "google.protobuf.Duration", "feast.types.Value"}  # fmt: skip


def check_registry_file(path: Path, where: Path) -> None:
    """Checks the registry of a file before Feast reads it; one that is not there holds nothing.

    Args:
      path: the file.
      where: what to call it.

    Raises:
      FootpathError: it holds what Footpath does not register, or is no registry.
    """
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError

    advice = "move it away and materialize feature_registry, which writes it anew"
    try:
        _check([Registry.FromString(path.read_bytes())], str(where), advice)
    except FileNotFoundError:
        return
    except DecodeError:
        raise FootpathError(f"{where} is no registry of Feast: {advice}") from None


def check_registry_of(registry: "Message", project: str, where: str) -> None:
    """Checks what a registry that others may share holds of a project.

    Raises:
      FootpathError: it holds what Footpath does not register.
    """
    own = (
        thing
        for field, found in registry.ListFields()
        if field.name != "infra"  # of whichever project came last
        for thing in _messages(found)
        if getattr(getattr(thing, "spec", thing), "project", project) == project
    )
    _check(own, where, "delete it there, or name another database")


def _check(roots: "Iterable[Message]", where: str, advice: str) -> None:
    for message, owner in _walk(roots):
        if what := _foreign(message):
            raise FootpathError(
                f"{where} holds {what} '{owner}', which Footpath does not register and Feast may "
                f"run as code: {advice}"
            )


def _walk(roots: "Iterable[Message]") -> "Iterator[tuple[Message, str]]":
    """Every message, and the name of what it belongs to."""
    from feast.protos.feast.core.FeatureView_pb2 import FeatureView
    from feast.protos.feast.core.FeatureViewVersion_pb2 import FeatureViewVersionRecord

    todo = [(root, "") for root in roots]
    while todo:
        message, owner = todo.pop()
        named = getattr(message, "spec", message)
        owner = getattr(named, "name", "") or getattr(named, "feature_view_name", "") or owner
        yield message, owner
        todo += [(part, owner) for _, parts in message.ListFields() for part in _messages(parts)]
        if isinstance(message, FeatureViewVersionRecord):  # an earlier view, as bytes
            todo.append((FeatureView.FromString(message.feature_view_proto), owner))


def _foreign(message: "Message") -> str:
    """What a message is that Footpath does not register; empty if it does."""
    from feast.protos.feast.core.DataSource_pb2 import DataSource
    from feast.protos.feast.core.FeatureViewVersion_pb2 import FeatureViewVersionRecord

    if isinstance(message, DataSource) and message.type != DataSource.BATCH_FILE:
        return f"{DataSource.SourceType.Name(message.type)} source"
    if isinstance(message, FeatureViewVersionRecord) and message.feature_view_type != VIEW:
        return message.feature_view_type
    kind = message.DESCRIPTOR.full_name
    return "" if kind in KNOWN else kind.rpartition(".")[2]


def _messages(found: object) -> "list[Message]":
    """The messages that are the value of a field: one, several, those of a map, or none."""
    from google.protobuf.message import Message

    if isinstance(found, Mapping):
        found = found.values()
    several = [found] if isinstance(found, Message | str | bytes) else found
    several = several if isinstance(several, Iterable) else [several]
    return [each for each in several if isinstance(each, Message)]
