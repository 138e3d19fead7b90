"""From arrays as found to splits ready to train on: layout, target, missing splits, scale."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.task.cut import TEST, VALID
from nas.task.enlarge import Enlarged
from nas.task.error import TaskError
from nas.task.preparation import (
    BYTES,
    Inputs,
    Preparation,
    chunks,
    digest,
    moments,
    spectral_moments,
)
from nas.task.samples import SPLITS, Prepared, Samples, Split, Splits
from nas.task.sound import FULL
from nas.task.target import TARGETS, Target

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]

LAYOUTS = ("nf", "nhw", "nlc", "ncl", "nhwc", "nchw")
SERIES_CHANNELS = 4  # of an axis with more one may think as a picture's side,
LONGEST = 4  # if the other is at most so many times as long


def prepare(
    samples: Samples, like: Prepared | None = None, to: tuple[int, ...] | None = None
) -> Prepared:
    """Checked, laid out, cut and to be normalised: arrays as found, of which none is copied.

    like: what was made of the same samples for another task: its cut is taken, and where it is the
    same its x. to: the shape that pictures are enlarged to.
    """
    where = samples.where
    layout = samples.layout or _layout(samples.pairs["train"][0].shape, where)
    xs, ys = _laid_out(samples, layout)
    target = _recognised(ys, samples.target, where)
    classes, ys, notes, units = target.encode(ys, samples.classes, where)
    _check_shapes(xs, ys, where)
    ys = target.placed(ys, xs["train"].shape[1:], classes, where)
    target.check(ys["train"], xs["train"].shape[1:], classes, where)
    if samples.spectrum and to:
        raise TaskError(f"{where}: to cannot be asked of recordings: ask for seconds=3, bands=40")
    enlarged = _enlarged(xs["train"].shape[1:], to, where)
    _one_scale(samples)
    parts, cut_notes = _parts(xs, ys, target, len(classes), where, like)
    notes = cut_notes + notes
    if parts is not None:
        ys |= {split: ys["train"][i] for split, i in parts.items()}
        _check_occurring(target.strata(ys["train"]), classes, where)
        ys, units = target.rescaled(ys, units)
    target.settled(ys, len(classes), where)
    whole = f"{sorted(_contents(samples, xs, layout).items())}"
    reshaped = enlarged or samples.spectrum
    if like and (like.content, like.preparation.reshaped) == (whole, reshaped):
        notes = (*samples.notes, *notes, *like.splits.notes[-1:])
        inputs = {split: getattr(like.splits, split).inputs for split in SPLITS}
        preparation = like.preparation
    else:
        if samples.fit is not None and parts is not None:
            samples = samples.fit(parts["train"])
            xs, _ = _laid_out(samples, layout)
        inputs, preparation = _inputs(samples, xs, parts, layout, enlarged)
        notes = (*samples.notes, f"axes read as {layout}", *notes, str(preparation))
    if enlarged and target.dense:
        ys = {split: enlarged.map(y) for split, y in ys.items()}
    splits = {split: Split(inputs[split], _tensor(ys[split])) for split in SPLITS}
    whole_splits = Splits(**splits, notes=notes, units=units)
    return Prepared(whole_splits, target.name, classes, preparation, whole, parts)


def _enlarged(found: tuple[int, ...], to: tuple[int, ...] | None, where: str) -> Enlarged | None:
    enlarged = Enlarged(found, to) if to and to != found else None
    if enlarged and enlarged.fault:
        raise TaskError(f"{where}: {enlarged}: {enlarged.fault}")
    return enlarged


def _inputs(
    samples: Samples,
    xs: Mapping[str, Array],
    parts: Mapping[str, Array] | None,
    layout: str,
    enlarged: Enlarged | None,
) -> tuple[dict[str, Inputs], Preparation]:
    """Every split's x, and how it is prepared."""
    spectrum = samples.spectrum
    scale = FULL if spectrum else BYTES if xs["train"].dtype == np.uint8 else 1.0
    at = parts["train"] if parts else None
    cut_digest = "whole" if at is None else digest(at)
    key = f"moments {layout} {cut_digest} {scale}{f' {spectrum}' if spectrum else ''}"
    mean, deviation = samples.remembered(
        key,
        lambda: (
            spectral_moments(xs["train"], at, scale, spectrum)
            if spectrum
            else moments(xs["train"], at, scale)
        ),
    )
    repeated = enlarged.to[0] // enlarged.found[0] if enlarged else 1
    numbers = scale, tuple(mean) * repeated, tuple(deviation) * repeated
    preparation = Preparation(
        *numbers, samples.picture, layout, samples.table, enlarged, samples.sound, spectrum
    )
    contents = _contents(samples, xs, layout)
    inputs = {split: Inputs(x, preparation, None, contents[split]) for split, x in xs.items()}
    for split, place in (parts or {}).items():
        inputs[split] = Inputs(xs["train"], preparation, place, contents["train"])
    return inputs, preparation


def _contents(samples: Samples, xs: Mapping[str, Array], layout: str) -> dict[str, str]:
    """A digest of every split's x as it was found."""
    return {
        split: samples.remembered(f"content {layout} {split}", partial(digest, x))
        for split, x in xs.items()
    }


def _tensor(y: Array) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(y))


