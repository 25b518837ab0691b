"""A user's own file -> the draft of a data set's YAML, every guess with its reason.

In:  one event file, wherever it lies. Out: text that `load_dataset_file` takes, with a line that
begins with `# TODO` above everything that a person has to look at; `datasets check` lists them.
What the rows hold and no line reads is named in a comment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from contracts.base.errors import FootpathError
from contracts.lake.engine import connect
from features.drafts.guessing.guess import guess
from features.drafts.guessing.rows import Guess, Rows
from features.drafts.neighbors import Neighbors, neighbors_of
from features.drafts.properties import Properties, properties_of
from features.drafts.source.paths import Address, address_of
from features.drafts.source.sampling import Sample, find_file, take_sample
from features.drafts.tasks import task_lines
from features.drafts.yaml_lines import TODO, WIDTH, scalar, table_lines, wrapped

FIELDS = ("event_id", "user_id", "timestamp", "action", "item_id", "value", "session_id")

_REST = [
    "",
    "# Next, if you have them: `items:` and `users:` (files of their own, or these ones),",
    "# `features.categories`, and more `tasks:` to predict. docs/your-data.md shows each.",
]


@dataclass(frozen=True)
class Draft:
    """A drafted YAML, and where its files were found."""

    text: str
    folder: str  # what --data takes
    rows: int  # that were looked at


def name_for(address: str) -> str:
    """A data set's name made from that of a file, or of the folder if that has no word."""
    parts = [part.split(".")[0].lower() for part in address.split("/")]
    word = next((part for part in reversed(parts) if re.search("[a-z]{2}", part)), "data")
    tidy = re.sub(r"[^a-z0-9]+", "-", word).strip("-")[:40].rstrip("-")
    return tidy if tidy[0].isalpha() else f"data-{tidy}"[:40]


def draft(address: str, name: str) -> Draft:
    """Drafts the YAML of a data set from the beginning of one of its files.

    Args:
      address: path or URL of a file; an archive means its first member.
      name: of the data set.

    Raises:
      FootpathError: the file is not there, is empty, or is no table of events.
    """
    file = find_file(address)
    with connect() as connection:
        sample = take_sample(connection, file)
        guesses = guess(connection, sample)
        _refuse_a_table(sample, guesses)
        where = address_of(file, guesses.span)
        properties = properties_of(guesses)
        beside = neighbors_of(connection, sample, guesses, where)
        tasks = list(task_lines(guesses, where))
    drafted = _Drafted(name, sample, guesses, where, properties, beside, tasks)
    return Draft("\n".join(drafted.lines()) + "\n", where.folder, sample.rows)


def _refuse_a_table(sample: Sample, guesses: Rows) -> None:
    if guesses.table_of and guesses.key:
        one = guesses.table_of.removesuffix("s")
        raise FootpathError(
            f"{sample.file.path} looks like a table of {guesses.table_of}, a row for each {one} "
            f"({guesses.key.leaf.label} is in all {sample.rows:,} rows and never twice, and no "
            f"column is an action): give init a file of events; it drafts `{guesses.table_of}:` "
            "from this one if it lies beside"
        )


