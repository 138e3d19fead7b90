"""Where the channels of joined streams lie in an operator's parameters."""

from __future__ import annotations

from functools import lru_cache

from nas.op.base import Operator, Param, Segments, Shapes, Value
from nas.op.shape import Shape, ShapeError


@lru_cache(maxsize=1 << 12)
def segmented(
    operator: Operator,
    xs: Shapes,
    items: tuple[tuple[str, Value], ...],
    params: tuple[Param, ...],
    parts: Segments,
) -> tuple[Param, ...]:
    """An operator's parameters where the channels that enter are those of joined streams, `parts`
    of each: with the parts along the axis that follows the channels."""
    kind, dims = xs[0]
    twice = (2 * dims[0], *dims[1:]) if kind == "image" else (*dims[:-1], 2 * dims[-1])
    try:
        larger = operator.params((Shape(kind, twice), *xs[1:]), dict(items))
    except ShapeError:
        return params
    found = []
    for param, other in zip(params, larger, strict=True):
        sizes = zip(param.shape, other.shape, strict=True)
        axes = [i for i, (n, more) in enumerate(sizes) if n == sum(parts) and more == 2 * n]
        lies = tuple(parts if i in axes else () for i in range(len(param.shape)))
        found.append(param._replace(segments=lies) if len(axes) == 1 else param)
    return tuple(found)
