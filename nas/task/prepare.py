"""From arrays as found to splits ready to train on: layout, classes, missing splits, scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.task.task import Split, Splits, Target, TaskError

Array = npt.NDArray[Any]
Pairs = dict[str, tuple[Array, Array]]  # split -> (x, y)

SEED = 2024  # of every cut of a split
SPLITS = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}
CHUNK = 2**22  # values that are float64 at a time
TEST, VALID = 0.20, 0.15  # shares: test of the whole, valid of what is left


@dataclass(frozen=True)
class Found:
    """What a reader hands over: splits ready to train on, and what they turned out to be."""

    splits: Splits
    target: Target
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Raw:
    """Arrays as they were found."""

    where: str
    pairs: Pairs
    layout: str | None = None  # nchw, nhwc, nhw or ncl; None to infer
    classes: tuple[str, ...] | None = None  # None to infer
    notes: tuple[str, ...] = ()  # on where the arrays come from


def prepare(raw: Raw) -> Found:
    """Checked, laid out, cut and normalised: raw arrays made ready to train on."""
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
    target, classes, ys = encode(ys, raw)
    _check_shapes(xs, ys, raw.where)
    _check_counts(ys["train"], classes, raw.where)
    xs, ys, notes = _cut_missing(xs, ys, raw)
    if target == "labels" and all((y.sum(1) == 1).all() for y in ys.values()):
        notes += ("every y has exactly one 1: if it is one class a sample, give y.argmax(1)",)
    xs, note = normalise(xs)
    notes = (*raw.notes, f"axes read as {layout}", *notes, note)
    return Found(_splits(xs, ys, notes), target, classes)


def _splits(xs: dict[str, Array], ys: dict[str, Array], notes: tuple[str, ...]) -> Splits:
    import torch

    parts = {s: Split(torch.from_numpy(xs[s]), torch.from_numpy(ys[s])) for s in SPLITS}
    return Splits(**parts, notes=notes)


def _layout(shape: tuple[int, ...], where: str) -> str:
    if len(shape) == 3:
        return "nhw"
    if len(shape) == 4:
        last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
        return "nhwc" if last else "nchw"
    raise TaskError(
        f"{where}: x has shape {list(shape)}; it must be (n, height, width) or have one axis of "
        "channels more: reshape it, e.g. a table of features with x[:, :, None, None]"
    )


def lay_out(x: Array, layout: str, where: str) -> Array:
    """x as (n, channels, ...): nhw gains the axis, nhwc moves it, nchw and ncl stay."""
    if layout not in ("nhw", "nhwc", "nchw", "ncl") or x.ndim != len(layout):
        raise TaskError(
            f"{where}: x of shape {list(x.shape)} is not laid out as {layout!r}; "
            "a layout is one of nhw, nhwc, nchw and ncl, a letter an axis: correct either"
        )
    if layout == "nhw":
        return x[:, None]
    return np.moveaxis(x, -1, 1) if layout == "nhwc" else x


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


def encode(ys: dict[str, Array], raw: Raw) -> tuple[Target, tuple[str, ...], dict[str, Array]]:
    """(target, class names, y as in Split): what y is follows from its axes."""
    train = ys["train"]
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
        return "labels", classes, {s: y.astype(np.float32) for s, y in coded.items()}
    return "class" if train.ndim == 1 else "pixels", classes, coded


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
        counts = np.bincount(y.ravel(), minlength=len(classes))
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


def _cut_missing(
    xs: dict[str, Array], ys: dict[str, Array], raw: Raw
) -> tuple[dict[str, Array], dict[str, Array], tuple[str, ...]]:
    shares = {s: share for s, share in (("test", TEST), ("valid", VALID)) if s not in xs}
    if not shares:
        return xs, ys, ()
    x, y = xs["train"], ys["train"]
    parts = cut(y, shares.get("test", 0), shares.get("valid", 0), raw.where)
    how = "stratified" if y.ndim == 1 else "at random"
    said = " and then ".join(f"{s} ({share:.0%})" for s, share in shares.items())
    return (
        xs | {split: x[i] for split, i in parts.items()},
        ys | {split: y[i] for split, i in parts.items()},
        (f"{said} cut from train, {how}, always the same",),
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
