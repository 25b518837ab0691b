"""Feast offline store over Parquet files, with an exact and bounded point-in-time join.

It answers what Feast's DuckDB store answers, and besides: labels stay in their order, columns are
the entity frame's and then the features in the order asked, an entity frame may be SQL, and a range
of time needs none. `pull_latest_from_table_or_query` and `pull_all_from_table_or_query`, which
materialization reads by, are Feast's own, in the same bounded DuckDB. Views of other sources than
Parquet files go to Feast's join as they would without this store.
"""

# ruff: noqa: D102 (the methods are Feast's)

import datetime as dt
from pathlib import Path
from typing import Any, Literal

import fsspec
import ibis as backend
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.errors import FeastEntityDFMissingColumnsError
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores import duckdb, ibis, offline_utils
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import compute_non_entity_date_range

from footpath_feast.asof_join import Source, as_arrow, connect, features_as_of, moments

INSTANT = pa.timestamp("us", tz="UTC")


class AsofOfflineStoreConfig(duckdb.DuckDBOfflineStoreConfig):
    """Options of Feast's DuckDB store, and bounds."""

    type: Literal["footpath_feast.asof.AsofOfflineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "footpath_feast.asof.AsofOfflineStore"
    )
    memory_limit: str = "4GB"
    """Of DuckDB, which spills above it; the training set itself comes on top."""
    threads: int | None = None
    """Of DuckDB; all cores where it is not set."""
    temp_directory: str | None = None
    """Where it works above its limit; a private folder of the process where it is not set."""


class AsofOfflineStore(duckdb.DuckDBOfflineStore):
    """Feast's DuckDB offline store with an ASOF join."""

    @staticmethod
    def get_historical_features(  # pyright: ignore[reportIncompatibleMethodOverride]
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: dt.datetime | None = None,
        end_date: dt.datetime | None = None,
    ) -> RetrievalJob:
        """Joins features to labels, or lists a range of time.

        Without an entity frame there is one row for every moment from `start_date` to `end_date`
        at which a view has a row of an entity, with the features as of then. With
        `filter_by_created_timestamp` these are as they were known by `end_date`.

        Raises:
          ValueError: a label column is named like a feature, or a view cannot be joined.
          FeastEntityDFMissingColumnsError: the entity frame lacks a key.
        """
        if not all(_is_parquet(view.batch_source) for view in feature_views):
            return duckdb.DuckDBOfflineStore.get_historical_features(
                config,
                feature_views,
                feature_refs,
                entity_df,  # pyright: ignore[reportArgumentType]
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
            )
        request = _Request(config, feature_views, feature_refs, full_feature_names)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        if entity_df is None:
            start, end = compute_non_entity_date_range(feature_views, start_date, end_date)
            known_by = end if filter_by_created_timestamp else None
            with request.connection() as connection:
                sources = [source for source, _ in request.views]
                frame = moments(connection, sources, start, end, known_by)
            return AsofRetrievalJob(request, frame, "event_timestamp", on_demand, False, known_by)
        frame, column = _entity_frame(request, entity_df)
        return AsofRetrievalJob(request, frame, column, on_demand, filter_by_created_timestamp)

    @staticmethod
    def pull_latest_from_table_or_query(  # pyright: ignore[reportIncompatibleMethodOverride]
        config: RepoConfig, data_source: DataSource, **query: Any
    ) -> RetrievalJob:
        return ibis.pull_latest_from_table_or_query_ibis(
            config, data_source, **query, **_access(config)
        )

    @staticmethod
    def pull_all_from_table_or_query(  # pyright: ignore[reportIncompatibleMethodOverride]
        config: RepoConfig, data_source: DataSource, **query: Any
    ) -> RetrievalJob:
        return ibis.pull_all_from_table_or_query_ibis(
            config, data_source, **query, **_access(config)
        )


class AsofRetrievalJob(RetrievalJob):
    """A training set that is joined when it is asked for."""

    def __init__(
        self,
        request: "_Request",
        frame: pa.Table,
        event: str,
        on_demand: list[OnDemandFeatureView],
        known_only: bool,
        known_by: dt.datetime | None = None,
    ) -> None:
        self._request, self._frame, self._event = request, frame, event
        self._on_demand, self._known_only, self._known_by = on_demand, known_only, known_by
        request.check(frame)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        labels = self._frame.append_column("at", self._frame[self._event])
        columns: dict[str, pa.ChunkedArray] = {}
        with self._request.connection() as connection:
            for source, features in self._request.views:
                found = features_as_of(
                    connection, source, features, labels, self._known_only, self._known_by
                )
                columns |= dict(zip(found.column_names, found.columns, strict=True))
        joined = self._frame
        for name in self._request.order:
            joined = joined.append_column(name, columns[name])
        return joined

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        return self._request.full_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata:
        span = pc.min_max(self._frame[self._event]).as_py()
        keys = [name for name in self._frame.column_names if name != self._event]
        return RetrievalMetadata(self._request.references, keys, span["min"], span["max"])

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        table, folder = (
            backend.memtable(self.to_arrow(timeout=timeout)),
            str(self._request.config.repo_path),
        )
        duckdb._write_data_source(
            table, storage.to_data_source(), folder, "overwrite", allow_overwrite
        )


