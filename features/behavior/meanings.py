"""What each feature means, as a hash that a published day keeps of every column.

In:  a data set's YAML. Out: column -> hash of its definition: what is computed, of which actions
and categories, over which windows and with which parameters, defaults filled in. Neither a
description, nor the order of the YAML, nor where a category stands in its list is part of it.

A hash must not move with the code, for every published day would be built again: a term's
definition (`terms.py`) changes only with its values.
"""

from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from features.behavior.measures import action_of, category_place, stem_of
from features.behavior.tables import BEHAVIOR, FeatureTable
from features.behavior.terms import TOTAL, Definition


def feature_meanings(dataset: Dataset, table: FeatureTable = BEHAVIOR) -> dict[str, str]:
    """Hash of what each feature of a table means, by column."""
    categories = dataset.features.categories
    return {
        field.name: hash_json(_with_categories(field.term.definition, categories))
        for field in table.fields(dataset)
    }


def _with_categories(definition: Definition, categories: list[str]) -> list:
    """A definition that names categories, where measures know them by their place in the list."""
    kind, *of = definition
    if kind == TOTAL and stem_of(of[0]) == "category":
        measure, days = of
        return [kind, "category", categories[category_place(measure)], action_of(measure), days]
    return [
        _with_categories(part, categories) if isinstance(part, tuple) else part
        for part in definition
    ]
