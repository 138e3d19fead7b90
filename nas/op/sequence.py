"""Images as sequences of positions and back, permutations, positional encoding."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F, np
from nas.op.base import Arg, Args, Code, Operator, Param, Phase, Shapes, wants
from nas.op.graph import Graph, Names
from nas.op.shape import Kind, Shape, ShapeError, wants_image

if TYPE_CHECKING:
    from torch import Tensor

    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays


class Permute(Operator):
    """Axes in the order written, counted from 1 without the batch axis: permute(312)."""

    name = "permute"
    args = (Arg("order", "shape"),)

    def takes(self, kind: Kind, axes: int, a: Args) -> bool:
        return len(str(a["order"])) == axes

    def may_make(self, x: Shape, y: Shape) -> bool:
        return x.kind == y.kind and sorted(x.dims) == sorted(y.dims)

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,), digits = xs, str(a["order"])
        order = [int(digit) for digit in digits] if len(digits) == len(x.dims) else []
        if sorted(order) != list(range(1, len(x.dims) + 1)):
            raise ShapeError(f"{a['order']} is no order of its {len(x.dims)} axes")
        return (Shape(x.kind, tuple(x.dims[axis - 1] for axis in order)),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0].permute(0, *(int(digit) for digit in str(a["order"]))),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, f"{{0}}.permute(0, {', '.join(str(a['order']))})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        order = [0, *(int(digit) for digit in str(a["order"]))]
        return (graph("Transpose", *values, perm=order),)


class Im2Col(Operator):
    """Windows of an image as a sequence: (C, *space) → (windows, C · kernel^axes).

    Features are ordered by channel, then by place in the window; windows by place. It takes
    images of so many spatial axes alone.
    """

    name = "im2col"
    args = (
        Arg("kernel", "shape", 3),
        Arg("stride", "shape", 1),
        Arg("padding", "shape", 0, least=0),
        Arg("axes", "shape", 2),
    )

    def takes(self, kind: Kind, axes: int, a: Args) -> bool:
        return kind == "image" and axes == int(a["axes"]) + 1

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants_image(x)
        if len(x.space) != a["axes"]:
            axes_text = ("one spatial axis", "two spatial axes", "three spatial axes")
            raise ShapeError(f"it takes an image with {axes_text[min(int(a['axes']), 3) - 1]}")
        space = grid(x, a)
        if min(space) < 1:
            raise ShapeError(f"windows of {a['kernel']} do not fit")
        return (Shape("sequence", (prod(space), x.channels * int(a["kernel"]) ** len(space))),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,), axes = xs, int(a["axes"])
        kernel, stride, padding = int(a["kernel"]), int(a["stride"]), int(a["padding"])
        if axes == 2:
            return (F.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2),)
        x = F.pad(x, [padding] * 2 * axes)
        for axis in range(2, 2 + axes):
            x = x.unfold(axis, kernel, stride)
        return (x.flatten(2, 1 + axes).transpose(1, 2).flatten(2),)

    def code(self, xs: Shapes, a: Args) -> Code:
        kernel, stride, padding, axes = (int(a[arg.name]) for arg in self.args)
        if axes == 2:
            words = f"{kernel}, padding={padding}, stride={stride}"
            return Code(None, f"F.unfold({{0}}, {words}).transpose(1, 2)")
        padded = f"F.pad({{0}}, {[padding] * 2 * axes})" if padding else "{0}"
        windows = "".join(f".unfold({axis}, {kernel}, {stride})" for axis in range(2, 2 + axes))
        return Code(None, f"{padded}{windows}.flatten(2, {1 + axes}).transpose(1, 2).flatten(2)")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        """A convolution of each channel with every kernel that is one at a single place."""
        channels, axes, kernel = xs[0].channels, int(a["axes"]), int(a["kernel"])
        places = kernel**axes
        each = np.eye(places, dtype=np.float32).reshape(places, 1, *[kernel] * axes)
        weight = graph.constant(np.tile(each, (channels, *[1] * (axes + 1))), learned=False)
        windows = graph("Conv", *values, weight, group=channels, **_conv_sizes(a))
        flat = graph("Reshape", windows, graph.integers(0, channels * places, -1))
        return (graph("Transpose", flat, perm=[0, 2, 1]),)


def _conv_sizes(a: Args) -> dict[str, list[int]]:
    axes = int(a["axes"])
    return {"strides": [int(a["stride"])] * axes, "pads": [int(a["padding"])] * 2 * axes}


def grid(x: Shape, a: Args) -> tuple[int, ...]:
    """How many windows there are in each spatial axis of an image."""
    kernel, stride, padding = int(a["kernel"]), int(a["stride"]), int(a["padding"])
    return tuple((size + 2 * padding - kernel) // stride + 1 for size in x.space)


class Col2Im(Operator):
    """A sequence laid out as an image: (positions, D) → (D, *grid).

    The grid is (height,), (height, width) or, of three axes, (height, ·, width): the axis between
    is what makes it hold all positions.
    """

    keeps = True
    name = "col2im"
    args = (Arg("height", "shape"), Arg("width", "shape", 1), Arg("axes", "shape", 2))

    def takes(self, kind: Kind, axes: int, a: Args) -> bool:
        return kind == "sequence" and axes == 2

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants(x, "sequence")
        height, width, axes = int(a["height"]), int(a["width"]), int(a["axes"])
        if len(x.dims) != 2 or axes > 3:
            raise ShapeError("it makes an image with one to three spatial axes of a sequence")
        between = max(1, x.dims[0] // (height * width))
        space = ((height,), (height, width), (height, between, width))[axes - 1]
        if x.dims[0] != prod(space):
            grid_text = "x".join(map(str, (height, "n", width) if axes == 3 else space))
            raise ShapeError(f"{x.dims[0]} positions do not fill a grid of {grid_text}")
        return (Shape("image", (x.dims[1], *space)),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0].transpose(1, 2).unflatten(2, self._space(a)),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, f"{{0}}.transpose(1, 2).unflatten(2, {self._space(a)})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        turned = graph("Transpose", *values, perm=[0, 2, 1])
        sizes = graph.integers(0, xs[0].dims[1], *self._space(a))
        return (graph("Reshape", turned, sizes),)

    @staticmethod
    def _space(a: Args) -> tuple[int, ...]:
        height, width = int(a["height"]), int(a["width"])
        return ((height,), (height, width), (height, -1, width))[int(a["axes"]) - 1]


def convolve(x: Tensor, p: Mapping[str, Tensor], a: Args) -> Tensor:
    """What im2col with arguments `a`, a linear map with parameters `p` and col2im to the windows'
    own grid make of an image, in one convolution: no window is ever written out.

    x: (batch, channels, *space); a row of the map's weight is a kernel, (channels · kernel^axes,).
    """
    axes, kernel = int(a["axes"]), int(a["kernel"])
    weight = p["weight"].unflatten(1, (x.shape[1], *[kernel] * axes))
    convolution = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    return convolution(x, weight, p.get("bias"), int(a["stride"]), int(a["padding"]))


def convolution_code(x: Shape, out: int, bias: bool, a: Args) -> Code:
    """The same as text: a module whose weights are those of the linear map."""
    sizes = [x.channels, out, *(int(a[name]) for name in ("kernel", "stride", "padding", "axes"))]
    rest = "" if bias else ", bias=False"
    return Code(f"WindowLinear({', '.join(map(str, sizes))}{rest})", "{m}({0})", WINDOW_LINEAR)


def convolution_onnx(graph: Graph, value: str, x: Shape, p: Arrays, a: Args) -> str:
    """The same in ONNX."""
    kernel = p["weight"].reshape(-1, x.channels, *[int(a["kernel"])] * int(a["axes"]))
    weight = graph.constant(kernel)
    return graph("Conv", value, weight, *graph.biased(p), **_conv_sizes(a))


WINDOW_LINEAR = '''
class WindowLinear(nn.Linear):
    """A linear map of every window of an image, laid out as the image's grid: a convolution."""

    def __init__(self, channels, out, kernel, stride, padding, axes, bias=True):
        super().__init__(channels * kernel**axes, out, bias=bias)
        self.kernel = (channels, *[kernel] * axes)
        self.stride, self.padding = stride, padding

    def forward(self, x):
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel) - 2]
        weight = self.weight.unflatten(1, self.kernel)
        return convolve(x, weight, self.bias, self.stride, self.padding)
'''


class Tokens(Operator):
    """Every position of an image as an item of a sequence: (C, *space) → (prod(space), C)."""

    keeps = True
    name = "tokens"

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants_image(x)
        return (Shape("sequence", (prod(x.space), x.channels)),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0].flatten(2).transpose(1, 2),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, "{0}.flatten(2).transpose(1, 2)")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        flat = graph("Reshape", *values, graph.integers(0, xs[0].channels, -1))
        return (graph("Transpose", flat, perm=[0, 2, 1]),)


class Positional(Operator):
    """A learned encoding of every element's place, added."""

    in_place = True
    keeps = True
    name = "positional"
    helper: ClassVar[str] = '''
class Positional(nn.Module):
    """Add a learned encoding of every element's place."""

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(*shape))

    def forward(self, x):
        return x + self.weight
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return (Param("weight", xs[0].dims, "small", decay=False),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0] + p["weight"],)

    def code(self, xs: Shapes, a: Args) -> Code:
        sizes = ", ".join(map(str, xs[0].dims))
        return Code(f"Positional({sizes})", "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("Add", *values, graph.constant(p["weight"])),)
