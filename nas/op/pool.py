"""Pooling and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F, np, torch
from nas.op.base import Arg, Args, Code, Composite, Operator, Part, Phase, Shapes, wants
from nas.op.graph import Graph, Names, NoOnnxForm
from nas.op.shape import Shape, ShapeError, wants_image

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays


class MeanSpace(Operator):
    """The mean of an image over space: a vector of its channels."""

    keeps = True
    name = "mean_space"

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants_image(xs[0])
        return (Shape("vector", (xs[0].channels,)),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0].flatten(2).mean(2),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, "{0}.flatten(2).mean(2)")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("Flatten", graph("GlobalAveragePool", *values), axis=1),)


class MeanPositions(Operator):
    """The mean of a sequence over its positions: a vector of its features."""

    keeps = True
    name = "mean_positions"

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants(xs[0], "sequence")
        return (Shape("vector", (xs[0].channels,)),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0].flatten(1, -2).mean(1),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, "{0}.flatten(1, -2).mean(1)")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        axes = graph.integers(*range(1, len(xs[0].dims)))
        return (graph("ReduceMean", *values, axes, keepdims=0),)


class Pool(Composite):
    """The mean over all positions of an image or a sequence; a vector stays as it is."""

    name = "pool"

    def expand(self, xs: Shapes, a: Args) -> tuple[tuple[Part, ...], tuple[int, ...]]:
        (x,) = xs
        if x.kind == "vector":
            return (), (0,)
        mean: Operator = MeanSpace() if x.kind == "image" else MeanPositions()
        return (Part("mean", mean, {}, (0,)),), (1,)


class MaxPool(Operator):
    """The largest value in each window; `padding` -1 is (kernel - 1) // 2. With `ceil` windows that
    the padded picture's end cuts off count too, where they begin in the picture."""

    keeps = True
    name = "max_pool"
    args: tuple[Arg, ...] = (
        Arg("kernel", "execution", 3, decides="kernel"),
        Arg("stride", "execution", 2, decides="resolution"),
        Arg("padding", "execution", -1, least=-1),
        Arg("ceil", "execution", 0, least=0),
    )
    word: ClassVar[str] = "max"
    node: ClassVar[str] = "MaxPool"
    nonlinear = True

    @staticmethod
    def _geometry(a: Args) -> tuple[int, int, int]:
        kernel, padding = int(a["kernel"]), int(a["padding"])
        return kernel, int(a["stride"]), (kernel - 1) // 2 if padding < 0 else padding

    @staticmethod
    def _words(a: Args) -> dict[str, bool]:
        """What torch is told beside kernel, stride and padding."""
        return {"ceil_mode": True} if a["ceil"] else {}

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants_image(x)
        kernel, stride, padding = self._geometry(a)
        if 2 * padding > kernel:
            raise ShapeError(f"padding {padding} is more than half of kernel {kernel}")
        if kernel > 2 * min(x.space) + 1:
            raise ShapeError(f"a window of {kernel} is more than twice as large as {x}")
        space = tuple(
            (size + 2 * padding - kernel) // stride + 1 + bool(more)
            for size, more in zip(x.space, self._cut_off(x, a), strict=True)
        )
        return (Shape("image", (x.channels, *space)),)

    def _cut_off(self, x: Shape, a: Args) -> list[bool | None]:
        """For each axis whether there is one window more, which its end cuts off; None where the
        last window ends there."""
        kernel, stride, padding = self._geometry(a)
        more = list[bool | None]()
        for size in x.space:
            whole, rest = divmod(size + 2 * padding - kernel, stride)
            begins = (whole + 1) * stride < size + padding
            more.append(bool(a["ceil"]) and begins if rest else None)
        return more

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,) = xs
        pool = getattr(F, f"{self.word}_pool{x.ndim - 2}d")
        return (pool(x, *self._geometry(a), **self._words(a)),)

    def code(self, xs: Shapes, a: Args) -> Code:
        kernel, stride, padding = self._geometry(a)
        words = "".join(f", {name}={value}" for name, value in self._words(a).items())
        call = f"F.{self.word}_pool{len(xs[0].space)}d({{0}}, {kernel}, {stride}, {padding}{words})"
        return Code(None, call)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        kernel, stride, padding = self._geometry(a)
        rank = len(xs[0].space)
        node = graph(
            self.node,
            *values,
            kernel_shape=[kernel] * rank,
            strides=[stride] * rank,
            pads=[padding] * 2 * rank,
            **self._attributes(self._cut_off(xs[0], a), a),
        )
        return (node,)

    @staticmethod
    def _attributes(more: Sequence[bool | None], a: Args) -> dict[str, int]:
        """What ONNX's node is told beside kernel, stride and padding. It counts windows that begin
        in the padding too, so that axes must agree."""
        if any(more) and False in more:
            raise NoOnnxForm("a pool whose windows the end cuts off along one axis alone")
        return {"ceil_mode": 1} if any(more) else {}


