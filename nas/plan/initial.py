"""The first values of parameters."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING
from zlib import crc32

from nas.lazy import torch
from nas.op import Param

if TYPE_CHECKING:
    from torch import Tensor


def initial(param: Param, key: str, seed: int) -> Tensor:
    """The first value of a parameter: it depends on `key` and `seed` alone, not on any order.

    fan_in: uniform in ±1 / sqrt(fan-in), as torch's own layers begin. Before a norm the scale
    sets how far a step turns the weights: with He et al.'s sqrt(6) times larger values the same
    learning rate trained several times slower.
    """
    if param.init in ("ones", "zeros"):
        return torch.full(param.shape, float(param.init == "ones"))
    if param.init == "eye":
        return torch.eye(*param.shape)
    generator = torch.Generator().manual_seed(crc32(key.encode()) * 2654435761 + seed)
    if param.init == "small":
        return torch.randn(param.shape, generator=generator) * 0.02
    bound = 1 / sqrt(max(param.fan_in, 1))
    return torch.empty(param.shape).uniform_(-bound, bound, generator=generator)
