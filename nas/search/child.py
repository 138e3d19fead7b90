"""A process of its own for what may hang, crash or exit: training alone, and code of the user's."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from types import ModuleType
from typing import Any

import torch

START_S = 300.0  # the longest a process may take to begin


@cache
def _context() -> ForkServerContext:
    """Children of a clean process that has imported all there is."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        [
            "nas.search.train_supernet",
            "sklearn.datasets",
            "sklearn.metrics",
            "torch._meta_registrations",
        ]
    )
    return context


class Died(RuntimeError):
    """A child that ended, or took too long; the message says which and why."""


class Child:
    """A process that runs `function(connection, *arguments)` on one thread, and a pipe to it.

    It ends with this process, and hears no interrupt of the terminal: who started it ends it.
    """

    def __init__(self, function: Callable[..., None], *arguments: Any):
        self.connection, theirs = _context().Pipe()
        self.process = _context().Process(
            target=_run, args=(theirs, os.getcwd(), function, arguments), daemon=True
        )
        with _nameless_main():
            self.process.start()
        theirs.close()

    def send(self, message: Any) -> None:
        """Send what can be pickled; a child that has died is noticed by `hear`."""
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(message)

    def hear(self, until: float, limit: str = "the time it may take") -> Any:
        """The child's next message, by `time.monotonic() == until`; what it raised is raised here.

        Raises Died where it ended instead, or said nothing in time: it is killed then.
        """
        wait([self.connection, self.process.sentinel], max(0.0, until - time.monotonic()))
        try:
            if not self.connection.poll():
                ended = not self.process.is_alive()
                raise EOFError if ended else Died(f"it took more than {limit}")
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise Died(_why(self.process.exitcode)) from None
        except Died:
            self.kill()
            raise
        if isinstance(message, BaseException):
            self.kill()
            raise message
        return message

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _why(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Without a main module to import anew: a user's script would search again in the child."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _run(
    connection: Connection[Any, Any],
    where: str,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):
        os.chdir(where)
    try:
        function(connection, *arguments)
    except (Exception, SystemExit) as error:
        connection.send(_sendable(error))


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
    os._exit(1)


def _sendable(error: BaseException) -> BaseException:
    """An error as it is where it survives being pickled, its words otherwise."""
    try:
        known = isinstance(error, Exception)
        return pickle.loads(pickle.dumps(error)) if known else Died(f"it raised {error!r}")
    except Exception:
        return Died(f"{type(error).__name__}: {error}")
