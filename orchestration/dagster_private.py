"""Every name that we take from Dagster and that it does not export: look here when it moves."""

# What PipesSubprocessClient raises when its process ends with an error; there is no public base
# but DagsterError, which would swallow faults of our own as well.
# Metadata of an output of which no materialization is recorded. Without an output, what depends on
# the step would be skipped; with one, every partition of the run would count as materialized.
from dagster._core.definitions.source_asset import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NOT_RECORDED,
)
from dagster._core.errors import DagsterPipesExecutionError

__all__ = ["NOT_RECORDED", "DagsterPipesExecutionError"]
