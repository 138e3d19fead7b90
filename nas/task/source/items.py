"""Items of a data set, read by their numbers: arrays, tensors, Pillow's pictures, dicts of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.task.decode import Picture, Seen, fitted
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import Samples
from nas.task.source.listing import shown_while
from nas.task.source.pictures import chosen_picture
from nas.task.store import new_array, stored

if TYPE_CHECKING:
    from nas.journal import JSON

Array = npt.NDArray[Any]
KEYS = (("x", "y"), ("image", "label"), ("img", "label"), ("input", "target"), ("data", "target"))
LOOKED_AT = 64  # items by which all are judged: sizes and colours of pictures
LARGE = 2**26  # bytes of x from which they go into a store


class Coloured(Exception):
    """A picture in colours where those that were looked at are grey."""


@dataclass(frozen=True)
class Items:
    """The items of one split. Each is (x, y), or a dict of which two are."""

    where: str
    dataset: Any
    options: Options

    def __len__(self) -> int:
        return len(self.dataset)

    def pair(self, number: int) -> tuple[Any, Any]:
        """x and y of an item; raises TaskError for what the data set raises."""
        try:
            item = self.dataset[number]
        except Exception as error:
            raise TaskError(
                f"{self.where}: item {number} cannot be had: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(item, Mapping):
            x, y = item
            return x, y
        input, target = self.options.input, self.options.target
        for x, y in ((input or a, target or b) for a, b in KEYS):
            if x in item and y in item:
                return item[x], item[y]
        known = ", ".join(f"{x} and {y}" for x, y in KEYS)
        raise TaskError(
            f"{self.where}: an item has {', '.join(map(str, item))}, of which none are known as x "
            f"and y ({known}): say ?image=NAME&label=NAME, give (x, y), or rename two of them"
        )

    @cached_property
    def some(self) -> list[tuple[Any, Any]]:
        """Items all over the set."""
        return [self.pair(number) for number in range(0, len(self), max(1, len(self) // LOOKED_AT))]

    @property
    def looked_at(self) -> list[Any]:
        """The x of those."""
        return [x for x, _ in self.some]

    @property
    def answers(self) -> str:
        """What is known of every y without reading a picture: a list of them, where the set has
        one, as torchvision's do."""
        lists = (getattr(self.dataset, name, None) for name in ("targets", "labels"))
        return next((f"{np.asarray(y).tolist()}" for y in lists if y is not None), "")


def read_items(
    where: str, parts: Mapping[str, Any], options: Options, facts: str, **more: Any
) -> Samples:
    """Samples of data sets by split, each read by number and never held as a whole twice.

    facts: what the sets are made of, by which a large one that is kept is known again.
    """
    options.refuse(where, "input", "target", "size", "fit")
    items = {split: Items(f"{where}, {split}", _sized(d), options) for split, d in parts.items()}
    for split, some in items.items():
        if not len(some):
            raise TaskError(f"{where}, {split}: holds no item; give at least 4")
    looked_at = [x for some in items.values() for x in some.looked_at]
    if not any(map(_is_picture, looked_at)):
        pairs, notes = _arrays(items)
        return Samples(where, pairs, notes=notes, **more)
    colour = False
    while True:
        try:
            return _pictures(where, items, looked_at, colour, facts, more)
        except Coloured:  # among those that were looked at none was: once more, in colours
            colour = True


def _sized(dataset: Any) -> Any:
    sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    return dataset if sized else list(dataset)


def _is_picture(x: Any) -> bool:
    return type(x).__module__.startswith("PIL.")


def _arrays(items: Mapping[str, Items]) -> tuple[dict[str, tuple[Array, Array]], tuple[str, ...]]:
    """x and y of arrays: of one shape, or series of unequal lengths, which are padded."""
    pairs, longest = dict[str, tuple[Array, Array]](), _longest(items)
    padded = 0
    for split, some in items.items():
        first = np.asarray(some.pair(0)[0])
        shape = first.shape if longest is None else (*first.shape[:-1], longest)
        kind = np.result_type(*(np.asarray(x).dtype for x in some.looked_at))
        x, ys = np.zeros((len(some), *shape), kind), list[Array]()
        for number in shown_while("reading items", iter(range(len(some))), len(some)):
            value, y = map(np.asarray, some.pair(number))
            if longest is not None and value.shape[:-1] == shape[:-1]:
                x[number, ..., : value.shape[-1]] = value
                padded += value.shape[-1] < longest
            elif value.shape == shape and np.can_cast(value.dtype, kind, "same_kind"):
                x[number] = value
            elif value.shape == shape:
                raise TaskError(
                    f"{some.where}: item {number} is of {value.dtype}, and others of {kind}: "
                    "convert all to one type"
                )
            else:
                raise _unequal(some, f"{list(value.shape)} and {list(shape)}")
            ys.append(y)
        pairs[split] = x, _stacked(ys, some)
    note = f"{padded} series are shorter than {longest} steps, and end in zeros"
    return pairs, (note,) if padded else ()


