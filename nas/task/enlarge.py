"""Pictures of several sizes as pictures of one: the tasks of a run share a trunk, and its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.lazy import F, np
from nas.task.error import TaskError
from nas.task.options import LEAST, MOST

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Array = npt.NDArray[Any]

COLOURS = 3  # channels that a grey picture may become
Shape: TypeAlias = tuple[int, ...]  # of one sample


@dataclass(frozen=True)
class Enlarged:
    """Pictures of the shape in which they were found brought to a larger one, both (channels,
    height, width): a grey channel is repeated, and sides are stretched, bilinear."""

    found: Shape
    to: Shape

    @property
    def fault(self) -> str:
        """Why it cannot be, "" where it can."""
        if any(len(s) != 3 or min(s[1:]) < LEAST or max(s) > MOST for s in (self.found, self.to)):
            return "pictures alone are enlarged, of channels, height and width"
        if self.found[0] != self.to[0] and (self.found[0], self.to[0]) != (1, COLOURS):
            return (
                f"{self.found[0]} channels become no {self.to[0]}: grey becomes {COLOURS} colours"
            )
        if any(side < found for side, found in zip(self.to[1:], self.found[1:], strict=True)):
            return "a side would become smaller: ask the source for less, as ?size=32"
        return ""

    def before(self, x: Tensor) -> Tensor:
        """x (n, *found) with as many channels as are wanted."""
        return x.repeat_interleave(self.to[0] // self.found[0], dim=1)

    def after(self, x: Tensor) -> Tensor:
        """x (n, channels, height, width) at the size that is wanted."""
        return F.interpolate(x, size=self.to[1:], mode="bilinear", align_corners=False)

    def map(self, y: Array) -> Array:
        """y (n, height, width), which lies on pictures as found, as it lies on the larger: of each
        pixel the nearest."""
        rows, columns = (
            (np.arange(to) + 0.5) * found // to
            for to, found in zip(self.to[1:], self.found[1:], strict=True)
        )
        larger: Array = y[:, rows.astype(int)[:, None], columns.astype(int)]
        return larger

    def __str__(self) -> str:
        found, to = ("x".join(map(str, shape)) for shape in (self.found, self.to))
        return f"{found} enlarged to {to}"


def read_shape(text: str, where: str) -> Shape | None:
    """A shape as 3x32x32 has it, None of nothing. Raises TaskError."""
    sizes = text.split("x")
    if text and not all(size.isdecimal() and len(size) < 6 for size in sizes):
        raise TaskError(
            f"{where}: {text!r} is no shape; write channels, height and width as 3x32x32"
        )
    return tuple(map(int, sizes)) if text else None


def shape_for_all(inputs: Sequence[Shape]) -> Shape | None:
    """The least shape to which pictures of all these can be enlarged, None where there is none."""
    if any(len(shape) != 3 for shape in inputs):
        return None
    to = tuple(map(max, zip(*inputs, strict=True)))
    return None if any(Enlarged(found, to).fault for found in inputs) else to
