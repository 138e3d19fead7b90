"""From arrays as found to splits ready to train on: layout, classes, missing splits, scale."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.task.task import Split, Splits, Target, TaskError

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
Pairs = dict[str, tuple[Array, Array]]  # split -> (x, y)

SEED = 2024  # of every cut of a split
SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
CHUNK = 2**22  # values that are float64 at a time
LAYOUTS = ("nf", "nhw", "nlc", "ncl", "nhwc", "nchw")
SERIES_CHANNELS = 4  # of an axis with more one may think as a picture's side,
LONGEST = 4  # if the other is at most so many times as long
IGNORED = 255  # the value of a mask that belongs to no class
NO_CLASS = -100  # the same as y: what torch's losses pass over
TEST, VALID = 0.20, 0.15  # shares: test of the whole, valid of what is left


@dataclass(frozen=True)
class Found:
    """What a reader hands over: splits ready to train on, and what they turned out to be; of what
    content x is, and where train was cut which of its samples went where."""

    splits: Splits
    target: Target
    classes: tuple[str, ...]
    content: str = ""
    parts: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class Raw:
    """Arrays as they were found."""

    where: str
    pairs: Pairs
    layout: str | None = None  # nchw, nhwc, nhw or ncl; None to infer
    classes: tuple[str, ...] | None = None  # None to infer
    notes: tuple[str, ...] = ()  # on where the arrays come from


def prepare(raw: Raw, like: Found | None = None) -> Found:
    """Checked, laid out, cut and normalised: raw arrays made ready to train on.

    like: what was made of the same x for another task: its cut is taken, and its x.
    """
    layout = raw.layout or _layout(raw.pairs["train"][0].shape, raw.where)
    xs: dict[str, Array] = {}
    ys: dict[str, Array] = {}
    for split, (x, y) in raw.pairs.items():
        where = f"{raw.where}, {split}"
        if not x.size or not y.size:
            raise TaskError(f"{where}: x or y is empty; give at least 4 samples of each")
        if x.shape[:1] != y.shape[:1]:
            raise TaskError(
                f"{where}: x has shape {list(x.shape)} but y {list(y.shape)}; "
                "each sample needs one of each: remove those without a partner"
            )
        xs[split] = lay_out(_floats(x, where), layout, where)
        ys[split] = _plain_y(y, where)
    target, classes, ys, said = encode(ys, raw)
    _check_shapes(xs, ys, raw.where)
    _check_counts(ys["train"], classes, raw.where)
    _one_scale(raw)
    shares = {s: share for s, share in (("test", TEST), ("valid", VALID)) if s not in xs}
    parts, notes = None, said
    if shares and like is not None and like.parts is not None:
        parts = like.parts
        notes += ("cut as the other task of the same samples",)
    elif shares:
        parts = cut(ys["train"], shares.get("test", 0), shares.get("valid", 0), raw.where)
        how = "stratified" if ys["train"].ndim == 1 else "at random"
        words = " and then ".join(f"{s} ({share:.0%})" for s, share in shares.items())
        notes += (f"{words} cut from train, {how}, always the same",)
    if parts is not None:
        ys |= {split: ys["train"][i] for split, i in parts.items()}
        _check_occurring(ys["train"], classes, raw.where)
    if target == "labels" and all((y.sum(1) == 1).all() for y in ys.values()):
        notes += ("every y has exactly one 1: if it is one class a sample, give y.argmax(1)",)
    if like is not None:
        notes = (*raw.notes, *notes, *like.splits.notes[-1:])
        return Found(_splits(like.splits, ys, notes), target, classes, like.content, parts)
    content = _content(xs)
    if parts is not None:
        xs |= {split: xs["train"][i] for split, i in parts.items()}
    xs, note = normalise(xs)
    notes = (*raw.notes, f"axes read as {layout}", *notes, note)
    return Found(_splits(xs, ys, notes), target, classes, content, parts)


def _splits(
    xs: Mapping[str, Array] | Splits, ys: dict[str, Array], notes: tuple[str, ...]
) -> Splits:
    import torch

    def x(split: str) -> Tensor:
        known: Tensor = (
            getattr(xs, split).x if isinstance(xs, Splits) else torch.from_numpy(xs[split])
        )
        return known

    return Splits(**{s: Split(x(s), torch.from_numpy(ys[s])) for s in SPLITS}, notes=notes)


def _content(xs: Mapping[str, Array]) -> str:
    """A digest of samples as they are laid out, before any are cut from train or normalised."""
    digest = hashlib.blake2b(digest_size=16)
    for split, x in sorted(xs.items()):
        digest.update(f"{split} {x.shape}".encode())
        digest.update(np.ascontiguousarray(x).data)
    return digest.hexdigest()


def _one_scale(raw: Raw) -> None:
    """Raise TaskError where some splits are bytes, which are divided by 255, and others are not."""
    kinds = {split: x.dtype == np.uint8 for split, (x, _) in raw.pairs.items()}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{split} {x.dtype}" for split, (x, _) in raw.pairs.items())
        raise TaskError(
            f"{raw.where}: x is {said}; bytes are read as shares of 255 and other numbers as they "
            "are, so this would be two scales: convert all splits to one type"
        )


def _layout(shape: tuple[int, ...], where: str) -> str:
    """What the axes of x are, where that is beyond doubt; raises TaskError where it is asked."""
    few = (1, 3, 4)
    if len(shape) == 2:
        return "nf"
    if len(shape) == 3 and shape[1] > SERIES_CHANNELS and shape[2] > SERIES_CHANNELS:
        if max(shape[1:]) <= LONGEST * min(shape[1:]):
            return "nhw"
    elif len(shape) == 4 and shape[2:] == (1, 1):
        return "nchw"
    elif len(shape) == 4:
        first, last = shape[1] in few, shape[3] in few
        if first != last:
            return "nchw" if first else "nhwc"
        if not first and shape[2] == shape[3] != shape[1]:
            return "nchw"
        if first and shape[2] == shape[3]:
            return "nchw"
    elif len(shape) != 3:
        raise TaskError(
            f"{where}: x has shape {list(shape)}; it must be (n, features), (n, height, width), or "
            "have one axis of channels: reshape it"
        )
    known = [layout for layout in LAYOUTS if len(layout) == len(shape)]
    raise TaskError(
        f"{where}: x has shape {list(shape)}, and its axes may be {' or '.join(known)} (n samples, "
        f"c channels, l length, h height, w width): say which, as --layout {known[-1]} or "
        f"layout = {known[-1]!r} under [data]"
    )


def lay_out(x: Array, layout: str, where: str) -> Array:
    """x as (n, channels, ...): nhw gains the axis, nhwc and nlc move it, nf has two more of one,
    nchw and ncl stay."""
    if layout not in LAYOUTS or x.ndim != len(layout):
        raise TaskError(
            f"{where}: x of shape {list(x.shape)} is not laid out as {layout!r}; "
            f"a layout is one of {', '.join(LAYOUTS)}, a letter an axis: correct either"
        )
    if layout == "nf":
        return x[:, :, None, None]
    if layout == "nhw":
        return x[:, None]
    return np.moveaxis(x, -1, 1) if layout in ("nhwc", "nlc") else x


def _floats(x: Array, where: str) -> Array:
    if x.dtype.kind not in "biuf":
        raise TaskError(f"{where}: x is of {x.dtype}; a network takes real numbers: convert it")
    with np.errstate(over="ignore"):
        real = x.astype(np.float32)
    bad = ~np.isfinite(real)
    if bad.any():
        raise TaskError(
            f"{where}: x{np.argwhere(bad)[0].tolist()} is NaN or infinite in float32, the first "
            f"of {bad.sum()} such values; x must be finite: replace them (np.nan_to_num) or drop "
            "those samples"
        )
    if x.dtype == np.uint8:
        real /= 255
    return real


def _plain_y(y: Array, where: str) -> Array:
    """(n,) or (n, h, w) without an axis of one, or (n, k); int64 or str."""
    y = y[:, 0] if y.ndim in (2, 4) and y.shape[1] == 1 else y
    y = y[..., 0] if y.ndim == 4 and y.shape[3] == 1 else y
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8")
    whole = y.dtype.kind in "biu" or (
        y.dtype.kind == "f" and bool((np.isfinite(y) & (y == np.round(y))).all())
    )
    if y.ndim not in (1, 2, 3) or not (whole or y.dtype.kind == "U"):
        raise TaskError(
            f"{where}: y is {y.dtype} of shape {list(y.shape)}; it must be (n,) classes, (n, k) of "
            "0 and 1, or (n, height, width) classes, as whole numbers or strings: convert it"
        )
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def encode(
    ys: dict[str, Array], raw: Raw
) -> tuple[Target, tuple[str, ...], dict[str, Array], tuple[str, ...]]:
    """(target, class names, y as in Split, notes): what y is follows from its axes."""
    train, ignored = ys["train"], dict[str, Array]()
    notes: tuple[str, ...] = ()
    if train.ndim == 3 and train.dtype.kind != "U" and len(raw.classes or ()) <= IGNORED:
        least = [value for value in np.unique(train).tolist() if value != IGNORED]
        if len(least) > 1 and any((y == IGNORED).any() for y in ys.values()):
            ignored = {split: y == IGNORED for split, y in ys.items()}
            ys = {split: np.where(ignored[split], least[0], y) for split, y in ys.items()}
            train = ys["train"]
            notes = (f"pixels of {IGNORED} belong to no class and are passed over",)
    if train.ndim == 2:
        values, named = np.arange(2), tuple(map(str, range(train.shape[1])))
        classes = raw.classes or named
        if len(classes) != len(named):
            raise TaskError(f"{raw.where}: {len(named)} labels a sample but {len(classes)} classes")
    elif raw.classes:
        classes = raw.classes
        values = np.array(classes) if train.dtype.kind == "U" else np.arange(len(classes))
    else:
        values = np.unique(train)
        classes = tuple(map(str, values.tolist()))
    if len(set(classes)) != len(classes):
        raise TaskError(f"{raw.where}: classes {list(classes)} repeat; name each class once")
    coded = {s: _numbered(y, values, f"{raw.where}, {s}") for s, y in ys.items()}
    if train.ndim == 2:
        return "labels", classes, {s: y.astype(np.float32) for s, y in coded.items()}, notes
    coded |= {s: np.where(mask, NO_CLASS, coded[s]) for s, mask in ignored.items()}
    return "class" if train.ndim == 1 else "pixels", classes, coded, notes


def _numbered(y: Array, values: Array, where: str) -> Array:
    """Each value's place in `values`."""
    order = np.argsort(values)
    known = y.dtype.kind == values.dtype.kind
    place = order[np.searchsorted(values, y, sorter=order).clip(max=len(values) - 1)]
    wrong = values[place] != y if known else np.ones(y.shape, bool)
    if wrong.any():
        raise TaskError(
            f"{where}: y{np.argwhere(wrong)[0].tolist()} is {y[wrong][0].item()!r}, which is not "
            f"among {values[:20].tolist()}, what training or the names of the classes allow: "
            "correct it, or add samples of it to train"
        )
    numbered: Array = place.astype(np.int64)
    return numbered


