"""A picture's file as numbers: opened, turned as its camera was held, in one mode and one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from nas.lazy import np
from nas.task.error import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    Array = npt.NDArray[Any]

T = TypeVar("T")
Fit = Literal["crop", "stretch"]
Mode = Literal["", "L", "LA", "RGB", "RGBA"]
FEW = 64  # files that are not worth a thread
SHARP = 2  # times the size that is asked for, at which a JPEG is decoded at least


@dataclass(frozen=True)
class Picture:
    """How a picture becomes numbers. mode: L, LA, RGB or RGBA of 8 bits, or "" for the file's own
    of more; fit: what does not fit the size is cut off evenly (crop), or squeezed (stretch)."""

    mode: Mode
    height: int
    width: int
    fit: Fit = "crop"

    def __str__(self) -> str:
        words = {"L": "grey", "LA": "grey with alpha", "RGB": "colour", "RGBA": "colour with alpha"}
        how = "cut to" if self.fit == "crop" else "stretched to"
        return f"{words.get(self.mode, 'as deep as it is')}, {how} {self.width}x{self.height}"


class Seen(NamedTuple):
    """What a glance at a picture tells."""

    mode: str
    height: int
    width: int
    alpha: bool  # whether it is opaque somewhere alone

    @property
    def deep(self) -> bool:
        """Whether it has more than 8 bits a channel."""
        return self.mode.startswith(("I", "F"))

    @property
    def grey(self) -> bool:
        return self.mode in ("1", "L", "LA")


class Unreadable(NamedTuple):
    """A file that is no picture, and why."""

    reason: str


def glance(file: Path) -> Seen | Unreadable:
    """What a picture is, most often by its header alone."""

    def seen(image: Image) -> Seen:
        alpha = image.has_transparency_data
        if alpha:
            alpha = bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        width, height = image.size[::-1] if turned else image.size
        return Seen(image.mode, height, width, alpha)

    return _opened(file, seen)


def decode(file: Path, picture: Picture) -> Array | Unreadable:
    """(height, width) of one channel, or (height, width, channels): bytes, or as deep as it is."""

    def pixels(image: Image) -> Array:
        from PIL import ImageOps

        side = SHARP * max(picture.width, picture.height)
        image.draft(None, (side, side))
        image = ImageOps.exif_transpose(image)
        return np.asarray(fitted(image.convert(picture.mode) if picture.mode else image, picture))

    return _opened(file, pixels)


def decode_mask(file: Path, picture: Picture) -> Array | Unreadable:
    """(height, width): a mask's classes, a palette's indices or greys as numbers."""

    def classes(image: Image) -> Array:
        from PIL import ImageOps

        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise ValueError(
                f"a mask of mode {image.mode}; a mask holds a class a pixel, as greys or by a "
                "palette: convert it"
            )
        image = ImageOps.exif_transpose(image.convert("L") if image.mode == "1" else image)
        return np.asarray(fitted(image, picture, nearest=True))

    return _opened(file, classes)


def shown_part(width: int, height: int, picture: Picture) -> tuple[float, float, float, float]:
    """What of a picture of that size is left in the size that is asked for: left, top, right and
    bottom in its own pixels."""
    if picture.fit != "crop":
        return 0.0, 0.0, float(width), float(height)
    scale = min(width / picture.width, height / picture.height)
    across = max(0.0, (width - scale * picture.width) / 2)
    down = max(0.0, (height - scale * picture.height) / 2)
    return across, down, width - across, height - down


def fitted(image: Image, picture: Picture, *, nearest: bool = False) -> Image | Array:
    """A picture in the size that is asked for, by an average of what is under each pixel, or by the
    nearest pixel."""
    from PIL.Image import Resampling, fromarray

    size = (picture.width, picture.height)
    if image.size == size:
        return image
    box = shown_part(*image.size, picture)
    if nearest:
        return image.resize(size, Resampling.NEAREST, box=box)
    if not image.mode.startswith("I"):
        return image.resize(size, Resampling.BILINEAR, box=box)
    deep = np.asarray(image)  # Pillow averages 16 bits as float alone
    real = fromarray(deep.astype(np.float32)).resize(size, Resampling.BILINEAR, box=box)
    return np.asarray(real).round().astype(deep.dtype)


def _opened(file: Path, read: Callable[[Image], T]) -> T | Unreadable:
    try:
        from PIL import Image
    except ImportError:
        raise TaskError("reading pictures needs Pillow: pip install 'nas-engine[images]'") from None
    try:
        with Image.open(file) as image:
            return read(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Unreadable(str(error))


def in_order(read: Callable[[Path], T], files: Sequence[Path]) -> Iterator[T]:
    """What is read of each file, in their order, several at a time: Pillow decodes outside of
    Python's lock."""
    if len(files) <= FEW:
        yield from map(read, files)
        return
    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        ahead = 4 * FEW
        waiting = [pool.submit(read, file) for file in files[:ahead]]
        for number in range(len(files)):
            result = waiting[number % ahead].result()
            if number + ahead < len(files):
                waiting[number % ahead] = pool.submit(read, files[number + ahead])
            yield result
