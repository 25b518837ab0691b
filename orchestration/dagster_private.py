"""Every name that we take from Dagster and that it does not export: look here when it moves."""

# What PipesSubprocessClient raises when its process ends with an error; there is no public base
# but DagsterError, which would swallow faults of our own as well.
from dagster._core.errors import DagsterPipesExecutionError

__all__ = ["DagsterPipesExecutionError"]