def _check_shapes(xs: dict[str, Array], ys: dict[str, Array], where: str) -> None:
    x, y = xs["train"], ys["train"]
    for split in xs:
        if xs[split].shape[1:] != x.shape[1:] or ys[split].shape[1:] != y.shape[1:]:
            raise TaskError(
                f"{where}: a sample of {split} is {list(xs[split].shape[1:])} with y "
                f"{list(ys[split].shape[1:])}, of train {list(x.shape[1:])} with y "
                f"{list(y.shape[1:])}; all must be of one size: resize them"
            )
    if y.ndim == 3 and y.shape[1:] != x.shape[2:]:
        raise TaskError(
            f"{where}: y has {list(y.shape[1:])} pixels but x has {list(x.shape[2:])}; "
            "each pixel needs a class: resize y with nearest neighbours"
        )


def _check_counts(y: Array, classes: tuple[str, ...], where: str) -> None:
    if y.ndim == 2:
        counts = np.array([(y == 0).sum(), (y == 1).sum()])
    else:
        counts = np.bincount(y[y >= 0], minlength=len(classes))
    if (counts > 0).sum() < 2:
        raise TaskError(
            f"{where}: every y of train is the same; there must be two classes to tell apart: "
            "add samples of another"
        )
    if y.ndim == 1 and counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise TaskError(
            f"{where}: class {name!r} has {counts.min()} samples in train; each class needs 2 or "
            "more: add samples of it, or leave it out"
        )


