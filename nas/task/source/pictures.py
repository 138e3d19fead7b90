"""Pictures in folders: a sub-folder a class, or pictures with a mask each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.task.error import TaskError
from nas.task.samples import SPLITS, Samples

if TYPE_CHECKING:
    from PIL.Image import Image

    from nas.task.samples import Array, Pairs

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
IMAGES, MASKS = ("images", "image", "imgs"), ("masks", "mask", "labels", "annotations")
SHOWN = 5  # files that an error names


def read_pictures(path: Path) -> Samples:
    """Pictures of a folder, or of its train, valid and test: with masks where there are a folder
    of images and one of masks, otherwise one sub-folder a class."""
    within = {s: path / n for s, names in SPLITS.items() for n in names if (path / n).is_dir()}
    if "train" not in within:
        within = {"train": path}
    masked = {split: _masked(folder) for split, folder in within.items()}
    if masked["train"]:
        return _with_masks(path, masked)
    return _by_class(path, within)


def _masked(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks, where there are both."""
    folders = [
        next((folder / n for n in names if (folder / n).is_dir()), None)
        for names in (IMAGES, MASKS)
    ]
    return (folders[0], folders[1]) if folders[0] and folders[1] else None


def _by_class(path: Path, within: dict[str, Path]) -> Samples:
    files, notes = dict[str, list[Path]](), list[str]()
    for split, folder in within.items():
        files[split] = []
        for folder_of in sorted(f for f in folder.iterdir() if f.is_dir() and _shown(f)):
            own = _pictures(folder_of)
            files[split] += own
            below = (f for f in folder_of.rglob("*") if f.is_dir() and _shown_below(f, folder_of))
            deeper = sum(len(_pictures(folder)) for folder in below)
            if deeper:
                raise TaskError(
                    f"{folder_of}: {deeper} pictures lie in folders below the class's own; put "
                    "them into the class's folder, since the folder above a picture is its class"
                )
            if not own:
                notes.append(f"{folder_of.name} holds no picture and is no class")
    if not files["train"]:
        raise TaskError(
            f"{path}: holds no idx files, no .npy files and no sub-folder of pictures; "
            "put each class's pictures into a sub-folder of the class's name"
        )
    everything = [file for some in files.values() for file in some]
    pixels, more = decoded(everything)
    place = dict(zip(everything, pixels, strict=True))
    pairs = {
        split: (np.stack([place[f] for f in some]), np.array([f.parent.name for f in some]))
        for split, some in files.items()
    }
    return _samples(path, pairs, (*notes, *more))


def _with_masks(path: Path, masked: dict[str, tuple[Path, Path] | None]) -> Samples:
    images, masks, splits = list[Path](), list[Path](), list[str]()
    for split, folders in masked.items():
        if folders is None:
            raise TaskError(f"{path}: {split} lacks a folder of images or of masks; train has both")
        ours, theirs = (_by_stem(folder) for folder in folders)
        if alone := sorted(ours.keys() ^ theirs.keys()):
            raise TaskError(
                f"{path}: {alone[0]!r}, the first of {len(alone)}, is a picture without a mask or "
                "the other way round; each picture needs a mask of its own name: add or remove it"
            )
        images += [ours[stem] for stem in sorted(ours)]
        masks += [theirs[stem] for stem in sorted(ours)]
        splits += [split] * len(ours)
    x, notes = decoded(images)
    y = [_mask(image, file) for image, file in zip(_opened(masks), masks, strict=True)]
    _one_size(y, masks)
    at = np.array(splits)
    pairs = {s: (np.stack(x)[at == s], np.stack(y)[at == s]) for s in dict.fromkeys(splits)}
    return _samples(path, pairs, notes)


def _by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names without suffixes, which pair them with masks."""
    by_stem: dict[str, Path] = {}
    for file in _pictures(folder):
        if file.stem in by_stem:
            raise TaskError(
                f"{file} and {by_stem[file.stem]} have one name but for the suffix, and by names "
                "pictures and masks are paired: rename one"
            )
        by_stem[file.stem] = file
    return by_stem


def _samples(path: Path, pairs: Pairs, notes: Sequence[str]) -> Samples:
    layout = "nhw" if pairs["train"][0].ndim == 3 else "nhwc"
    return Samples(str(path), pairs, layout, notes=tuple(notes))


def _shown(path: Path) -> bool:
    return not path.name.startswith((".", "__MACOSX"))


def _shown_below(path: Path, folder: Path) -> bool:
    return all(_shown(Path(part)) for part in path.relative_to(folder).parts)


def _pictures(folder: Path) -> list[Path]:
    files = (f for f in folder.glob("*") if f.suffix.lower() in PICTURES and f.is_file())
    return sorted(file for file in files if _shown(file))


def decoded(files: Sequence[Path]) -> tuple[list[Array], tuple[str, ...]]:
    """Pixels, (height, width) where all pictures are grey, else (height, width, channels), and
    notes on them. Turned as their EXIF says; 16 bits and floats as they are; an alpha channel that
    says anything is a channel."""
    images = _opened(files)
    deep = [image.mode.startswith(("I", "F")) for image in images]
    if any(deep) and not all(deep):
        at = deep.index(not deep[0])
        raise TaskError(
            f"{files[at]}: is of mode {images[at].mode}, and {files[0]} of {images[0].mode}; all "
            "must have 8 bits a channel, or none: convert some"
        )
    if all(deep):
        return _one_size([np.asarray(image) for image in images], files), ()
    alpha = any(map(_transparent, images))
    grey = all(image.mode in ("1", "L", "LA") for image in images)
    mode = ("L" if grey else "RGB") + ("A" if alpha else "")
    notes = ("alpha is the last channel, since not all pictures are opaque",) if alpha else ()
    return _one_size([np.asarray(image.convert(mode)) for image in images], files), notes


def _transparent(image: Image) -> bool:
    """Whether a picture has an alpha channel that is not opaque everywhere."""
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)


def _mask(image: Image, file: Path) -> Array:
    """A mask's classes, (height, width): a palette's indices, or greys as numbers."""
    if image.mode == "P" or image.mode.startswith("I"):
        return np.asarray(image)
    if image.mode not in ("1", "L"):
        raise TaskError(
            f"{file}: a mask of mode {image.mode}; a mask holds a class a pixel, as greys or by a "
            "palette: convert it"
        )
    return np.asarray(image.convert("L"))


def _opened(files: Sequence[Path]) -> list[Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise TaskError("reading pictures needs Pillow: pip install 'nas-engine[images]'") from None
    images, broken = [], list[str]()
    for file in files:
        try:
            with Image.open(file) as image:
                images.append(ImageOps.exif_transpose(image))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            broken.append(f"{file} ({error})")
    if broken:
        raise TaskError(
            f"{len(broken)} of {len(files)} are no readable pictures: {'; '.join(broken[:SHOWN])}"
            f"{'; …' if len(broken) > SHOWN else ''}: remove or replace them"
        )
    return images


def _one_size(arrays: list[Array], files: Sequence[Path]) -> list[Array]:
    for array, file in zip(arrays, files, strict=True):
        if array.shape[:2] != arrays[0].shape[:2]:
            ours, first = ("x".join(map(str, a.shape[1::-1])) for a in (array, arrays[0]))
            raise TaskError(
                f"{file}: {ours} pixels, but {files[0]} has {first}; "
                "all pictures must be of one size: resize them"
            )
    return arrays
