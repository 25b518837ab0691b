"""One data set of the service: its open services, indexes and models, kept up in the background.

A request takes what is open at its moment. `refresh` opens anew what was applied or published
since, so that a promotion is seen without a restart; a request never waits for that.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset, load_dataset
from contracts.lake.layout import Lake
from contracts.lake.reading import stamps
from contracts.lake.versions import version_named
from contracts.recipes.checkpoint import CheckpointFacts, TaskFacts, load_facts
from features.store.serving.opened import OpenedServices, moment, open_services
from features.store.serving.read_counts import ReadCounter
from features.store.similar import SimilarIndex, open_index
from features.store.similar.files import pointer_path
from orchestration.http.answers import Refusal
from orchestration.http.encoders import OpenEncoder
from orchestration.http.tokens import Caller

LOG = logging.getLogger("footpath.serve")
MAX_NAMES = 20  # in a sentence


class Kept:
    """Things that take long to open, by name: each is opened once, and again when it has changed.

    Args:
      opened: opens one.
      stamp: what changes when the thing of a name does.
    """

    def __init__(self, opened: Callable[[str], Any], stamp: Callable[[str], object]) -> None:
        self._open, self._stamp, self._lock = opened, stamp, threading.Lock()
        self._things: dict[str, tuple[object, Any]] = {}

    def get(self, name: str) -> Any:
        """The thing of a name; opens it, and lets others wait for it, if nobody has."""
        if name not in self._things:
            with self._lock:
                if name not in self._things:
                    self._things[name] = self._stamp(name), self._open(name)
        return self._things[name][1]

    def refresh(self) -> None:
        """Opens anew what has changed; what cannot be opened any more is let go."""
        for name, (before, _) in list(self._things.items()):
            stamp = self._stamp(name)
            if stamp != before:
                try:
                    self._things[name] = stamp, self._open(name)
                except FootpathError:
                    del self._things[name]


class ServedDataset:
    """What is open of one data set.

    Args:
      name: of the data set.
    """

    def __init__(self, name: str) -> None:
        self.name, self.lake = name, Lake.of(name)
        self.dataset: Dataset = load_dataset(name)
        self.fault = f"{name} is not opened yet"
        self.reads = ReadCounter(self.lake)
        self._opened: OpenedServices | None = None
        self._moment: tuple = ()
        self._indexes = Kept(self._open_index, self._index_stamp)
        self._encoders = Kept(self._open_encoder, self._encoder_stamp)
        self._facts = Kept(self._open_facts, lambda _: None)

    @property
    def is_open(self) -> bool:
        """Whether its services could be opened."""
        return self._opened is not None

    @property
    def opened(self) -> OpenedServices:
        """The services as of the last refresh.

        Raises:
          Refusal: none could be opened so far.
        """
        if self._opened is None:
            raise Refusal(503, f"{self.fault}: try again")
        return self._opened

    def refresh(self) -> None:
        """Opens what has changed. What is open stays where that fails, and `fault` says so."""
        try:
            found, fault = moment(self.lake), ""
            if found != self._moment:
                opened = open_services(self.lake)
                if opened.missing:  # they are being applied: look again
                    fault = f"{', '.join(opened.missing)} of {self.name} are not in the registry"
                else:
                    self._moment = found
                if self._opened is None or not opened.missing:
                    self._opened = opened
            for kept in (self._indexes, self._encoders):
                kept.refresh()
            self.fault = fault
        except Exception as error:
            fault = f"the feature store of {self.name} cannot be opened ({type(error).__name__})"
            if fault != self.fault:
                LOG.exception("%s", fault)
            self.fault = fault

    def flush(self) -> None:
        """Writes the counts of reads."""
        try:
            self.reads.flush()
        except Exception:
            LOG.exception("the reads of %s could not be written; they are tried again", self.name)

    def service(self, caller: Caller, name: str) -> str:
        """A service that the caller may read.

        Raises:
          Refusal: they may not, or there is none.
        """
        self.check(caller, name)
        if name not in self.opened.services.services:
            mine = [n for n in sorted(self.opened.services.services) if caller.may(self.name, n)]
            known = ", ".join(mine[:MAX_NAMES]) or "none"
            raise Refusal(404, f"{self.name} has no service '{name}': there are {known}")
        return name

    def check(self, caller: Caller, name: str) -> None:
        """Refuses who may not read a service."""
        if not caller.may(self.name, name):
            raise Refusal(403, f"this token does not give {self.name}/{name}")

    def behind(self, caller: Caller, alias: str) -> tuple[str, str]:
        """Service and model version that an alias leads to.

        Raises:
          Refusal: it leads nowhere, to no model, or to what the caller may not read.
        """
        known = self.opened.services
        if alias not in known.aliases:
            aliases = ", ".join(sorted(known.aliases)) or "none"
            raise Refusal(404, f"{self.name} has no alias '{alias}': there are {aliases}")
        name = self.service(caller, known.aliases[alias])
        version = known.services[name].tags.get("model_version")
        if version is None:
            raise Refusal(404, f"{name} gives no model's vectors")
        return name, version

    def giving(self, caller: Caller, version: str) -> str:
        """The newest service that gives a model version's vectors, of those the caller may read.

        Raises:
          Refusal: there is none.
        """
        services = self.opened.services.services  # the newest first
        for name, service in services.items():
            if service.tags.get("model_version") == version and caller.may(self.name, name):
                return name
        raise Refusal(404, f"no service of {self.name} that you may read is of '{version}'")

    def index(self, version: str) -> SimilarIndex:
        """The open index of a model version."""
        return self._got(self._indexes, version, f"{version} has no index of similar users")

    def encoder(self, version: str) -> OpenEncoder:
        """The model of a version, ready to encode."""
        return self._got(self._encoders, version, f"the model {version} cannot be loaded")

    def task(self, version: str) -> TaskFacts:
        """What a fine-tuned model predicts.

        Raises:
          Refusal: it is not there, or predicts nothing.
        """
        facts: CheckpointFacts = self._got(self._facts, version, f"the model {version} is gone")
        if facts.task is None:
            raise Refusal(404, f"{version} predicts nothing")
        return facts.task

    def _got(self, kept: Kept, name: str, fault: str) -> Any:
        try:
            return kept.get(name)
        except FootpathError as error:
            LOG.warning("%s: %s", fault, error)  # it names files of this machine
            raise Refusal(503, fault) from None

    def _open_index(self, version: str) -> SimilarIndex:
        return open_index(self.lake, version)

    def _index_stamp(self, version: str) -> object:
        pointer = pointer_path(self.lake, version)
        return stamps(pointer.parent, pointer.name)

    def _open_encoder(self, version: str) -> OpenEncoder:
        return OpenEncoder.open(self.dataset, self.lake, version)

    def _open_facts(self, version: str) -> CheckpointFacts:
        return load_facts(version_named(self.lake, version).folder(self.lake))

    def _encoder_stamp(self, _: str) -> object:
        return stamps(self.lake.root, "items.parquet")
