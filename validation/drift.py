"""Drift of features: each day against the trailing days that were published before it.

In:  histograms of every feature, one small object a day, counted in the same pass as the broken
rows (validation/descriptions.py); no row of the days before is read again. Out: for each day and
feature the population stability index over quantile groups of the reference, and the
Jensen-Shannon distance; warnings; and a page of the Data Docs with the index over days.

A feature over 30 days grows for 30 days after the first event: such days are in no reference.

Of each user, or item, the newest row of a day counts, so that rows of before a feature was
declared, which are null in it, are no drift; a feature that was removed is not described at all.
"""

import base64
import datetime as dt
import html
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_text
from contracts.lake.schemas import BUILT_FROM, FEATURES
from validation.data_docs import document
from validation.descriptions import (
    MISSING,
    Described,
    Trailing,
    bin_of,
    distance,
    read_descriptions,
    stability,
)

PSI, JS = "psi", "js"

# What the page shows at most: days, and the features that drifted most.
PAGE_DAYS = 180
PAGE_FEATURES = 25
SHOWN = 5


def newest(key: str) -> str:
    """SQL that joins to each audited row when the newest of its user, or item, was created."""
    return (
        f"LEFT JOIN (SELECT day AS newest_day, {key} AS newest_of, max(created) AS newest "
        f"FROM {{view}} GROUP BY ALL) ON day = newest_day AND {key} = newest_of"
    )


def features_histograms(staged: pa.Schema) -> dict[str, str]:
    """The histograms that describe a day, by name: of every number the SQL of its bin, with nulls.

    They are over audited rows with their `newest`.

    Args:
      staged: the schema of a staged file, with its footer: what was built is described.
    """
    built_from = json.loads((staged.metadata or {}).get(BUILT_FROM, b"{}"))
    numbers = [c.name for c in staged if pat.is_integer(c.type) or pat.is_floating(c.type)]
    built = built_from.get(FEATURES, numbers)
    bins = {name: f"coalesce({bin_of(name)}, {MISSING})" for name in numbers if name in built}
    return {
        f"bins.{name}": f"CASE WHEN created = newest THEN {sql} END" for name, sql in bins.items()
    }


def with_drift(
    dataset: Dataset, lake: Lake, table: str, days: Mapping[dt.date, dict[str, Any]]
) -> dict[dt.date, dict[str, Any]]:
    """The descriptions of staged days with what has drifted: `psi` and `js`, by feature."""
    if not days:
        return {}
    config = dataset.quality.drift
    warm = dataset.partitions.start + dt.timedelta(days=max(dataset.features.windows))
    reach = dt.timedelta(days=config.days)
    before = read_descriptions(lake, table, max(warm, min(days) - reach), max(days))
    before = {day: found for day, found in before.items() if day not in days}
    judged, trailing = {}, Trailing()
    for day in sorted(days):
        trailing.move({d: f for d, f in before.items() if day - reach <= d < day and f["rows"]})
        judged[day] = dict(days[day])
        if len(trailing) >= config.min_days and days[day]["rows"]:
            judged[day] |= _drift(days[day], trailing, config.min_days)
        if day >= warm:
            before[day] = days[day]
    return judged


def _drift(today: Described, trailing: Trailing, min_days: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {PSI: {}, JS: {}}
    for name in (name for name in today if name.startswith("bins.")):
        reference = trailing.counts.get(name)
        if reference and trailing.parts[name] >= min_days and today[name]:
            feature = name.removeprefix("bins.")
            found[PSI][feature] = round(stability(today[name], reference), 5)
            found[JS][feature] = round(distance(today[name], reference), 5)
    return found


def drift_warnings(dataset: Dataset, table: str, day: dt.date, found: Described) -> list[str]:
    """Which features of a table's day have drifted beyond `quality.drift.psi`."""
    bound = dataset.quality.drift.psi
    beyond = sorted(
        ((v, name) for name, v in found.get(PSI, {}).items() if v > bound), reverse=True
    )
    if not beyond:
        return []
    told = ", ".join(f"{name} {value:.2f}" for value, name in beyond[:SHOWN])
    more = f" and {len(beyond) - SHOWN} more" if len(beyond) > SHOWN else ""
    return [
        f"{table} {day}: the distribution of {len(beyond)} features has a stability index above "
        f"{bound:g} (quality.drift.psi): {told}{more}"
    ]


def write_drift_page(dataset: Dataset, lake: Lake, table: str) -> str | None:
    """Draws the stability index of a table's days by feature; None if no day was judged."""
    last = max(lake.days(table), default=None)
    if last is None:
        return None
    first = last - dt.timedelta(days=PAGE_DAYS)
    days = {d: f for d, f in read_descriptions(lake, table, first, last).items() if f.get(PSI)}
    if not days:
        return None
    names = sorted({name for found in days.values() for name in found[PSI]})
    values = np.array([[found[PSI].get(n, np.nan) for found in days.values()] for n in names])
    order = np.argsort(-np.nanmax(values, axis=1))[:PAGE_FEATURES]
    bound = dataset.quality.drift.psi
    image = _heat([names[n] for n in order], list(days), values[order], bound)
    latest = days[max(days)]
    rows = "".join(
        f"<tr><td><code>{html.escape(names[n])}</code></td>"
        f"<td class='n'>{latest[PSI].get(names[n], float('nan')):.3f}</td>"
        f"<td class='n'>{latest[JS].get(names[n], float('nan')):.3f}</td>"
        f"<td class='n'>{np.nanmax(values[n]):.3f}</td></tr>"
        for n in order
    )
    body = (
        f"<p><a href='index.html'>Data Docs</a></p><h1>Drift of {table}</h1>"
        f"<p>Population stability index of each day against the {dataset.quality.drift.days} days "
        f"before it; above {bound:g} is a warning. The {len(order)} features with the largest "
        f"index of {len(names)}.</p><img alt='stability index by day and feature' "
        f"src='data:image/png;base64,{image}' style='max-width: 100%'>"
        f"<table><tr><th>feature</th><th>index, {max(days)}</th><th>Jensen-Shannon distance</th>"
        f"<th>largest index</th></tr>{rows}</table>"
    )
    page = lake.table("data_docs") / f"drift_{table}.html"
    publish_text(lake, document("Drift", body), page)
    return str(page)


def _heat(names: list[str], days: list[dt.date], values: np.ndarray, bound: float) -> str:
    """A picture, features down and days across, as base64 of a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.5 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(
        values, aspect="auto", cmap="YlOrRd", vmin=0, vmax=2 * bound, interpolation="nearest"
    )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    step = max(1, len(days) // 12)
    axes.set_xticks(range(0, len(days), step), [str(day) for day in days[::step]], fontsize=8)
    axes.tick_params(axis="x", rotation=45)
    figure.colorbar(shown, ax=axes, label="stability index")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return base64.b64encode(file.getvalue()).decode()
