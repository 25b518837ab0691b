"""How assets show in the catalogue of the UI: columns and their origin, code, pages.

The schemas and what their columns mean are `contracts.lake.schemas`; here they become metadata.
"""

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import dagster as dg
import pyarrow as pa

from contracts.lake.layout import lakes
from contracts.lake.meanings import MEANINGS

REPOSITORY = Path(__file__).parent.parent
# Column -> columns that it is computed from, each as (table, column).
Lineage = Mapping[str, list[tuple[str, str]]]


def column_schema(schema: pa.Schema, descriptions: Mapping[str, str] | None = None) -> dict:
    """Metadata that shows an Arrow schema in the UI, and what each column means."""
    meanings = {**MEANINGS, **(descriptions or {})}
    columns = [
        dg.TableColumn(
            field.name,
            str(field.type),
            description=meanings.get(field.name),
            constraints=dg.TableColumnConstraints(nullable=field.nullable),
        )
        for field in schema
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def column_lineage(slug: str, lineage: Lineage) -> dict:
    """Metadata that shows which columns of tables of a data set each column is computed from."""
    deps = {
        column: [dg.TableColumnDep(dg.AssetKey([slug, table]), source) for table, source in sources]
        for column, sources in lineage.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def page(path: str | Path) -> dg.MetadataValue:
    """A page of the lake as a link, where FOOTPATH_DOCS_URL serves the lakes; else as a path."""
    prefix, root = os.environ.get("FOOTPATH_DOCS_URL", "").rstrip("/"), f"{lakes()}/"
    if prefix and str(path).startswith(root):
        return dg.MetadataValue.url(f"{prefix}/{str(path).removeprefix(root)}")
    return dg.MetadataValue.path(str(path))


def with_code_references(assets: list[dg.AssetsDefinition]) -> list:
    """Assets that name the lines which define them: files here, or what their git remote shows."""
    referenced = dg.with_source_code_references(assets)
    remote = _git("remote", "get-url", "origin")
    revision = _git("rev-parse", "HEAD")
    if not (remote and revision):
        return list(referenced)
    anchor = dg.AnchorBasedFilePathMapping(REPOSITORY / "pyproject.toml", "pyproject.toml")
    try:
        linked = dg.link_code_references_to_git(referenced, _web(remote), revision, anchor)
    except ValueError:  # of a platform that Dagster does not know
        return list(referenced)
    return list(linked)


def _web(remote: str) -> str:
    """Address of a repository's pages, from what git clones; without credentials."""
    if "://" not in remote:  # git@host:owner/name.git
        remote = "https://" + remote.replace(":", "/", 1)
    host = remote.partition("://")[2].rpartition("@")[2]
    return "https://" + host.removesuffix(".git")


@cache
def _git(*arguments: str) -> str:
    """What git says of this checkout; nothing where there is no git, or nothing to say."""
    try:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""


def check_specs(key: dg.AssetKey, descriptions: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """The checks of an asset, by name and description."""
    return [
        dg.AssetCheckSpec(name, asset=key, description=description)
        for name, description in descriptions.items()
    ]
