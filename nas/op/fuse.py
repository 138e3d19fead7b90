"""FBNetV5's fusion module: every stream receives all the others at its own resolution."""

from __future__ import annotations

from nas.op.base import Args, Composite, Operator, Part, Shapes
from nas.op.conv import Conv, Pointwise
from nas.op.norm import BatchNorm
from nas.op.shape import Shape, ShapeError, wants_image
from nas.op.stream import UpsampleAdd


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
            if len(x.space) != len(xs[0].space):
                raise ShapeError("the streams differ in rank")
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
                edge, out = f"{source}_to_{to}", target.channels
                if any(a < b for a, b in zip(x.space, target.space, strict=True)):
                    value = then(f"{edge}.conv", Pointwise(), source, out=out)
                else:
                    stride = _stride(x, target)
                    value = then(f"{edge}.conv", Conv(), source, out=out, stride=stride)
                arriving.append(then(f"{edge}.norm", BatchNorm(), value))
            name = f"sum_{to}"
            results.append(then(name, UpsampleAdd(), *arriving) if len(arriving) > 1 else to)
        return tuple(parts), tuple(results)


def _stride(fine: Shape, coarse: Shape) -> int:
    """The stride from a grid to one that is no finer, sizes rounded up; raises ShapeError."""
    stride = max(-(-a // b) for a, b in zip(fine.space, coarse.space, strict=True))
    if tuple(-(-size // stride) for size in fine.space) != coarse.space:
        raise ShapeError(f"no stride leads from the grid of {fine} to that of {coarse}")
    return stride