def _laid_out(samples: Samples, layout: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """x by split as (n, channels, ...), and y with its axes of one left out."""
    xs: dict[str, Array] = {}
    ys: dict[str, Array] = {}
    for split, (x, y) in samples.pairs.items():
        where = f"{samples.where}, {split}"
        if not x.size or not y.size:
            raise TaskError(f"{where}: x or y is empty; give at least 4 samples of each")
        if x.shape[:1] != y.shape[:1]:
            raise TaskError(
                f"{where}: x has shape {list(x.shape)} but y {list(y.shape)}; "
                "each sample needs one of each: remove those without a partner"
            )
        check_numbers(x, where)
        xs[split] = lay_out(x, layout, where)
        ys[split] = _plain_y(y, where)
    return xs, ys


def _recognised(ys: Mapping[str, Array], declared: str | None, where: str) -> Target:
    """The target whose y these are; raises TaskError for a split where they are none's."""
    asked = [TARGETS[declared]] if declared else list(TARGETS.values())
    possible = [target for target in asked if target.recognises(ys["train"])][:1]
    for split, y in ys.items():
        if not any(target.recognises(y) for target in possible):
            known = ", or ".join(target.y for target in possible or asked)
            asked_for = f"target = {declared!r}, but " if declared else ""
            raise TaskError(
                f"{where}, {split}: {asked_for}y is {y.dtype} of shape {list(y.shape)}; it must be "
                f"{known}: convert it"
            )
    return possible[0]


def _parts(
    xs: Mapping[str, Array],
    ys: Mapping[str, Array],
    target: Target,
    classes: int,
    where: str,
    like: Prepared | None,
) -> tuple[Mapping[str, Array] | None, tuple[str, ...]]:
    """Which samples of train go to the splits that were not given, None where all were; notes."""
    shares = {s: share for s, share in (("test", TEST), ("valid", VALID)) if s not in xs}
    if not shares:
        return None, ()
    if like is not None and TARGETS[like.target].holds_out != target.holds_out:
        raise TaskError(
            f"{where}: one task of these samples holds classes out of training and another learns "
            "all of them: search them in runs of their own"
        )
    if like is not None and like.parts is not None:
        return like.parts, ("cut as the other task of the same samples",)
    parts, how = target.cut(ys["train"], classes, shares, where)
    words = " and then ".join(f"{s} ({share:.0%})" for s, share in shares.items())
    return parts, (f"{words} cut from train, {how}, always the same",)


def _one_scale(samples: Samples) -> None:
    """Raise TaskError where some splits are bytes, which are divided by 255, and others are not."""
    kinds = {split: x.dtype == np.uint8 for split, (x, _) in samples.pairs.items()}
    if len(set(kinds.values())) > 1:
        dtypes = ", ".join(f"{split} {x.dtype}" for split, (x, _) in samples.pairs.items())
        raise TaskError(
            f"{samples.where}: x is {dtypes}; bytes are read as shares of 255 and other numbers as "
            "they are, so this would be two scales: convert all splits to one type"
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


def check_numbers(x: Array, where: str) -> None:
    """Raise TaskError where some x is no number, or none that float32 holds."""
    if x.dtype.kind not in "biuf":
        raise TaskError(f"{where}: x is of {x.dtype}; a network takes real numbers: convert it")
    if x.dtype.kind != "f":
        return
    bad, first, before = 0, None, 0
    for chunk in chunks(x):
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(chunk.astype(np.float32))
        if wrong.any() and first is None:
            at = np.argwhere(wrong)[0].tolist()
            first = [at[0] + before, *at[1:]]
        bad, before = bad + int(wrong.sum()), before + len(chunk)
    if bad:
        raise TaskError(
            f"{where}: x{first} is NaN or infinite in float32, the first of {bad} such values; x "
            "must be finite: replace them (np.nan_to_num) or drop those samples"
        )


def _plain_y(y: Array, where: str) -> Array:
    """y without an axis of one; whole numbers as they are, other numbers as float64, or strings."""
    y = y[:, 0] if y.ndim in (2, 4) and y.shape[1] == 1 else y
    y = y[..., 0] if y.ndim == 4 and y.shape[3] == 1 else y
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8")
    if y.dtype.kind == "f":
        whole = bool((np.isfinite(y) & (y == np.round(y))).all())
        return y.astype(np.int64 if whole else np.float64)
    return y.astype(np.uint8) if y.dtype.kind == "b" else y


def _check_shapes(xs: dict[str, Array], ys: dict[str, Array], where: str) -> None:
    x, y = xs["train"], ys["train"]
    for split in xs:
        if xs[split].shape[1:] != x.shape[1:] or ys[split].shape[1:] != y.shape[1:]:
            raise TaskError(
                f"{where}: a sample of {split} is {list(xs[split].shape[1:])} with y "
                f"{list(ys[split].shape[1:])}, of train {list(x.shape[1:])} with y "
                f"{list(y.shape[1:])}; all must be of one size: resize them"
            )


def _check_occurring(strata: Array | None, classes: tuple[str, ...], where: str) -> None:
    """Raise TaskError where a cut left a class without a sample to train on."""
    if strata is None:
        return
    counts = np.bincount(strata, minlength=len(classes))
    if not counts.all():
        raise TaskError(
            f"{where}: no sample of class {classes[int(counts.argmin())]!r} is left in train "
            "after it was cut as the other task of the same samples is: give splits of your "
            "own, name this task first, or add samples"
        )
