"""Several processes that train the same weights: each computes the gradients of some turns, and all
move the weights by the sum.

What is added up stands in one buffer, so that a step is one message: gradients, which of them
there are, losses, and whether somebody failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from nas.lazy import dist, torch
from nas.train.turns import StepLosses, Turn
from nas.train.update import Lease

LIMIT = timedelta(hours=12)  # without a word: one may look at validation; who is lost is noticed
LOOPBACK = "127.0.0.1"


class Lost(RuntimeError):
    """Another process is not there any more."""


class Group:
    """This process among those that train together.

    address: where they find each other, as file:///new/path or tcp://host:port. Raises Lost where
    another one is.
    """

    def __init__(self, rank: int, world: int, address: str, device: str):
        self.rank, self.world, self.device = rank, world, torch.device(device)
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        if address.startswith("file:") or LOOPBACK in address:  # nothing listens to others
            loopback = "lo0" if sys.platform == "darwin" else "lo"
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
        with _met():
            dist.init_process_group(
                backend, init_method=address, rank=rank, world_size=world, timeout=LIMIT
            )

    def add_up(
        self,
        lease: Lease,
        turns: Sequence[Turn],
        losses: list[StepLosses | None],
        tasks: Sequence[str],
        fault: str,
    ) -> str:
        """Sum the gradients of all processes into the lease, and fill in the losses of the turns
        that others had; what failed in any of them, "" where nothing did."""
        grads = [leaf.grad for leaf in lease.leaves]
        there = torch.tensor([grad is not None for grad in grads], dtype=torch.float32)
        parts = [
            torch.zeros_like(leaf) if grad is None else grad
            for leaf, grad in zip(lease.leaves, grads, strict=True)
        ]
        places = _places(turns, tasks)
        own = dict(enumerate(losses))
        known = torch.tensor(
            [loss.by_derivation[n][task] if (loss := own.get(i)) else 0.0 for i, n, task in places]
        )
        failed = torch.tensor([float(bool(fault))])
        facts = torch.cat([there, known, failed]).to(self.device)
        whole = torch.cat([*(part.flatten() for part in parts), facts])
        with _met():
            dist.all_reduce(whole)
        summed, facts = whole[: -len(facts)], whole[-len(facts) :].cpu()
        for leaf, present, grad in zip(
            lease.leaves, facts, summed.split([leaf.numel() for leaf in lease.leaves]), strict=False
        ):
            leaf.grad = grad.view_as(leaf) if present else None
        losses[:] = _read(turns, places, facts[len(there) : -1].tolist())
        return self._faults(fault) if facts[-1] else ""

    def _faults(self, fault: str) -> str:
        every: list[str] = [""] * self.world
        with _met():
            dist.all_gather_object(every, fault)
        return next(filter(None, every), "")

    def agreed(self, value: float | None) -> float | None:
        """What the first process says, in all of them."""
        sent = torch.tensor([-1.0 if value is None else value], dtype=torch.float64)
        sent = sent.to(self.device)
        with _met():
            dist.broadcast(sent, 0)
        return None if sent.item() < 0 else float(sent.item())

    def wait(self) -> None:
        """Go on when all are here."""
        with _met():
            dist.barrier()

    def leave(self) -> None:
        dist.destroy_process_group()


@contextmanager
def _met() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Lost(f"another process is lost: {str(error).splitlines()[0]}") from None


def _places(turns: Sequence[Turn], tasks: Sequence[str]) -> list[tuple[int, int, str]]:
    """(turn, derivation, task) of every loss of a step, in order."""
    return [
        (i, number, task)
        for i, turn in enumerate(turns)
        for number in range(len(turn.derivations))
        for task in tasks
        if turn.trains(number, task)
    ]


def _read(
    turns: Sequence[Turn], places: Sequence[tuple[int, int, str]], values: Sequence[float]
) -> list[StepLosses]:
    by_turn: list[list[dict[str, float]]] = [[{} for _ in turn.derivations] for turn in turns]
    for (i, number, task), value in zip(places, values, strict=True):
        by_turn[i][number][task] = value
    return [StepLosses(tuple(by_derivation)) for by_derivation in by_turn]


def device_of(device: str, rank: int) -> str:
    """The device of a process among those of this machine: of several GPUs one each."""
    if device == "cuda" and torch.cuda.device_count() > 1:
        return f"cuda:{rank % torch.cuda.device_count()}"
    return device
