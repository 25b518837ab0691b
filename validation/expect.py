"""`quality.expect` of the YAML -> audited columns, and the rules over them.

In:  what is expected of a column, of all events or of those of some actions. Out: SQL of an audited
column that holds nothing where nothing is expected, so that the plain rules of validation/rules.py
judge it, in DuckDB and in Great Expectations alike.
"""

from dataclasses import replace

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.policy import Expect
from validation.rules import (
    Rule,
    at_least,
    at_most,
    literal,
    matches,
    number,
    one_of,
    present,
)


def expected(dataset: Dataset) -> tuple[dict[str, str], list[Rule]]:
    """Returns the audited columns (name -> SQL) and the rules that `quality.expect` asks for.

    Raises:
      FootpathError: an entry names an action or a property that the data set does not have.
    """
    columns: dict[str, str] = {}
    rules: list[Rule] = []
    for entry in dataset.quality.expect:
        _check(dataset, entry)
        column, made = _compile(entry)
        columns |= column
        rules += made
    return columns, rules


def _check(dataset: Dataset, entry: Expect) -> None:
    where = f"data set '{dataset.name}': quality.expect of {entry.column}"
    if unknown := set(entry.actions) - set(dataset.actions):
        raise FootpathError(f"{where} names actions that there are not: {sorted(unknown)}")
    _, _, key = entry.column.partition(".")
    if key and key not in dataset.events.properties:
        known = ", ".join(dataset.events.properties) or "none"
        raise FootpathError(f"{where}: events.properties has no '{key}', it has {known}")


def _compile(entry: Expect) -> tuple[dict[str, str], list[Rule]]:
    """Returns the audited columns and rules of one entry."""
    source = _source(entry.column)
    of_actions = f"_of_{'_'.join(entry.actions)}" if entry.actions else ""
    name = f"{entry.column.replace('.', '_')}{of_actions}"
    told = f"{entry.column}{' of ' + ' or '.join(entry.actions) if entry.actions else ''}"
    applies = f"action IN ({', '.join(map(literal, entry.actions))})" if entry.actions else "true"
    columns = {name: f"CASE WHEN {applies} THEN {source} END"}
    rules: list[Rule] = []
    if entry.required:
        # `present` is broken by nulls: where nothing is required, something must stand.
        columns[f"{name}_or_none"] = f"CASE WHEN {applies} THEN ({source})::VARCHAR ELSE '' END"
        rule = present(f"{name}_or_none")
        rules.append(replace(rule, name=f"{name}_required", sentence=f"{told} must be there"))
    if entry.one_of:
        rules.append(one_of(name, entry.one_of))
    if entry.matches:
        rules.append(matches(name, entry.matches))
    if entry.min is not None:
        rules.append(at_least(name, entry.min))
    if entry.max is not None:
        rules.append(at_most(name, entry.max))
    suffix = "_expected" if not of_actions else ""
    return columns, [
        replace(
            rule,
            # The plain rules of the same column keep their names.
            name=rule.name if rule.name.endswith("_required") else f"{rule.name}{suffix}",
            sentence=rule.sentence.replace(name, told, 1),
        )
        for rule in rules
    ]


def _source(column: str) -> str:
    if column == "value":
        return number("value")
    _, _, key = column.partition(".")
    return f"properties[{literal(key)}]" if key else column
