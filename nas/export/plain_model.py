"""A network as model.py has it, and how far two models' results are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nas.export.code import model_source
from nas.network import Network

COUNTER = "num_batches_tracked"  # torch's BatchNorm keeps it, a Network has no use for it


def plain(network: Network) -> nn.Module:
    """The network as model.py has it: a module of torch alone, in eval mode, on the CPU."""
    text = model_source(network.plan, title="model")
    model: nn.Module = _class_of(text)()
    counters = {k: v for k, v in model.state_dict().items() if k.endswith(COUNTER)}
    model.load_state_dict(counters | under(model.state_dict(), weights_of(network)))
    return model.eval()


def _class_of(text: str) -> Any:
    """The class `Model` of a model.py's text, whose instances can be pickled and copied."""
    return _module_of(text).Model


@lru_cache(maxsize=16)
def _module_of(text: str) -> Any:
    """A model.py's text as a module, whose classes' instances are pickled with it."""
    module = ModuleType("model")
    exec(compile(text, "<model.py>", "exec"), module.__dict__)

    def reduce(self: nn.Module, protocol: int) -> tuple[Any, ...]:
        return _bare, (text, type(self).__name__), self.__dict__

    for kind in list(vars(module).values()):
        own = isinstance(kind, type) and kind.__module__ == module.__name__
        if own and issubclass(kind, nn.Module):
            kind.__reduce_ex__ = reduce
    return module


def _bare(text: str, name: str = "Model") -> nn.Module:
    """A module of that class without content, to be filled as it is unpickled."""
    kind = getattr(_module_of(text), name)
    model: nn.Module = kind.__new__(kind)
    return model


def outputs(model: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """What a plain model gives for x (batch, *input), by name; nothing is remembered for
    gradients, and chance in it starts from one seed."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        result = model(x)
    return dict(result) if isinstance(result, dict) else {names[0]: result}


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The largest difference of two results, in shares of the largest number in the second where
    that is above 1. NaN equals NaN; results of other names or shapes differ by infinity."""
    if list(a) != list(b):
        return math.inf
    worst = 0.0
    for x, y in zip(a.values(), b.values(), strict=True):
        if x.shape != y.shape:
            return math.inf
        same = (x == y) | (x.isnan() & y.isnan())
        gap = torch.where(same, 0.0, (x - y).abs().double()).nan_to_num(math.inf, math.inf)
        scale = y[y.isfinite()].abs().max().item() if y.isfinite().any() else 1.0
        worst = max(worst, gap.max().item() / max(1.0, scale))
    return worst


def under(names: Iterable[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by those of `names` that are theirs but for dots in place of underscores: a model.py
    has `block_1.0.conv.weight` where its network has `block_1_0_conv.weight`. Others stay."""
    known = set(names)
    alike = {name.replace(".", "_"): name for name in known}
    return {
        name if name in known else alike.get(name.replace(".", "_"), name): tensor
        for name, tensor in tensors.items()
    }


def weights_of(network: Network) -> dict[str, Tensor]:
    """Parameters and statistics by name, as copies of their own on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
