"""Readers: from a file, a folder, a function or scikit-learn to three splits in memory."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.task.task import Split, Splits, Target, TaskError

Array = npt.NDArray[Any]
Pairs = dict[str, tuple[Array, Array]]  # split -> (x, y)

SEED = 2024  # of every cut of a split
TEST, VALID = 0.20, 0.15  # shares: test of the whole, valid of what is left
SPLITS = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}
WORDS = (("x", "y"), ("images", "labels"))
IDX = {"train": "train", "test": "t10k"}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}


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


def read(
    kind: str,
    source: str,
    layout: str | None,
    target: Target | None,
    classes: tuple[str, ...] | None,
) -> Found:
    """The data of a reader; raises TaskError where it is not what was declared."""
    if kind == "scenes":
        from nas.task.scenes import read_scenes

        found = read_scenes(target)
    elif kind == "digits":
        found = read_digits()
    else:
        raw = run_code(source) if kind == "code" else read_path(Path(source))
        found = prepare(replace(raw, layout=layout or raw.layout, classes=classes or raw.classes))
    declared = (("target", target, found.target), ("classes", classes, found.classes))
    for key, said, is_so in declared:
        if said not in (None, is_so):
            raise TaskError(
                f"{source or kind}: {key} = {said!r}, but the data has {is_so!r}; "
                f"the two must agree: correct {key} or the data"
            )
    return found


@cache
def raw_digits() -> tuple[Array, Array]:
    """scikit-learn's digits: pictures (1797, 8, 8) in 0 to 1, values (1797,) int64."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

    bunch = load_digits()
    return bunch.images / 16, bunch.target.astype(np.int64)


@cache
def digit_parts() -> dict[str, Array]:
    """Which digits are in train (64 %), valid (16 %) and test (20 %)."""
    return cut(raw_digits()[1], 0.2, 0.2, "digits")


@cache
def read_digits() -> Found:
    """The digits task, ready to train on."""
    pictures, values = raw_digits()
    pairs = {split: (pictures[i], values[i]) for split, i in digit_parts().items()}
    found = prepare(Raw("digits", pairs))
    note = "stratified 64 % train, 16 % valid, 20 % test; pixels over 16"
    return replace(found, splits=replace(found.splits, notes=(note, *found.splits.notes)))


def read_path(path: Path) -> Raw:
    """An .npz file, or a folder of idx files, of .npy files or of pictures by class."""
    if path.is_dir():
        return read_folder(path)
    if path.suffix != ".npz":
        raise TaskError(
            f"{path}: data comes from an .npz file, a folder, or a function "
            "(package.module:function); convert it, e.g. np.savez('data.npz', x=x, y=y)"
        )
    if not zipfile.is_zipfile(path):
        raise TaskError(f"{path}: is no whole .npz file; save it anew with np.savez")
    with np.load(path, allow_pickle=False) as file:
        return named_arrays({name: _plain(file.__getitem__, name, path) for name in file}, path)


def _plain(load: Callable[[Any], Array], key: Any, where: Path) -> Array:
    try:
        return load(key)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TaskError(
            f"{where}: {key} is no plain array ({error}); samples must be of one size and of "
            "numbers, or strings for classes: make them one array, not a list of arrays"
        ) from None


def named_arrays(arrays: Mapping[str, Array], where: Path) -> Raw:
    """Pairs by name: x and y, x_train and y_train, train_x, train_images and so on."""
    known = {name.lower(): array for name, array in arrays.items()}
    pairs: Pairs = {}
    for split, spellings in SPLITS.items():
        names = [(f"{x}_{s}", f"{y}_{s}") for x, y in WORDS for s in spellings]
        names += [(f"{s}_{x}", f"{s}_{y}") for x, y in WORDS for s in spellings]
        names += list(WORDS) if split == "train" else []
        for x, y in names:
            if (x in known) != (y in known) and split not in pairs:
                raise _unpaired(where, arrays, f"{x if x in known else y} stands alone")
            if x in known:
                pairs.setdefault(split, (known[x], known[y]))
    if "train" not in pairs:
        raise _unpaired(where, arrays, "there is no training data")
    layout = str(known["layout"]) if "layout" in known else None
    classes = tuple(map(str, known["classes"])) if "classes" in known else None
    return Raw(str(where), pairs, layout, classes)


def _unpaired(where: Path, arrays: Iterable[str], fault: str) -> TaskError:
    return TaskError(
        f"{where}: holds {', '.join(arrays) or 'nothing'}, and {fault}; name the arrays x and y, "
        "or x_train and y_train (also _valid and _test)"
    )


def read_folder(path: Path) -> Raw:
    """Whichever of the three kinds of folder it is; raises TaskError when it is none."""
    if any(path.glob("*-images*idx3-ubyte*")):
        return read_idx_folder(path)
    files = sorted(path.glob("*.npy"))
    if files:
        return named_arrays({file.stem: _plain(np.load, file, path) for file in files}, path)
    return read_pictures(path)


def read_idx_folder(path: Path) -> Raw:
    """MNIST's files (LeCun et al. 1998), plain or gzipped."""
    pairs: Pairs = {}
    for split, stem in IDX.items():
        files = [
            next(iter(sorted(path.glob(f"{stem}-{kind}*ubyte*"))), None)
            for kind in ("images", "labels")
        ]
        if files[0] and files[1]:
            pairs[split] = (read_idx(files[0]), read_idx(files[1]))
    if "train" not in pairs:
        raise TaskError(
            f"{path}: training needs train-images-idx3-ubyte and train-labels-idx1-ubyte "
            "(or both with .gz); add the missing one"
        )
    return Raw(str(path), pairs)


