"""FBNetV5's fusion module: every stream receives all the others at its own resolution."""

from __future__ import annotations

from nas.op.base import Args, Composite, Operator, Part, Shapes
from nas.op.conv import Conv, Pointwise
from nas.op.norm import BatchNorm
from nas.op.pool import Upsample
from nas.op.shape import Shape, ShapeError, wants_image
from nas.op.stream import Add


class Fuse(Composite):
    """n → n. To a coarser stream by a strided 3×3 convolution, to a finer one by 1×1 and
    upsampling, each normalised; the contributions are summed (Wu et al. 2021, section 3.2)."""

    name = "fuse"
    streams_in = None

    def streams_out(self, streams_in: int, a: Args) -> int:
        return streams_in

    def expand(self, xs: Shapes, a: Args) -> tuple[tuple[Part, ...], tuple[int, ...]]:
        for x in xs:
            wants_image(x)
        parts: list[Part] = []

        def then(local: str, operator: Operator, *inputs: int, **args: int) -> int:
            parts.append(Part(local, operator, operator.bind((), args), inputs))
            return len(xs) + len(parts) - 1

        results = []
        for to, target in enumerate(xs):
            arriving = [to]
            for source, x in enumerate(xs):
                if source == to:
                    continue
                edge, factor = f"{source}_to_{to}", _ratio(x, target)
                out = target.channels
                if factor >= 1:
                    value = then(f"{edge}.conv", Conv(), source, out=out, stride=factor)
                    value = then(f"{edge}.norm", BatchNorm(), value)
                else:
                    value = then(f"{edge}.conv", Pointwise(), source, out=out)
                    value = then(f"{edge}.norm", BatchNorm(), value)
                    value = then(f"{edge}.up", Upsample(), value, factor=_ratio(target, x))
                arriving.append(value)
            results.append(then(f"sum_{to}", Add(), *arriving) if len(arriving) > 1 else to)
        return tuple(parts), tuple(results)


def _ratio(fine: Shape, coarse: Shape) -> int:
    """How many times finer the first is; 0 where it is the coarser; raises ShapeError."""
    if fine.space[0] < coarse.space[0]:
        return 0
    factor = fine.space[0] // coarse.space[0]
    if tuple(size * factor for size in coarse.space) != fine.space:
        raise ShapeError(f"resolutions {fine} and {coarse} are no whole multiples of each other")
    return factor
