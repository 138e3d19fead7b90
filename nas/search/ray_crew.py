"""The same as `crew`, in actors on Ray: a function in several processes that train together."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from nas.search.crew import Ended, Member
from nas.search.ray import START_S, connected, own_device, settle, why
from nas.train import Group, Lost


class MemberActor:
    """One of the processes."""

    def address(self) -> str:
        """Where the others find this one."""
        host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"tcp://{host}:{probe.getsockname()[1]}"

    def run(
        self,
        function: Member,
        arguments: tuple[Any, ...],
        rank: int,
        processes: int,
        address: str,
        device: str,
        where: str,
    ) -> Iterator[Any]:
        """What the function sends, as it is sent, and at the end `Ended`."""
        settle(where)
        sent = queue.SimpleQueue[Any]()

        def work() -> None:
            try:
                group = Group(rank, processes, address, device)
                function(sent.put if rank == 0 else lambda message: None, device, group, *arguments)
                group.wait()
                group.leave()
                sent.put(Ended())
            except BaseException as error:
                sent.put(error)

        threading.Thread(target=work, daemon=True).start()
        while True:
            message = sent.get()
            if isinstance(message, BaseException):
                raise message
            yield message
            if isinstance(message, Ended):
                return


def crew_on_ray(
    function: Member,
    *arguments: Any,
    on: str,
    processes: int,
    device: str,
    limit_s: Callable[[], float] = lambda: float("inf"),
) -> Generator[Any]:
    """The messages of the first process, to its end. What is named in the arguments lies where all
    machines see it under one path. Raises what any of them raises, and Lost where one is lost, or
    says nothing for longer than `limit_s` then says."""
    gpus, own = own_device(device)
    with connected(on, processes):
        remote = ray.remote(MemberActor).options(
            num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0
        )
        actors: list[Any] = [remote.remote() for _ in range(processes)]
        try:
            address = ray.get(actors[0].address.remote(), timeout=START_S)
            streams = [
                actor.run.options(num_returns="streaming").remote(
                    function, arguments, rank, processes, address, own, os.getcwd()
                )
                for rank, actor in enumerate(actors)
            ]
            yield from _heard(streams, limit_s)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise Lost(why(error)) from None
        finally:
            for actor in actors:
                ray.kill(actor)


def _heard(streams: list[Any], limit_s: Callable[[], float]) -> Iterator[Any]:
    """The first stream's messages; the others say nothing but what they raise."""
    first, until = streams[0], time.monotonic() + limit_s()
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise Lost("a process said nothing in the time it may take")
        ready, _ = ray.wait(streams, timeout=min(left, 60.0))
        if first in ready:
            message = ray.get(next(first))
            if isinstance(message, Ended):
                return
            yield message
            until = time.monotonic() + limit_s()
            continue
        for stream in ready:
            message = ray.get(next(stream))  # type: ignore[arg-type]
            if isinstance(message, Ended):
                streams.remove(stream)