def read_idx(path: Path) -> Array:
    """One idx file of bytes: two zeros, 8, the number of axes, their sizes, the values."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        axes = data[3]
        shape = np.frombuffer(data, ">i4", axes, 4).astype(int)
        values = np.frombuffer(data, np.uint8, -1, 4 + 4 * axes)
        if data[:3] != b"\0\0\x08" or values.size != shape.prod():
            raise ValueError(f"{values.size} values where the header says {list(shape)}")
    except (ValueError, IndexError, OSError, EOFError) as error:
        raise TaskError(f"{path}: is no whole idx file of bytes ({error}); fetch it anew") from None
    return values.reshape(shape)


def read_pictures(path: Path) -> Raw:
    """One sub-folder a class, in the folder itself or in its train, valid and test."""
    within = {s: path / n for s, names in SPLITS.items() for n in names if (path / n).is_dir()}
    if "train" not in within:
        within = {"train": path}
    files = {split: _pictures(folder) for split, folder in within.items()}
    everything = [file for split in files.values() for file in split]
    if not files["train"]:
        raise TaskError(
            f"{path}: holds no idx files, no .npy files and no sub-folder of pictures; "
            "put each class's pictures into a sub-folder of the class's name"
        )
    pixels = dict(zip(everything, _decoded(everything), strict=True))
    pairs = {
        split: (np.stack([pixels[f] for f in some]), np.array([f.parent.name for f in some]))
        for split, some in files.items()
    }
    return Raw(str(path), pairs, "nhw" if pairs["train"][0].ndim == 3 else "nhwc")


def _pictures(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.glob("*/*") if f.suffix.lower() in PICTURES)
    return [f for f in files if not f.parent.name.startswith(".")]


def _decoded(files: list[Path]) -> list[Array]:
    """(height, width) of greys when all pictures are grey, else (height, width, 3)."""
    try:
        from PIL import Image
    except ImportError:
        raise TaskError("reading pictures needs Pillow: pip install pillow") from None
    found = []
    for file in files:
        try:
            with Image.open(file) as image:
                found.append(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        except OSError as error:
            raise TaskError(f"{file}: is no readable picture ({error}); remove it") from None
        if found[-1].size != found[0].size:
            raise TaskError(
                f"{file}: {found[-1].size} pixels, but {files[0]} has {found[0].size}; "
                "all pictures must be of one size: resize them"
            )
    grey = all(image.mode == "L" for image in found)
    return [np.asarray(image if grey else image.convert("RGB")) for image in found]


def run_code(source: str) -> Raw:
    """What module:function returns, called without arguments: a Dataset, 2 or 3, or a dict."""
    module, _, function = source.rpartition(":")
    try:
        given = getattr(_module(module), function)()
    except Exception as error:
        raise TaskError(
            f"{source}: raised {type(error).__name__}: {error}; the function must exist, take no "
            "arguments and return a Dataset, (train, test), (train, valid, test) or a dict of "
            "them; a module must be importable from here, else write ./file.py:function"
        ) from error
    if isinstance(given, Mapping):
        parts = {s: given[n] for s, names in SPLITS.items() for n in names if n in given}
    else:
        some = given if isinstance(given, tuple) else (given,)
        names = ("train", "test") if len(some) == 2 else ("train", "valid", "test")
        parts = dict(zip(names, some, strict=False))
    if "train" not in parts:
        raise TaskError(f"{source}: returned no train split; return one, or a dict with 'train'")
    return Raw(source, {s: _stacked(part, f"{source}, {s}") for s, part in parts.items()})


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _stacked(dataset: Any, where: str) -> tuple[Array, Array]:
    sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    try:
        items = [dataset[i] for i in range(len(dataset))] if sized else list(dataset)
        columns = [[np.asarray(part) for part in column] for column in zip(*items, strict=True)]
        x, y = (np.stack(column) for column in columns)
    except (ValueError, TypeError) as error:
        raise TaskError(
            f"{where}: items cannot be stacked ({error}); each must be (x, y), every x of one "
            "size: resize or pad them, and give each an (x, y)"
        ) from error
    return x, y


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
    return Found(_splits(xs, ys, (f"axes read as {layout}", *notes, note)), target, classes)


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
    return real / np.float32(255) if x.dtype == np.uint8 else real


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


def normalise(xs: dict[str, Array]) -> tuple[dict[str, Array], str]:
    """(x float32 by the training mean and deviation of each channel, a note saying so)."""
    train = xs["train"]
    axes = (0, *range(2, train.ndim))
    mean = train.mean(axes, keepdims=True, dtype=np.float64).astype(np.float32)
    spread = train.std(axes, keepdims=True, dtype=np.float64).astype(np.float32)
    spread[train.max(axes, keepdims=True) == train.min(axes, keepdims=True)] = 1
    numbers = [", ".join(f"{v:.4g}" for v in some.ravel()[:4]) for some in (mean, spread)]
    more = ", ..." if mean.size > 4 else ""
    note = f"x less the mean {numbers[0]}{more}, over the deviation {numbers[1]}{more}, of train"
    return {s: np.ascontiguousarray((x - mean) / spread, np.float32) for s, x in xs.items()}, note