def cut(y: Array, test: float, valid: float, where: str) -> dict[str, Array]:
    """Indices of train, valid and test: shares of all and of what is left, 0 for no such split.

    Classes, (n,), are stratified: each is spread evenly over (0, 1), and the lowest go first;
    a class of 2 or more samples thus always keeps one in train.
    """
    rng = np.random.default_rng(SEED)
    key = rng.random(len(y))
    if y.ndim == 1:
        shuffled = rng.permutation(len(y))
        by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
        sizes = np.unique(y, return_counts=True)[1]
        rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        key[by_class] = (rank + np.repeat(rng.random(len(sizes)), sizes)) / np.repeat(sizes, sizes)
    tests = max(1, round(len(y) * test)) if test else 0
    valids = max(1, round((len(y) - tests) * valid)) if valid else 0
    if 2 * (tests + valids) > len(y):
        raise TaskError(f"{where}: {len(y)} samples are too few to cut; give 4 or more")
    order = np.split(np.argsort(key, kind="stable"), [tests, tests + valids])
    parts = dict(zip(("test", "valid", "train"), order, strict=True))
    return {split: rng.permutation(part) for split, part in parts.items() if len(part)}


def _check_occurring(y: Array, classes: tuple[str, ...], where: str) -> None:
    """Raise TaskError where a cut left a class without a sample to train on."""
    if y.ndim == 1:
        counts = np.bincount(y, minlength=len(classes))
        if not counts.all():
            raise TaskError(
                f"{where}: no sample of class {classes[int(counts.argmin())]!r} is left in train "
                "after it was cut as the other task of the same samples is: give splits of your "
                "own, name this task first, or add samples"
            )