class AvgPool(MaxPool):
    """The mean of each window, padding `counted` or not."""

    name, word, node, nonlinear = "avg_pool", "avg", "AveragePool", False
    args = (*MaxPool.args, Arg("counted", "execution", 1, least=0))

    @staticmethod
    def _words(a: Args) -> dict[str, bool]:
        return MaxPool._words(a) | ({} if a["counted"] else {"count_include_pad": False})

    @staticmethod
    def _attributes(more: Sequence[bool | None], a: Args) -> dict[str, int]:
        return MaxPool._attributes(more, a) | {"count_include_pad": int(a["counted"])}

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        shapes = super().outputs(xs, a)
        if len(xs[0].space) == 3 and min(xs[0].space) < int(a["kernel"]):
            raise ShapeError("torch averages a volume in windows no larger than itself")
        return shapes


class Upsample(Operator):
    """Space enlarged `factor` times by repetition."""

    keeps = True
    name = "upsample"
    args = (Arg("factor", "execution", 2, decides="resolution"),)

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants_image(x)
        factor = int(a["factor"])
        return (Shape("image", (x.channels, *(size * factor for size in x.space))),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (F.interpolate(xs[0], scale_factor=float(a["factor"]), mode="nearest"),)

    def code(self, xs: Shapes, a: Args) -> Code:
        words = f'scale_factor={float(a["factor"])}, mode="nearest"'
        return Code(None, f"F.interpolate({{0}}, {words})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        space = tuple(size * int(a["factor"]) for size in xs[0].space)
        return (nearest(graph, values[0], xs[0].space, space),)


class UpsampleTo(Operator):
    """Space resampled to the sizes given, bilinear; for logits at the input's resolution."""

    keeps = True
    name = "upsample_to"
    args = (
        Arg("height", "execution", decides="resolution"),
        Arg("width", "execution", decides="resolution"),
    )

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants_image(x)
        if len(x.space) != 2:
            raise ShapeError("it takes an image with two spatial axes")
        return (Shape("image", (x.channels, int(a["height"]), int(a["width"]))),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        size = (int(a["height"]), int(a["width"]))
        return (F.interpolate(xs[0], size=size, mode="bilinear", align_corners=False),)

    def code(self, xs: Shapes, a: Args) -> Code:
        words = f'size=({a["height"]}, {a["width"]}), mode="bilinear", align_corners=False'
        return Code(None, f"F.interpolate({{0}}, {words})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        size = graph.integers(int(a["height"]), int(a["width"]))
        return (graph("Resize", *values, "", "", size, axes=[2, 3], mode="linear"),)


class Resize(Composite):
    """Space resampled to so many percent of each size, bilinear: an elastic input resolution
    (Cai et al. 2020, section 3.2). 100 is nothing."""

    name = "resize"
    args = (Arg("percent", "execution", decides="resolution"),)

    def expand(self, xs: Shapes, a: Args) -> tuple[tuple[Part, ...], tuple[int, ...]]:
        (x,), percent = xs, int(a["percent"])
        wants_image(x)
        space = tuple(max(1, (size * percent + 50) // 100) for size in x.space)
        if space == x.space:
            return (), (0,)
        if len(space) != 2:
            raise ShapeError("it takes an image with two spatial axes")
        height, width = space
        return (Part("resized", UpsampleTo(), {"height": height, "width": width}, (0,)),), (1,)


def nearest(graph: Graph, value: str, space: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """An image's space resampled as torch's mode "nearest" does it: place i of n is what stands at
    floor(i · old / n)."""
    if all(new % old == 0 for old, new in zip(space, wanted, strict=True)):
        scales = [1.0, 1.0, *(new / old for old, new in zip(space, wanted, strict=True))]
        ways = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        scaled = graph.constant(np.array(scales, np.float32))
        return graph("Resize", value, "", scaled, mode="nearest", **ways)
    for axis, (old, new) in enumerate(zip(space, wanted, strict=True), start=2):
        if old != new:
            places = torch.arange(old, dtype=torch.float32).reshape(1, 1, -1)
            taken = F.interpolate(places, size=new, mode="nearest").long().flatten()
            value = graph("Gather", value, graph.integers(*taken.tolist()), axis=axis)
    return value
