"""Turns views and services from plain data into Feast objects. Declares, computes nothing."""

import datetime as dt
from glob import escape
from typing import TYPE_CHECKING

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.paths import ibis_path
from contracts.lake.schemas import FEATURE_CLOCKS
from features.store.services import Services
from features.store.view_specs import View

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureView, Project
    from feast.types import FeastType


def entity(name: str) -> "Entity":
    """An entity, `user` or `item`, keyed by `user_id` or `item_id`."""
    from feast import Entity, ValueType

    return Entity(
        name=name,
        join_keys=[f"{name}_id"],
        value_type=ValueType.STRING,
        description={"user": "a user of the data set", "item": "what users act upon"}[name],
    )


def feature_view(lake: Lake, view: View, owner: str = "") -> "FeatureView":
    """A Feast view over the daily objects of a table.

    The source's path is absolute: Feast's DuckDB store would resolve a relative one against the
    reader's working directory. Values never expire (ttl 0): a row of nothing ends them.

    Raises:
      FootpathError: a folder above the lake is named like a column that Feast reads.
    """
    from feast import FeatureView, Field, FileSource

    _check_folders(lake, view)
    source = FileSource(
        name=view.name,
        path=f"{escape(ibis_path(lake.table(view.table)))}/*.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
        field_mapping={c.source: c.name for c in view.columns if c.source != c.name},
    )
    schema = [Field(name=view.key, dtype=_dtype("string"))]
    schema += [
        Field(name=column.name, dtype=_dtype(column.kind), description=column.description)
        for column in view.columns
    ]
    return FeatureView(
        name=view.name,
        source=source,
        schema=schema,
        entities=[entity(view.entity)],
        ttl=dt.timedelta(0),
        tags=view.tags,
        description=view.description,
        owner=owner,
    )


def _check_folders(lake: Lake, view: View) -> None:
    """Refuses folders named key=value that would replace a column.

    Feast reads the objects by a call that takes no options, and takes such a name for a value.
    """
    clocks = [field.name for field in FEATURE_CLOCKS]
    read = {name.lower() for name in [view.key, *clocks, *(c.source for c in view.columns)]}
    for folder in lake.table(view.table).parts:
        if "=" in folder and folder.split("=", 1)[0].lower() in read:
            raise FootpathError(
                f"the folder '{folder}' above {lake.root} is named like a column of {view.table}, "
                "and Feast would read that in its place: rename it, or move FOOTPATH_HOME"
            )


def token_view() -> "FeatureView":
    """The view of the online store's own mark: one row, without an entity."""
    from feast import FeatureView, Field

    return FeatureView(name="footpath_token", schema=[Field(name="token", dtype=_dtype("string"))])


def feature_services(
    known: Services, views: dict[str, "FeatureView"], draining: dict[str, str], owner: str
) -> list["FeatureService"]:
    """Every promised service; its views are taken whole, in the promised order.

    One that is to go says so to whoever reads it: the tag `last_day`.
    """
    from feast import FeatureService

    return [
        FeatureService(
            name=name,
            features=[views[view][features] for view, features in service.features.items()],
            description="; ".join(views[view].description for view in service.features),
            owner=owner,
            tags=service.tags | ({"last_day": draining[name]} if name in draining else {}),
        )
        for name, service in known.services.items()
    ]


def project(name: str, title: str, aliases: dict[str, str]) -> "Project":
    """The Feast project; its tags are the aliases, readable with Feast alone."""
    from feast import Project

    return Project(name=name, description=title, tags=aliases)


def _dtype(kind: str) -> "FeastType":
    from feast.types import Array, Float32, Float64, Int64, String

    return {"int64": Int64, "float64": Float64, "string": String}.get(kind) or Array(Float32)