def normalise(
    xs: dict[str, Array],  # split -> (n, channels, ...) float32, overwritten
) -> tuple[dict[str, Array], str]:
    """(x float32 by the training mean and deviation of each channel, a note saying so)."""
    train = xs["train"]
    axes = (0, *range(2, train.ndim))
    mean, spread = _moments(train, axes)
    spread[train.max(axes, keepdims=True) == train.min(axes, keepdims=True)] = 1
    numbers = [", ".join(f"{v:.4g}" for v in some.ravel()[:4]) for some in (mean, spread)]
    more = ", ..." if mean.size > 4 else ""
    note = f"x less the mean {numbers[0]}{more}, over the deviation {numbers[1]}{more}, of train"
    for x in xs.values():
        x -= mean
        x /= spread
    return {s: np.ascontiguousarray(x) for s, x in xs.items()}, note


def _moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and deviation over the axes, float32; some samples at a time, as float64 is large."""
    mean = x.mean(axes, keepdims=True, dtype=np.float64)
    step = max(1, CHUNK * len(x) // x.size)
    chunks = np.split(x, range(step, len(x), step))
    squares = sum(((chunk - mean) ** 2).sum(axes, keepdims=True) for chunk in chunks)
    spread = np.sqrt(squares / (x.size // mean.size))
    return mean.astype(np.float32), spread.astype(np.float32)
