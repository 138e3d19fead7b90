"""Once-for-all's kernel transform: a smaller kernel is the middle of the next larger one times a
learned matrix (Cai et al. 2020, section 3.3, "elastic kernel size").

The matrix is shared by the channels of a slot and begins as the identity, which is the plain slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nas.op import Param
from nas.supernet.slots import BankError, slices

if TYPE_CHECKING:
    from torch import Tensor

Kernels = Mapping[str, tuple[int, ...]]  # of each slot with several, the largest first


def kernels_of(pairs: Iterable[tuple[Param, str]]) -> dict[str, tuple[int, ...]]:
    """The kernel sizes of every slot that has several."""
    met: dict[str, set[int]] = {}
    for param, key in pairs:
        if param.centred:
            met.setdefault(key, set()).add(param.shape[-1])
    return {key: tuple(sorted(s, reverse=True)) for key, s in met.items() if len(s) > 1}


def sources(kernels: Kernels, param: Param, key: str) -> list[tuple[Param, str]]:
    """What a parameter is made of: a slice of its slot, and a matrix for each size on the way."""
    sizes, wanted = kernels.get(key, ()), param.shape[-1] if param.centred else 0
    if not sizes or wanted == sizes[0]:
        return [(param, key)]
    if wanted not in sizes:
        raise BankError(f"{key} has kernels of {', '.join(map(str, sizes))}, and none of {wanted}")
    way = sizes[: sizes.index(wanted) + 1]
    middle = (*param.shape[: -param.centred], *(way[1],) * param.centred)
    return [
        (param._replace(shape=middle), key),
        *(
            (_matrix(small**param.centred), f"{key}.{large}to{small}")
            for large, small in pairwise(way)
        ),
    ]


def assembled(param: Param, parts: Sequence[Tensor]) -> Tensor:
    """A parameter from the tensors of its sources."""
    weight, axes = parts[0], param.centred
    for matrix in parts[1:]:
        kernel = round(len(matrix) ** (1 / axes))
        shape = (*weight.shape[:-axes], *(kernel,) * axes)
        middle = weight[slices(shape, weight.shape, axes)]
        weight = (middle.flatten(-axes) @ matrix).reshape(shape)
    return weight


def _matrix(n: int) -> Param:
    return Param("transform", (n, n), "eye", n, decay=False)