def _longest(items: Mapping[str, Items]) -> int | None:
    """The length of the longest series, where items are series of unequal lengths; else None."""
    shapes = [np.shape(x) for some in items.values() for x in some.looked_at]
    alike = len({shape[:-1] for shape in shapes}) == 1 and len(shapes[0]) in (1, 2)
    if not alike or len(set(shapes)) == 1:
        return None
    every = (np.shape(some.pair(i)[0]) for some in items.values() for i in range(len(some)))
    return max(int(shape[-1]) for shape in every)


def _stacked(ys: Sequence[Array], some: Items) -> Array:
    try:
        return np.stack(ys)
    except ValueError as error:
        raise _unequal(some, str(error)) from None


def _unequal(some: Items, why: str) -> TaskError:
    return TaskError(
        f"{some.where}: items cannot be stacked ({why}); each must be (x, y), every x of one "
        "size: resize or pad them, and give each an (x, y)"
    )


def _pictures(
    where: str,
    items: Mapping[str, Items],
    looked_at: Sequence[Any],
    colour: bool,
    facts: str,
    more: Mapping[str, Any],
) -> Samples:
    """Pictures in one size and mode, in a store where they are many."""
    seen = [Seen("RGB" if colour else x.mode, x.height, x.width, False) for x in looked_at]
    options = next(iter(items.values())).options
    picture, dtype, notes = chosen_picture(seen, [f"{where}, an item" for _ in seen], options)
    n = sum(map(len, items.values()))
    channels = len(picture.mode) if picture.mode else 1
    shape = (n, picture.height, picture.width, *((channels,) if channels > 1 else ()))
    store, y = None, list[Array]()
    if np.dtype(dtype).itemsize * np.prod(shape) <= LARGE:
        x = np.empty(shape, dtype)
        y = _fill(x, items, picture)
    else:
        store = stored(
            _key(items, picture, facts), where, partial(_kept, items, picture, shape, dtype)
        )
        x, y = store.array("x"), list(store.array("y"))
    pairs, start = dict[str, tuple[Array, Array]](), 0
    for split, some in items.items():
        end = start + len(some)
        pairs[split] = x[start:end], _stacked(y[start:end], some)
        start = end
    layout = "nhw" if x.ndim == 3 else "nhwc"
    return Samples(where, pairs, layout, notes=tuple(notes), picture=picture, store=store, **more)


def _kept(
    items: Mapping[str, Items], picture: Picture, shape: tuple[int, ...], dtype: str, folder: Path
) -> Mapping[str, JSON]:
    ys = _fill(new_array(folder, "x", dtype, shape), items, picture)
    np.save(folder / "y.npy", _stacked(ys, next(iter(items.values()))))
    return {}


def _fill(x: Array, items: Mapping[str, Items], picture: Picture) -> list[Array]:
    """Write every picture into x; what belongs to each."""
    ys, every = list[Array](), [(some, i) for some in items.values() for i in range(len(some))]
    for number, (some, i) in enumerate(shown_while("reading pictures", iter(every), len(every))):
        image, y = some.pair(i)
        if not _is_picture(image):
            raise TaskError(f"{some.where}: item {i} is no picture, and others are")
        if picture.mode == "L" and image.mode not in ("1", "L", "LA"):
            raise Coloured
        image = image.convert(picture.mode) if picture.mode else image
        x[number] = np.asarray(fitted(image, picture))
        ys.append(np.asarray(fitted(y, picture, nearest=True) if _is_picture(y) else y))
    return ys


def _key(items: Mapping[str, Items], picture: Picture, facts: str) -> str:
    """A digest of how many items there are, of which x and y are asked for, of both of some of
    them, and of every y where the set has a list of them."""
    digest = hashlib.blake2b(f"{facts} {asdict(picture)}".encode(), digest_size=16)
    for some in items.values():
        digest.update(f"{some.where} {len(some)} {some.options} {some.answers}".encode())
        for part in (value for pair in some.some for value in pair):
            digest.update(np.ascontiguousarray(np.asarray(part)).tobytes())
    return digest.hexdigest()
