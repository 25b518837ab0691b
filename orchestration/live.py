"""Curves of a training run in Dagster while it runs: an observation of the asset every epoch.

Dagster keeps what a program says through Pipes until the program ends; its log lines alone come at
once. The reader here listens on the way.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster import PipesTempFileMessageReader
from dagster._core.pipes.context import PipesMessageHandler

EVERY = 5.0  # seconds between observations, at least: epochs may be shorter


class LiveMessages(PipesTempFileMessageReader):
    """Reads as Dagster does, and records the figures of an epoch as they come."""

    def __init__(self, context: dg.AssetExecutionContext, partition: str | None) -> None:
        super().__init__()
        self._context, self._partition = context, partition
        self._last = -EVERY

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[Any]:
        """Reads messages; each goes to Dagster's own handler as well."""
        with super().read_messages(_Listening(handler, self._observe)) as params:  # type: ignore[arg-type]
            yield params

    def _observe(self, message: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._last < EVERY and message["epoch"] < message["epochs"]:
            return
        self._last = now
        self._context.log_event(
            dg.AssetObservation(
                self._context.asset_key,
                partition=self._partition,
                metadata={key: value for key, value in message.items() if key != "event"},
            )
        )


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
