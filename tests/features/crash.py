"""Processes that die at a chosen step, as if the power had gone.

A step is one change of what other processes can see: a rename into place, or a removal. The real
system calls are counted and the process kills itself before one of them; nothing else is changed.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

# Children start from a server that has imported everything and holds no thread.
_context = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Imports modules once, in the server that children are forked from."""
    _context.set_forkserver_preload(list(modules))


def start(target: Callable, *arguments: Any) -> Any:
    """Starts a child process."""
    child = _context.Process(target=target, args=arguments)
    child.start()
    return child


def dies_at(step: int, target: Callable, *arguments: Any) -> bool:
    """Runs target in a child that dies before the given step; False if it has fewer steps."""
    child = start(_run, step, target, arguments)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def _run(step: int, target: Callable, arguments: tuple) -> None:
    steps = 0
    lock = threading.Lock()

    def counted(call: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            with lock:
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1
                return call(*args, **kwargs)

        return run

    os.replace = counted(os.replace)
    os.unlink = counted(os.unlink)
    target(*arguments)