class _Request:
    """What is asked of which views, by columns of the answer."""

    def __init__(
        self,
        config: RepoConfig,
        feature_views: list[FeatureView],
        references: list[str],
        full_names: bool,
    ) -> None:
        self.config, self.references, self.full_names = config, references, full_names
        self.views: list[tuple[Source, dict[str, str]]] = []
        self._sources = [view.batch_source for view in feature_views]
        answers: dict[str, str] = {}  # reference -> column
        for view in feature_views:
            name = view.projection.name_to_use()
            prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
            asked = [ref for ref in dict.fromkeys(references) if ref.startswith(f"{name}:")]
            features = {prefix + ref.split(":")[1]: ref.split(":")[1] for ref in asked}
            answers |= dict(zip(asked, features, strict=True))
            self.views.append((_source(config, view), features))
        self.order = [answers[ref] for ref in dict.fromkeys(references) if ref in answers]

    def connection(self) -> DuckDBPyConnection:
        """A DuckDB that reads what the views are made from."""
        return _connection(self.config, self._sources)

    def check(self, frame: pa.Table) -> None:
        """Refuses an entity frame that lacks keys, and columns that bear one name."""
        keys = {key for source, _ in self.views for key in source.keys}
        if missing := keys - set(frame.column_names):
            raise FeastEntityDFMissingColumnsError(keys, missing)
        names = [*frame.column_names, *self.order]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{', '.join(twice)} would name two columns of the training set: rename the column "
                "of the entity frame, or ask with full_feature_names=True"
            )


def _source(config: RepoConfig, view: FeatureView) -> Source:
    source: Any = view.batch_source
    mapped = view.projection.join_key_map
    keys = [column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    return Source(
        view=view.name,
        files=_files(source, str(config.repo_path)),
        keys={mapped.get(key, key): key for key in keys},
        event=source.timestamp_field,
        created=source.created_timestamp_column or None,
        renamed={view: file for file, view in source.field_mapping.items()},
        ttl=view.ttl or dt.timedelta(0),
    )


def _files(source: Any, folder: str) -> list[str]:
    """A source's file, folder or glob; its files where DuckDB cannot glob the folder.

    DuckDB takes a backslash in a pattern for the end of a folder's name.
    """
    path = FileSource.get_uri_for_file_path(folder, source.path)
    if "\\" in path and "://" not in path:
        return sorted(map(str, Path("/").glob(path[1:]))) or [path]
    return [path]


def _entity_frame(request: _Request, entity_df: pd.DataFrame | str) -> tuple[pa.Table, str]:
    """The entity frame with its times in UTC, and the column that holds them."""
    if isinstance(entity_df, str):
        with request.connection() as connection:
            frame = as_arrow(connection, entity_df)
    else:
        frame = pa.Table.from_pandas(entity_df, preserve_index=False).replace_schema_metadata()
    kinds = frame.slice(0, 0).to_pandas().dtypes.to_dict()
    column = offline_utils.infer_event_timestamp_from_entity_df(kinds)
    instants = pd.to_datetime(frame[column].to_pandas(), utc=True)
    times = pa.Array.from_pandas(instants).cast(INSTANT, safe=False)  # as Feast: no nanoseconds
    return frame.set_column(frame.column_names.index(column), column, times), column


def _connection(config: RepoConfig, sources: list[Any]) -> DuckDBPyConnection:
    """A bounded DuckDB with the file systems of sources that are not on a disk."""
    options: Any = config.offline_store
    connection = connect(options.memory_limit, options.threads, options.temp_directory)
    systems = set()
    for source in sources:
        protocol = fsspec.utils.get_protocol(source.path)
        if protocol == "file":
            continue
        secrets = source.resolve_credentials() or {}
        known = {
            "endpoint_url": source.s3_endpoint_override or None,
            "key": secrets.get("AWS_ACCESS_KEY_ID"),
            "secret": secrets.get("AWS_SECRET_ACCESS_KEY"),
            "token": secrets.get("AWS_SESSION_TOKEN"),
        }
        given = {name: value for name, value in known.items() if value}
        # Listings that were kept would hide the day that was published since.
        system = fsspec.filesystem(protocol, use_listings_cache=False, **given)
        if not systems:
            connection.register_filesystem(system)
        systems.add(system)
        if len(systems) > 1:
            raise ValueError(
                f"{source.name} lies in another remote store, or has other secrets, than views "
                "before it: ask for them one by one"
            )
    return connection


def _access(config: RepoConfig) -> dict[str, Any]:
    """How Feast's own queries read Parquet files here, and write."""

    def read(source: DataSource, folder: str) -> Any:
        if not _is_parquet(source):
            return duckdb._read_data_source(source, folder)
        engine = backend.duckdb.from_connection(_connection(config, [source]))
        # Ibis has its own s3://
        files = [file.replace("s3://", "s3a://", 1) for file in _files(source, folder)]
        return engine.read_parquet(files, hive_partitioning=False)

    options: Any = config.offline_store
    return {
        "data_source_reader": read,
        "data_source_writer": duckdb._write_data_source,
        "staging_location": options.staging_location,
        "staging_location_endpoint_override": options.staging_location_endpoint_override,
    }


def _is_parquet(source: DataSource | None) -> bool:
    return isinstance(source, FileSource) and (
        isinstance(source.file_format, ParquetFormat)
        or (source.file_format is None and source.path.endswith(".parquet"))
    )
