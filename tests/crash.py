"""Processes that die at a chosen step, or at any moment, as if the power had gone.

A step is one change of what other processes can see: a rename into place, a removal, an object that
is sent to S3 or deleted there, a transaction of SQLite, users' hashes that are sent to Redis. The
real calls are counted and the process kills itself before one of them; nothing else is changed.
"""

import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

# Children start from a server that has imported everything and holds no thread.
_context = multiprocessing.get_context("forkserver")
_preloaded: list[str] = ["aiobotocore.client"]  # whose calls are counted

# What changes an object on S3.
S3_STEPS = ("PutObject", "CompleteMultipartUpload", "CopyObject", "DeleteObject", "DeleteObjects")


def preload(*modules: str) -> None:
    """Imports modules once, in the server that children are forked from."""
    _preloaded.extend(name for name in modules if name not in _preloaded)
    _context.set_forkserver_preload(list(_preloaded))


def start(target: Callable, *arguments: Any) -> Any:
    """Starts a child process in the environment of this one as it is now.

    A child has that of the server it is forked from, which may be of an earlier test.
    """
    child = _context.Process(target=_in_environment, args=(dict(os.environ), target, arguments))
    child.start()
    return child


def _in_environment(environment: dict[str, str], target: Callable, arguments: tuple) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


def dies_at(step: int, target: Callable, *arguments: Any) -> bool:
    """Runs target in a child that dies before the given step; False if it has fewer steps."""
    return _was_killed(start(_run, step, None, target, arguments))


def dies_after(seconds: float, target: Callable, *arguments: Any) -> bool:
    """Runs target in a child that is killed after so long; False if it has ended by then."""
    child = start(target, *arguments)
    child.join(seconds)
    child.kill()
    return _was_killed(child)


def steps_of(target: Callable, *arguments: Any) -> int:
    """Runs target in a child and returns how many steps it has."""
    steps = _context.Value("i", 0)
    assert not _was_killed(start(_run, -1, steps, target, arguments))
    return steps.value


def kill_until_done(
    dice: random.Random,
    seconds: float,
    steps: int,
    after: Callable[[], object],
    target: Callable,
    *arguments: Any,
) -> tuple[int, int]:
    """Runs target again and again until it is let through, at the latest the fifth time.

    Args:
      dice: say when it is killed: at a step, or at a moment.
      seconds: that it takes.
      steps: that it has.
      after: called after every kill.
      target: what is run.
      arguments: of it.

    Returns:
      How often it was killed, and how often it was to be.
    """
    kills = runs = 0
    for kind in itertools.islice(itertools.cycle(("time", "step")), dice.randint(0, 1), 4):
        runs += 1
        if kind == "time":
            died = dies_after(dice.uniform(0, seconds), target, *arguments)
        else:
            died = dies_at(dice.randrange(steps), target, *arguments)
        kills += died
        after()
        if not died or dice.random() < 0.6:
            break
    steps_of(target, *arguments)
    return kills, runs


def numbers(count: int) -> Any:
    """Numbers that this process shares with its children; all 0."""
    return _context.Array("q", count)


def _was_killed(child: Any) -> bool:
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def _run(step: int, told: Any, target: Callable, arguments: tuple) -> None:
    import aiobotocore.client

    steps = 0
    lock = threading.Lock()

    def count() -> None:
        nonlocal steps
        with lock:
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1

    def counted(call: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            count()
            return call(*args, **kwargs)

        return run

    request = aiobotocore.client.AioBaseClient._make_api_call

    async def requested(self: Any, operation: str, parameters: dict) -> Any:
        if operation in S3_STEPS:
            count()
        return await request(self, operation, parameters)

    class Connection(sqlite3.Connection):
        def __exit__(self, *error: Any) -> Any:
            count()
            return super().__exit__(*error)

    sqlite3.connect = partial(sqlite3.connect, factory=Connection)
    if "redis" in sys.modules:
        from redis.connection import AbstractConnection

        send = AbstractConnection.send_packed_command

        def sent(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
            if any(b"HSET" in bytes(memoryview(part)[:40]) for part in command):
                count()
            return send(self, command, *args, **kwargs)

        AbstractConnection.send_packed_command = sent
    os.replace = counted(os.replace)
    os.unlink = counted(os.unlink)
    aiobotocore.client.AioBaseClient._make_api_call = requested
    target(*arguments)
    if told is not None:
        told.value = steps
