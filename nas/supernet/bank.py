"""`Bank`: the shared tensors of all subnets of a space, each as large as the largest needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas.network import initial
from nas.op import Param
from nas.plan import Plan, Step
from nas.train import Lease

Box = tuple[slice, ...]


class BankError(ValueError):
    """A bank that does not fit memory, a file that is none, a slice larger than its slot."""


def slices(shape: tuple[int, ...], whole: tuple[int, ...], centred: int) -> Box:
    """Where a smaller parameter lies in a larger: leading elements, and on the last `centred`
    axes the middle ones. Raises BankError where it is no part of it."""
    if len(shape) != len(whole) or any(a > b for a, b in zip(shape, whole, strict=True)):
        raise BankError(f"a parameter of {shape} is no slice of a slot of {whole}")
    first_centred = len(shape) - centred
    starts = [(b - a) // 2 if i >= first_centred else 0
              for i, (a, b) in enumerate(zip(shape, whole, strict=True))]  # fmt: skip
    return tuple(slice(at, at + size) for at, size in zip(starts, shape, strict=True))


class Bank:
    """Shared tensors by slot key, with their momenta.

    A slot's key is (place in the grammar, operator, shape arguments, parameter); sizes that are
    elastic are slices. `version` counts the training steps that the tensors have seen: a
    measurement on the bank is stamped with it.
    """

    def __init__(self, params: dict[str, Param], *, seed: int = 0, device: str = "cpu"):
        self.params, self.seed, self.version = params, seed, 0
        self.tensors: dict[str, Tensor] = {}
        self.momenta: dict[str, Tensor] = {}
        for key, param in params.items():
            self.tensors[key] = initial(param, key, seed).to(device)
            self.momenta[key] = torch.zeros_like(self.tensors[key])

    @staticmethod
    def of(
        plans: Iterable[Plan], *, seed: int = 0, device: str = "cpu",
        memory_mb: float | None = None,
    ) -> Bank:  # fmt: skip
        """The bank that holds every parameter of some plans, each slot as large as the largest.

        Raises BankError where that is more than `memory_mb` (or than this machine has free).
        """
        params = largest(plans)
        needed, free = memory(params), free_mb() if memory_mb is None else memory_mb
        if needed > free:
            raise BankError(
                f"the bank needs {needed:,.0f} MB for weights and momenta, and {free:,.0f} MB are "
                "free: narrow the space's widths, or use a machine with more memory"
            )
        return Bank(params, seed=seed, device=device)

    @property
    def size_mb(self) -> float:
        """Weights and momenta, in megabytes of 1,000,000 bytes."""
        return memory(self.params)

    def views(self, plan: Plan) -> list[dict[str, Tensor]]:
        """A plan's parameters as views of the bank, for each step by local name; no gradient."""
        return [
            {p.name: self.tensors[key][self.box(key, p)] for p, key in keys(step)}
            for step in plan.steps
        ]

    def box(self, key: str, param: Param) -> Box:
        if key not in self.params:
            raise BankError(f"the bank has no slot {key}: it was made for another space")
        return slices(param.shape, self.params[key].shape, param.centred)

    def lease(self, plans: Sequence[Plan]) -> Lease:
        """The tensors some plans touch, for one training step.

        A leaf is the smallest box of a slot that holds all their slices, so the elements outside
        are never seen; where slices do not fill their box together, a mask says what they touch.
        """
        wanted: dict[str, list[Box]] = {}
        for plan in plans:
            for step in plan.steps:
                for param, key in keys(step):
                    wanted.setdefault(key, []).append(self.box(key, param))
        lease = Lease([], [], [], [], [], [])
        placed: dict[str, tuple[Tensor, Box]] = {}
        for key, boxes in wanted.items():
            box = _around(boxes)
            value = self.tensors[key][box]
            leaf = value.detach().requires_grad_()
            placed[key] = leaf, box
            lease.leaves.append(leaf)
            lease.values.append(value)
            lease.momenta.append(self.momenta[key][box])
            lease.decays.append(self.params[key].decay)
            lease.masks.append(_mask(boxes, box, value))
        for plan in plans:
            lease.params.append([
                {p.name: _inside(*placed[key], self.box(key, p)) for p, key in keys(step)}
                for step in plan.steps
            ])  # fmt: skip
        return lease

    def save(
        self, path: Path, *, momenta: bool = False, facts: Mapping[str, str] | None = None
    ) -> None:
        """Write the tensors (and momenta), version and facts, as safetensors; atomically."""
        tensors = dict(self.tensors)
        if momenta:
            tensors |= {f"momentum/{key}": value for key, value in self.momenta.items()}
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        metadata = {"version": str(self.version), "seed": str(self.seed), **(facts or {})}
        part = path.with_suffix(".part")
        try:
            save_file(whole, part, metadata=metadata)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
        except (SafetensorError, OSError) as error:
            part.unlink(missing_ok=True)
            raise OSError(f"{path} cannot be written: {error}; is the disk full?") from None

    def load(self, path: Path) -> None:
        """Read tensors (and momenta, where the file has them) and the version from a file.

        Raises BankError where the file is damaged or another bank's.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata, names = file.metadata() or {}, set(file.keys())
                for key, tensor in self.tensors.items():
                    tensor.copy_(file.get_tensor(key))
                    if f"momentum/{key}" in names:
                        self.momenta[key].copy_(file.get_tensor(f"momentum/{key}"))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise BankError(f"{path} is not this space's bank, or damaged: {error}") from None
        self.version = int(metadata.get("version", 0))


def facts_of(path: Path) -> dict[str, str]:
    """The facts a bank's file was saved with; raises BankError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise BankError(f"{path} is damaged: {error}") from None


def keys(step: Step) -> list[tuple[Param, str]]:
    """Each parameter of a step with its slot's key."""
    return [(param, f"{step.slot}.{param.name}") for param in step.params]


def largest(plans: Iterable[Plan]) -> dict[str, Param]:
    """Every slot of some plans with the elementwise largest shape."""
    found: dict[str, Param] = {}
    for plan in plans:
        for step in plan.steps:
            for param, key in keys(step):
                other = found.setdefault(key, param)
                if other.shape != param.shape:
                    shape = tuple(map(max, other.shape, param.shape))
                    fan_in = max(other.fan_in, param.fan_in)
                    found[key] = other._replace(shape=shape, fan_in=fan_in)
    return found


def memory(params: dict[str, Param]) -> float:
    """Megabytes that weights and momenta of some slots take."""
    return sum(prod(p.shape) for p in params.values()) * 8 / 1e6


def free_mb() -> float:
    """Free memory of this machine in megabytes; infinite where it cannot be told."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (ValueError, OSError, AttributeError):
        return float("inf")


def _around(boxes: Sequence[Box]) -> Box:
    return tuple(
        slice(min(s.start for s in axis), max(s.stop for s in axis))
        for axis in zip(*boxes, strict=True)
    )


def _inside(leaf: Tensor, outer: Box, box: Box) -> Tensor:
    if box == outer:
        return leaf
    return leaf[tuple(slice(b.start - o.start, b.stop - o.start)
                      for b, o in zip(box, outer, strict=True))]  # fmt: skip


def _mask(boxes: Sequence[Box], outer: Box, like: Tensor) -> Tensor | None:
    if outer in boxes:
        return None
    mask = torch.zeros_like(like, dtype=torch.bool)
    for box in boxes:
        _inside(mask, outer, box).fill_(True)
    return None if bool(mask.all()) else mask
