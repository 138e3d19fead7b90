"""`Bank`: the shared tensors of all subnets of a space, each as large as the largest needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from nas.lazy import torch
from nas.op import Param
from nas.plan import Plan
from nas.plan.initial import initial
from nas.supernet.kernels import Kernels, assembled, kernels_of, sources
from nas.supernet.slots import (
    BankError,
    Box,
    around,
    boxes,
    larger,
    largest,
    named,
    put,
    slices,
    take,
    within,
)
from nas.train import AVERAGE, OPTIMIZERS, Lease

if TYPE_CHECKING:
    from torch import Tensor


class Bank:
    """Shared tensors by slot key, with their optimizer's state.

    A slot's key is (place, operator, shape arguments, parameter), the place as `share` says (see
    `slots.named`); sizes that are elastic are slices. `version` counts the training steps that
    the tensors have seen: a measurement on the bank is stamped with it. A bank that `grows`, of a
    recursive space, makes slots and enlarges them as leases ask for it, up to `most_mb`.
    """

    def __init__(
        self,
        params: Mapping[str, Param],
        *,
        seed: int = 0,
        device: str = "cpu",
        optimizer: str | None = "sgd",
        average: bool = False,
        share: str = "path",
        kernels: Kernels | None = None,
        grows: bool = False,
        memory_mb: float | None = None,
    ):
        self.seed, self.device, self.share, self.grows = seed, device, share, grows
        self.kernels, self.version = kernels or {}, 0
        self.most_mb = free_mb() if memory_mb is None else memory_mb
        self.params: dict[str, Param] = {}
        self.tensors: dict[str, Tensor] = {}
        self.optimizer = optimizer
        kept = OPTIMIZERS[optimizer].state if optimizer else ()
        self.state: dict[str, dict[str, Tensor]] = {
            name: {} for name in (*kept, *([AVERAGE] if average else []))
        }
        self.hold(params)

    @staticmethod
    def of(
        plans: Iterable[Plan],
        *,
        seed: int = 0,
        device: str = "cpu",
        optimizer: str | None = "sgd",
        average: bool = False,
        share: str = "path",
        kernel_transform: bool = False,
        memory_mb: float | None = None,
    ) -> Bank:
        """The bank that holds every parameter of some plans, each slot as large as the largest.

        With `kernel_transform` smaller kernels are made of larger ones by learned matrices.
        Raises BankError where that is more than `memory_mb` (or than this machine has free).
        """
        pairs = [pair for plan in plans for step in named(plan, share) for pair in step]
        kernels = kernels_of(pairs) if kernel_transform else {}
        matrices = [s for param, key in pairs for s in sources(kernels, param, key)[1:]]
        return Bank(
            largest([*pairs, *matrices]),
            seed=seed,
            device=device,
            optimizer=optimizer,
            average=average,
            share=share,
            kernels=kernels,
            memory_mb=memory_mb,
        )

    @property
    def size_mb(self) -> float:
        """Weights and optimizer state, in megabytes of 1,000,000 bytes."""
        return self._mb(self.params.values())

    def _mb(self, params: Iterable[Param]) -> float:
        return sum(prod(p.shape) for p in params) * 4 * (1 + len(self.state)) / 1e6

    def views(self, plan: Plan) -> list[dict[str, Tensor]]:
        """A plan's parameters, for each step by local name; no gradient. They are views of the
        bank but for transformed kernels. What a bank that grows does not hold yet is as it would
        be if nothing but this plan were added."""
        steps = named(plan, self.share)
        more = self._lacking(steps) if self.grows else {}
        tensors = self.tensors | {key: self._enlarged(key, p) for key, p in more.items()}

        def get(param: Param, key: str) -> Tensor:
            if key not in tensors:
                raise BankError(f"the bank has no slot {key}: it was made for another space")
            return take(tensors[key], *boxes(param, more.get(key, self.params.get(key, param))))

        with torch.no_grad():
            return [{p.name: self._made(p, key, get) for p, key in step} for step in steps]

    @property
    def averaged(self) -> Bank:
        """The same with the moving averages of its weights in their place, where those are kept."""
        if AVERAGE not in self.state:
            return self
        other = copy(self)
        other.tensors = self.state[AVERAGE]
        return other

    def fill(self, plan: Plan, tensors: Sequence[Mapping[str, Tensor]]) -> None:
        """Give a plan's elements the values of tensors, a step each, and their averages too."""
        for bank in (self, self.averaged):
            with torch.no_grad():
                for step, values in zip(named(plan, bank.share), tensors, strict=True):
                    for param, key in step:
                        put(bank.tensors[key], values[param.name], *boxes(param, bank.params[key]))

    def part(self, plan: Plan, *, optimizer: str | None = None) -> Bank:
        """A bank of its own with copies of what a plan takes of this one."""
        values = self.views(plan)
        own = Bank.of([plan], seed=self.seed, device=self.device, optimizer=optimizer)
        with torch.no_grad():
            for step, given in zip(named(plan), values, strict=True):
                for param, key in step:
                    own.tensors[key].copy_(given[param.name])
        return own

    def _made(self, param: Param, key: str, get: Callable[[Param, str], Tensor]) -> Tensor:
        return assembled(param, [get(*source) for source in sources(self.kernels, param, key)])

    def boxes(self, key: str, param: Param) -> tuple[list[Box], int]:
        """Where a parameter lies in its slot, see `slots.boxes`."""
        if key not in self.params:
            raise BankError(f"the bank has no slot {key}: it was made for another space")
        return boxes(param, self.params[key])

    def fits(self, plans: Iterable[Plan]) -> bool:
        """Whether memory suffices for what some plans ask for; nothing is made."""
        try:
            self.require(plans)
        except BankError:
            return False
        return True

    def require(self, plans: Iterable[Plan]) -> None:
        """Raise BankError where memory does not suffice for what some plans ask for; nothing is
        made."""
        self._afford(self._lacking(step for plan in plans for step in named(plan, self.share)))

    def lease(self, plans: Sequence[Plan]) -> Lease:
        """The tensors some plans touch, for one training step.

        A leaf is the smallest box of a slot that holds all their slices, so the elements outside
        are never seen; where slices do not fill their box together, a mask says what they touch.
        Raises BankError where a bank would grow beyond its memory.
        """
        by_plan = [named(plan, self.share) for plan in plans]
        if self.grows:
            self.hold(self._lacking([step for steps in by_plan for step in steps]))
        wanted: dict[str, list[Box]] = {}
        for steps in by_plan:
            for pair in (pair for step in steps for pair in step):
                for param, key in sources(self.kernels, *pair):
                    wanted.setdefault(key, []).extend(self.boxes(key, param)[0])
        lease = Lease([], [], [], [], [], [])
        placed: dict[str, tuple[Tensor, Box]] = {}
        for key, read in wanted.items():
            placed[key] = self._placed(lease, key, read)

        def get(param: Param, key: str) -> Tensor:
            (leaf, outer), (places, axis) = placed[key], self.boxes(key, param)
            if places == [outer]:
                return leaf
            return take(leaf, [within(box, outer) for box in places], axis)

        for steps in by_plan:
            lease.params.append(
                [{p.name: self._made(p, key, get) for p, key in step} for step in steps]
            )
        return lease

    def _placed(self, lease: Lease, key: str, boxes: list[Box]) -> tuple[Tensor, Box]:
        """Add a slot's leaf to a lease: the leaf and where it lies."""
        box = around(boxes)
        value = self.tensors[key][box]
        leaf = value.detach().requires_grad_()
        lease.leaves.append(leaf)
        lease.values.append(value)
        lease.states.append({name: state[key][box] for name, state in self.state.items()})
        lease.decays.append(self.params[key].decay)
        lease.masks.append(_mask(boxes, box, value))
        return leaf, box

    def _lacking(self, steps: Iterable[Iterable[tuple[Param, str]]]) -> dict[str, Param]:
        """What the bank does not hold of some parameters, by slot, as large as it must be."""
        asked = largest(pair for step in steps for pair in step)
        whole = {key: larger(self.params.get(key, p), p) for key, p in asked.items()}
        return {key: p for key, p in whole.items() if p != self.params.get(key)}

    def _enlarged(self, key: str, param: Param) -> Tensor:
        """A slot's tensor as large as a parameter, new elements as they begin."""
        fresh = initial(param, key, self.seed).to(self.device)
        if key in self.tensors:
            fresh[slices(self.tensors[key].shape, param.shape, param.centred)] = self.tensors[key]
        return fresh

    def _afford(self, params: Mapping[str, Param]) -> None:
        needed = self._mb({**self.params, **params}.values())
        if needed > self.most_mb:
            raise BankError(
                f"the bank needs {needed:,.0f} MB for weights and optimizer state, and "
                f"{self.most_mb:,.0f} MB are free or allowed: narrow the space's widths, allow "
                "more with supernet.memory_mb, or use a machine with more memory"
            )

    def hold(self, params: Mapping[str, Param]) -> None:
        """Make or enlarge slots; raises BankError where memory does not suffice."""
        self._afford(params)
        for key, param in params.items():
            held = self.tensors.get(key)
            self.tensors[key] = self._enlarged(key, param)
            for name, state in self.state.items():
                before, whole = state.get(key), self.tensors[key]
                state[key] = whole.clone() if name == AVERAGE else torch.zeros_like(whole)
                if held is not None and before is not None:
                    state[key][slices(held.shape, param.shape, param.centred)] = before
            self.params[key] = param


def free_mb() -> float:
    """Free memory of this machine in megabytes, what the system would give up for it included;
    infinite where it cannot be told."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return int(text.partition("MemAvailable:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError, ValueError):
        pass  # no Linux
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (ValueError, OSError, AttributeError):
        return float("inf")


def _mask(boxes: Sequence[Box], outer: Box, like: Tensor) -> Tensor | None:
    if outer in boxes:
        return None
    mask = torch.zeros_like(like, dtype=torch.bool)
    for box in boxes:
        mask[within(box, outer)] = True
    return None if bool(mask.all()) else mask
