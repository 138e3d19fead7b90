"""Devices: which there are, which is meant, and what they can."""

from __future__ import annotations

from contextlib import AbstractContextManager

from nas.lazy import torch

SHORT = ("not enough memory", "can't allocate memory", "out of memory")


class DeviceError(ValueError):
    """A device that is not there."""


def seen() -> list[str]:
    """The devices of this machine, the best first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def resolved(name: str) -> str:
    """The device that is meant by a name, of which `auto` is the best there is.

    Raises DeviceError for one that torch does not know or see.
    """
    if name == "auto":
        best = seen()[0]
        return "cuda" if best.startswith("cuda") else best
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, AttributeError) as error:
        first = str(error).splitlines()[0]
        reason = "" if first.startswith("Expected one of") else f" ({first})"
        there = ", ".join(seen())
        raise DeviceError(f"device {name!r} is not here{reason}; there are auto, {there}") from None
    return name


def reduced(device: torch.device) -> AbstractContextManager[None]:
    """Inside, sums of products are made in bfloat16 where the device has it in its hardware."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=able)


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or this machine, has no memory left."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(s in f"{error}" for s in SHORT))


def released(device: torch.device) -> None:
    """Give back what torch keeps of a device's memory without need."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