@dataclass(frozen=True)
class _Drafted:
    """The YAML as lines, section by section."""

    name: str
    sample: Sample
    guesses: Rows
    where: Address
    properties: Properties
    beside: Neighbors
    tasks: list[str]

    def lines(self) -> list[str]:
        """All lines."""
        return [
            *self._head(),
            *self._partitions(),
            "",
            "landing:",
            *self._files(),
            *table_lines(self.sample.table, self._columns(), self._nulls(), "  "),
            *self._not_read(),
            "",
            "events:",
            *self._events(),
            *self._actions(),
            *self.tasks,
            *self.beside.lines,
            *([] if self.beside.lines else _REST),
        ]

    def _head(self) -> Iterator[str]:
        rows = f"{self.sample.rows:,} rows"
        whole = f"all {rows}" if self.sample.is_whole else f"the first {rows}"
        seen = PurePosixPath(self.sample.file.path).name
        yield f"# Drafted by `footpath datasets init` from {whole} of {seen}."
        yield "# Look at each guess; delete its TODO line when it is right."
        yield f"name: {self.name}"
        yield f"title: {scalar(self.name.replace('-', ' ').capitalize())}"
        yield f"{TODO} a day is a local day of this zone: name the one that your business lives in."
        yield "timezone: UTC"

    def _partitions(self) -> Iterator[str]:
        span = self.guesses.span
        first, last = (span.first.date(), span.last.date()) if span else ("2000-01-01",) * 2
        is_all = self.sample.is_whole and self.where.found <= 1 and not self.where.is_dated
        yield "partitions:"
        if not is_all:
            yield f"  {TODO} the sample begins on {first}: if other rows are older, say so here."
        yield f"  start: {first}"
        if self.where.is_dated:
            yield "  # No end: the source goes on. A source that has ended says `end: DAY`."
            return
        if not is_all:
            yield f"  {TODO} the sample ends on {last}; uncomment with the last day of all."
        yield f"  {'' if is_all else '# '}end: {last}"

    def _files(self) -> Iterator[str]:
        if self.where.found > 1:
            yield f"  # It finds {self.where.found:,} files; the sample is of one of them."
        if self.beside.doubt:
            yield f"  {TODO} {self.beside.doubt}"
        if self.beside.note:
            yield f"  # {self.beside.note}"
        yield f"  url: {scalar(self.where.url)}"
        for doubt in self.sample.doubts:
            yield f"  {TODO} {doubt}"

    def _columns(self) -> dict[str, str]:
        """The columns that some line reads; all of them where they go by their place."""
        read = {leaf.column for guess in self.guesses.fields.values() for leaf in guess.leaves}
        read |= {leaf.column for leaf in self.properties.kept.values()}
        if self.guesses.explode:
            read.add(self.guesses.explode.column)
        table = self.sample.table
        by_place = table.format == "csv" and not table.csv.header
        kinds = table.columns | self.guesses.declared
        kept = {c: kind for c, kind in kinds.items() if by_place or c in read}
        return kept or dict(list(kinds.items())[:1])

    def _nulls(self) -> list[str]:
        """Words for none in the columns that are read."""
        words: dict[str, int] = {}
        columns = self._columns()
        for profile in self.guesses.profiles:
            if profile.leaf.is_plain and profile.leaf.column in columns:
                for word, count in profile.null_words.items():
                    words[word] = words.get(word, 0) + count
        return sorted(words, key=lambda word: -words[word])

    def _not_read(self) -> Iterator[str]:
        """Names what the rows hold and no line reads."""
        said = [f"{name or 'a column'} {why}" for name, why in self.sample.left_out.items()]
        if said:
            yield f"  {TODO} not read: {'; '.join(said)}. Rename what you need in the files."
        left = self.properties.left
        for why in dict.fromkeys(left.values()):
            labels = [label for label, each in left.items() if each == why]
            yield from wrapped(f"  # Not read{f', {why}' if why else ''}: ", labels)
        if self.sample.many:
            yield from wrapped("  # Not looked at, one of many: ", self.sample.many)

    def _events(self) -> Iterator[str]:
        if explode := self.guesses.explode:
            yield f"  # {self.guesses.explode_why}."
            yield f"  {TODO} a row becomes an event for each element of {explode.label}: right?"
            yield f"  explode: {scalar(explode.sql)}"
        for field in FIELDS:
            yield from _field_lines(field, self.guesses.fields.get(field))
        if self.properties.kept:
            yield "  # What else the rows say. Leave out what no one will ask for."
            yield "  properties:"
            for key, sql in self.properties.sql.items():
                yield f"    {key}: {scalar(sql)}"

    def _actions(self) -> Iterator[str]:
        actions = self.guesses.actions
        if self.guesses.fields["action"].leaves:
            yield f"{TODO} these are in the sample: add those that are not. Others are refused."
        text = ", ".join(map(scalar, actions))
        if len(text) + 11 <= WIDTH:
            yield f"actions: [{text}]"
            return
        yield "actions:"
        yield from (f"  - {scalar(action)}" for action in actions)


def _field_lines(field: str, found: Guess | None) -> Iterator[str]:
    if found is None:
        if field == "event_id":
            yield "  # event_id: no column is there once a row: content is the identity."
        if field == "item_id":
            yield "  # item_id: no column looks like one."
        return
    yield f"  # {found.why}."
    if found.doubt:
        yield f"  {TODO} {found.doubt}{'' if found.doubt.endswith('?') else '.'}"
    yield f"  {field}: {scalar(found.sql)}"
