"""What is known of a tensor before it exists: its kind and its sizes, without the batch axis."""

from __future__ import annotations

from math import prod
from typing import Literal, NamedTuple

Kind = Literal["image", "sequence", "vector"]


class Shape(NamedTuple):
    """A tensor's sizes without the batch axis.

    `image` is channels first with any number of spatial axes, (channels, *space); `sequence` is
    (positions, features); `vector` is (features,). The kind is part of the type, since a 1-D
    image (channels, length) and a sequence (positions, features) look alike.
    """

    kind: Kind
    dims: tuple[int, ...]

    @staticmethod
    def of(dims: tuple[int, ...] | Shape) -> Shape:
        """The shape a user means by a bare tuple: one size is a vector, more are an image."""
        if isinstance(dims, Shape):
            return dims
        if not dims or any(not isinstance(d, int) or d < 1 for d in dims):
            raise ShapeError(f"{dims!r} is no shape: give positive sizes such as (3, 32, 32)")
        return Shape("vector" if len(dims) == 1 else "image", tuple(dims))

    @staticmethod
    def read(text: str) -> Shape:
        """The shape printed as `text`: `3x32x32`, or `sequence:64x16`."""
        kind, _, sizes = text.rpartition(":")
        try:
            dims = tuple(int(size) for size in sizes.split("x"))
        except ValueError:
            raise ShapeError(f"{text!r} is no shape: write sizes as in 3x32x32") from None
        if not kind:
            return Shape.of(dims)
        if kind not in ("image", "sequence", "vector"):
            raise ShapeError(f"{kind!r} is no kind of shape: image, sequence or vector")
        return Shape(kind, Shape.of(dims).dims)  # type: ignore[arg-type]

    @property
    def elements(self) -> int:
        return prod(self.dims)

    @property
    def channels(self) -> int:
        """Features at one position: the first size of an image, the last of anything else."""
        return self.dims[0] if self.kind == "image" else self.dims[-1]

    @property
    def space(self) -> tuple[int, ...]:
        """Spatial sizes of an image; the number of positions of a sequence; () of a vector."""
        return self.dims[1:] if self.kind == "image" else self.dims[:-1]

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.dims))
        usual = "vector" if len(self.dims) == 1 else "image"
        return sizes if self.kind == usual else f"{self.kind}:{sizes}"


class ShapeError(ValueError):
    """A shape that an operator cannot take; the message says which and why. It is put together
    when it is read: most are raised to be caught."""

    refused: tuple[str, tuple[Shape, ...]] | None = None  # the operator, and the shapes that arrive

    def __str__(self) -> str:
        if self.refused is None:
            return super().__str__()
        name, shapes = self.refused
        return f"{name} cannot take {' '.join(map(str, shapes))}: {super().__str__()}"


def wants_image(x: Shape) -> None:
    """Raise ShapeError unless `x` is an image with one to three spatial axes."""
    if x.kind != "image":
        raise ShapeError(f"it takes an image (channels, *space), this is a {x.kind}")
    if not 1 <= len(x.space) <= 3:
        raise ShapeError(f"it takes one to three spatial axes, this has {len(x.space)}")
