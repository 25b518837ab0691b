"""What was told and what was not: `deliver` takes all that is wrong now, and tells the difference.

In:  everything that is wrong with a data set at this moment. Out: at most one message a receiver:
what is new, and what is well again. Each receiver has a memory of its own in the instance's
storage: one that does not answer is asked again, later and later, while the others go on, and is
then told all that has come together. A message is noted after it has arrived: a process that dies
in between sends it twice, never not at all.
"""

import copy
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import dagster as dg

from contracts.base.clock import now
from contracts.config.dataset import Dataset
from orchestration.alerts.alert import Alert
from orchestration.alerts.messages import message_of
from orchestration.alerts.receivers import Receiver, UnsentError, receivers_of

FIRST_WAIT, LONGEST_WAIT = 60.0, 3600.0  # seconds; twice as long after each failure
MOST = 500  # alerts that are kept of a source: what is beyond comes when some are gone

NEW, TOLD, GONE, PASSED = "new", "told", "gone", "passed"


@dataclass
class Noted:
    """An alert as a receiver knows it."""

    alert: Alert
    state: str  # NEW, TOLD, GONE (told, and well again), PASSED (well again before it was told)


@dataclass
class Memory:
    """What one receiver knows of one source."""

    noted: dict[str, Noted] = field(default_factory=dict)
    failures: int = 0  # in a row
    wait_until: float = 0.0
    said: str = ""  # of the last failure

    def update(self, alerts: Mapping[str, Alert], kinds: Sequence[str], at: float) -> None:
        """Notes what is new and what is gone."""
        for key, noted in list(self.noted.items()):
            if noted.alert.kind not in kinds:
                del self.noted[key]
            elif key in alerts:
                is_same = noted.alert.cause == alerts[key].cause
                # Here again before its recovery could be told: then it was never away.
                was_told = noted.state in (TOLD, GONE)
                noted.state = TOLD if was_told and is_same else NEW
                noted.alert = alerts[key]
            elif noted.alert.expires is not None and noted.alert.expires <= at:
                del self.noted[key]
            elif noted.state in (NEW, TOLD):
                noted.state = PASSED if noted.state == NEW else GONE
        for key, alert in alerts.items():
            if key not in self.noted and len(self.noted) < MOST:
                self.noted[key] = Noted(alert, NEW)

    def of_state(self, state: str) -> list[Alert]:
        """Alerts of one state, in the order in which they came."""
        return [noted.alert for noted in self.noted.values() if noted.state == state]

    def note_arrival(self) -> None:
        """All of it was told."""
        kept = {key: noted for key, noted in self.noted.items() if noted.state in (NEW, TOLD)}
        self.noted = {key: Noted(noted.alert, TOLD) for key, noted in kept.items()}
        self.failures, self.wait_until, self.said = 0, 0.0, ""

    def note_failure(self, failures: int, wait_until: float, said: str) -> None:
        """The message did not arrive."""
        self.failures, self.wait_until, self.said = failures, wait_until, said


def deliver(
    instance: dg.DagsterInstance,
    dataset: Dataset,
    found: Mapping[str, Sequence[Alert]],
    at: dt.datetime | None = None,
) -> str:
    """Tells what is new among all that is wrong, and what is well again.

    Args:
      instance: its storage keeps what was told.
      dataset: its YAML says which kinds are told.
      found: by source, everything that is wrong now by it. A source that could not be asked is
        left out: what it has told stays. No two sensors share a source.
      at: the present, if it is another.

    Returns:
      A sentence on what was told, and on receivers that do not answer.

    Raises:
      FootpathError: an address in the environment cannot be.
    """
    present = (at or now()).timestamp()
    kinds = dataset.automation.alerts.kinds
    receivers = receivers_of(dataset)
    said = []
    before = _read(instance, dataset, list(found))
    after: dict[str, dict[str, Memory]] = {source: {} for source in found}
    for receiver in receivers:
        memories = []
        for source, alerts in found.items():
            memory = copy.deepcopy(before[source].get(receiver.name, Memory()))
            shown = {alert.key: alert.shown() for alert in alerts if alert.kind in kinds}
            memory.update(shown, kinds, present)
            after[source][receiver.name] = memory
            memories.append(memory)
        said.append(_tell(receiver, dataset, memories, present))
    if after != before:
        _write(instance, dataset, after)
    return "; ".join(filter(None, said)) or "nothing new is wrong"


def failing(instance: dg.DagsterInstance, dataset: Dataset, sources: Sequence[str]) -> list[str]:
    """A sentence for each receiver that did not take the last message."""
    memories = _read(instance, dataset, sources).values()
    said = {name: m.said for known in memories for name, m in known.items() if m.failures}
    return [f"{name} {why}" for name, why in said.items()]


def _tell(receiver: Receiver, dataset: Dataset, memories: list[Memory], at: float) -> str:
    """Sends one receiver what it has to know; returns a sentence, empty if there is nothing."""
    by_state = {
        state: [alert for memory in memories for alert in memory.of_state(state)]
        for state in (NEW, PASSED, GONE)
    }
    if not any(by_state.values()):
        return ""
    count = sum(map(len, by_state.values()))
    wait_until = max(memory.wait_until for memory in memories)
    if at < wait_until:
        why = next((memory.said for memory in memories if memory.said), "")
        return f"{receiver.name} {why}; {count:,} alerts wait until {_clock(wait_until)}"
    title = dataset.title if dataset.title == dataset.name else f"{dataset.title} ({dataset.name})"
    try:
        receiver.send(message_of(title, by_state[NEW], by_state[PASSED], by_state[GONE]))
    except UnsentError as error:
        failures = max(memory.failures for memory in memories) + 1
        wait = min(FIRST_WAIT * 2 ** min(failures - 1, 20), LONGEST_WAIT)
        wait_until = at + max(wait, min(error.wait, LONGEST_WAIT))
        for memory in memories:
            memory.note_failure(failures, wait_until, str(error))
        return f"{receiver.name} {error}; {count:,} alerts wait until {_clock(wait_until)}"
    for memory in memories:
        memory.note_arrival()
    new = len(by_state[NEW]) + len(by_state[PASSED])
    return f"{receiver.name}: told {new:,} new, {len(by_state[GONE]):,} recovered"


def _clock(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%H:%M:%S} UTC"


def _keys(dataset: Dataset, sources: Iterable[str]) -> dict[str, str]:
    """Under which key of Dagster's storage each source's memories lie."""
    return {source: f"footpath/alerts/{dataset.name}/{source}" for source in sources}


def _read(
    instance: dg.DagsterInstance, dataset: Dataset, sources: Sequence[str]
) -> dict[str, dict[str, Memory]]:
    """What each receiver knows of each source."""
    keys = _keys(dataset, sources)
    stored = instance.daemon_cursor_storage.get_cursor_values(set(keys.values()))
    return {
        source: {
            name: Memory(
                {n["alert"]["key"]: Noted(Alert(**n["alert"]), n["state"]) for n in known["noted"]},
                known["failures"],
                known["wait_until"],
                known["said"],
            )
            for name, known in json.loads(stored.get(key, "{}")).items()
        }
        for source, key in keys.items()
    }


def _write(
    instance: dg.DagsterInstance, dataset: Dataset, after: Mapping[str, dict[str, Memory]]
) -> None:
    keys = _keys(dataset, after)
    instance.daemon_cursor_storage.set_cursor_values(
        {
            keys[source]: json.dumps(
                {
                    name: asdict(memory) | {"noted": [asdict(n) for n in memory.noted.values()]}
                    for name, memory in memories.items()
                }
            )
            for source, memories in after.items()
        }
    )
