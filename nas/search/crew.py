"""A function in processes of its own: one, where it may hang, crash or exit; or several that train
the same weights together."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from nas.search.child import Child
from nas.train import Group, device_of

MOST_LOST = 3  # times that one of several processes may be lost


class Member(Protocol):
    """What each process does: it sends messages, knows its device and those it trains with."""

    def __call__(
        self, send: Callable[[Any], None], device: str, group: Group | None, *arguments: Any
    ) -> None: ...


class Ended:
    """The last message: the function has come to its end."""


def crew(
    function: Member,  # importable by name
    *arguments: Any,
    processes: int,
    device: str,
    limit_s: Callable[[], float] = lambda: float("inf"),
) -> Generator[Any]:
    """The messages of the first process, to its end; none of them may be longer under way than
    `limit_s` then says.

    Raises what any of them raises, Died where one ends before its time, Lost where another noticed.
    """
    with ExitStack() as stack:
        meeting = Path(stack.enter_context(TemporaryDirectory(prefix="nas-crew-"))) / "store"
        children = list[Child]()
        for rank in range(processes):
            words = function, arguments, rank, processes, meeting, device
            children.append(Child(_member, *words))
            stack.callback(children[-1].kill)
        while True:
            limit = limit_s()
            message = _heard(children, time.monotonic() + limit, f"{limit:.0f} s")
            if isinstance(message, Ended):
                return
            yield message


def _heard(children: Sequence[Child], until: float, limit: str) -> Any:
    """The first child's next message."""
    first, *others = children
    pairs = [(child, child.connection, child.process.sentinel) for child in others]
    voices: list[Any] = [first.connection, first.process.sentinel]
    voices += [voice for _, *both in pairs for voice in both]
    left = until - time.monotonic()
    ready = wait(voices, None if left == float("inf") else max(0.0, left))
    if first.connection not in ready:
        for child, connection, sentinel in pairs:
            if connection in ready or sentinel in ready:
                child.hear(time.monotonic())  # raises: before the end others say nothing else
    return first.hear(time.monotonic() if ready else until, limit)


def _member(
    connection: Connection[Any, Any],
    function: Member,
    arguments: Sequence[Any],
    rank: int,
    processes: int,
    meeting: Path,
    device: str,
) -> None:
    own, group = device_of(device, rank), None
    if processes > 1:
        group = Group(rank, processes, f"file://{meeting}", own)
    function(connection.send if rank == 0 else _silent, own, group, *arguments)
    if group:
        group.wait()
        group.leave()
    if rank == 0:
        connection.send(Ended())
    else:
        connection.recv()  # until it is ended


def _silent(message: Any) -> None:
    """Of all processes the first alone is heard."""
