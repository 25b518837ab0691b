"""Curves of a training run in Dagster while it runs: an observation of the asset every epoch.

Dagster keeps what a program says through Pipes until the program ends; its log lines alone come at
once. The reader here listens on the way. It takes whole lines only: Dagster's own takes what stands
in the file, and ends for good at a line that is half written.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import dagster as dg
from dagster import PipesFileMessageReader, PipesMessageHandler, PipesTempFileMessageReader

EVERY = 5.0  # seconds between observations, at least: epochs may be shorter
NAP = 0.02  # seconds until a file is looked at again


class LiveMessages(PipesTempFileMessageReader):
    """Reads as Dagster does, and records the figures of an epoch as they come."""

    def __init__(self, context: dg.AssetExecutionContext, partition: str | None) -> None:
        super().__init__()
        self._context, self._partition = context, partition
        self._last = -EVERY

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[Any]:
        """Reads messages; each goes to Dagster's own handler as well."""
        listening: Any = _Listening(handler, self._observe)
        with tempfile.TemporaryDirectory() as folder:
            reader = WholeLines(str(Path(folder) / "messages"))
            with reader.read_messages(listening) as params:
                yield params

    def _observe(self, message: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._last < EVERY and message["epoch"] < message["epochs"]:
            return
        self._last = now
        if len(keys := self._context.selected_asset_keys) != 1:
            return  # a training for several assets at once is of none of them
        self._context.log_event(
            dg.AssetObservation(
                *keys,
                partition=self._partition,
                metadata={key: value for key, value in message.items() if key != "event"},
            )
        )


class WholeLines(PipesFileMessageReader):
    """Reads a file of messages as Dagster does, but no message before its line has ended."""

    def _reader_thread(self, handler: PipesMessageHandler, is_resource_complete: Event) -> None:
        try:
            for line in whole_lines(self._path, is_resource_complete.is_set):
                handler.handle_message(json.loads(line))
        except BaseException:
            handler.report_pipes_framework_exception(type(self).__name__, sys.exc_info())
            raise


def whole_lines(path: str, has_ended: Callable[[], bool]) -> Iterator[bytes]:
    """Yields the lines of a file that is being written, until nobody writes it any more.

    What a writer that was killed has left half written is no line.
    """
    with open(path, "rb") as file:
        line = b""
        while True:
            is_last = has_ended()  # asked first: all that was written until then is still read
            line += file.readline()
            if line.endswith(b"\n"):
                yield line
                line = b""
            elif is_last:
                return
            else:
                time.sleep(NAP)


class _Listening:
    """Stands before Dagster's handler."""

    def __init__(self, handler: PipesMessageHandler, observe: Any) -> None:
        self._handler, self._observe = handler, observe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    def handle_message(self, message: Any) -> None:
        self._handler.handle_message(message)
        if message["method"] == "report_custom_message":
            payload = message["params"]["payload"]
            if isinstance(payload, dict) and payload.get("event") == "epoch":
                self._observe(payload)
