"""Pictures in folders: a sub-folder a class, or pictures with a mask each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.task.decode import Mode, Picture, Seen, Unreadable, decode, decode_mask, glance, in_order
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import Samples
from nas.task.source.listing import (
    Listing,
    by_class,
    files_below,
    key_of,
    left_out,
    named,
    shown_while,
    split_folders,
)
from nas.task.store import Store, new_array, stored

if TYPE_CHECKING:
    from nas.journal import JSON

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
IMAGES, MASKS = ("images", "image", "imgs"), ("masks", "mask", "labels", "annotations")
SIDE, LARGEST = 96, 512  # pixels: the default of unequal pictures; equal ones stay up to here
MULTIPLE = 8  # of which the default side is one
DEPTHS = {"I;16": "uint16", "I;16B": "uint16", "I": "int32", "F": "float32"}


def read_pictures(path: Path, options: Options) -> Samples:
    """Pictures of a folder, or of its train, valid and test: with masks where there are a folder
    of images and one of masks, otherwise one sub-folder a class. They are decoded once."""
    options.refuse(str(path), "target", "size", "fit", "skip_corrupt")
    within = split_folders(path)
    masked = {split: _masked(folder) for split, folder in within.items()}
    listing = _listing(path, within, masked, options.target)
    listing, picture, store = decoded(listing, options)
    y = np.array(listing.classes)
    if listing.masks:
        key = key_of(path, listing.masks, replace(options, target=""), picture)
        masks = stored(key, f"masks of {path}", partial(_decoded_masks, listing, picture))
        y = masks.array("y")
    return samples_of(listing, picture, store, y)


def decoded(listing: Listing, options: Options) -> tuple[Listing, Picture, Store]:
    """The pictures of a listing, decoded once: what of it can be read, how they became numbers, and
    where they are kept. Raises TaskError where nothing of a split can be read."""
    path, asked = listing.path, replace(options, target="")
    store = stored(key_of(path, listing.files, asked), str(path), partial(_decoded, listing, asked))
    given = dict.fromkeys(listing.splits)
    listing = listing.without(set(store.facts["left_out"]))
    if lost := [split for split in given if split not in listing.splits]:
        raise TaskError(f"{path}: no picture of {lost[0]} can be read, all are left out")
    return listing, Picture(**store.facts["picture"]), store


def samples_of(listing: Listing, picture: Picture, store: Store, y: Any, **more: Any) -> Samples:
    """Decoded pictures with the y of each, by split, in which the listing has them in turn."""
    x, starts = (
        store.array("x"),
        {s: listing.splits.index(s) for s in dict.fromkeys(listing.splits)},
    )
    spans = {s: slice(a, a + listing.splits.count(s)) for s, a in starts.items()}
    pairs = {split: (x[span], y[span]) for split, span in spans.items()}
    notes = (*listing.notes, *store.facts["notes"], *more.pop("notes", ()))
    layout, where = "nhw" if x.ndim == 3 else "nhwc", str(listing.path)
    return Samples(where, pairs, layout, notes=notes, picture=picture, store=store, **more)


def _listing(
    path: Path,
    within: Mapping[str, Path],
    masked: Mapping[str, tuple[Path, Path] | None],
    target: str,
) -> Listing:
    if target not in ("", "class", "masks"):
        raise TaskError(f"{path}: target = {target!r}; of pictures it is class or masks")
    if target == "masks" and not masked["train"]:
        raise TaskError(f"{path}: there are no masks: put them into masks/, beside images/")
    if masked["train"] and target != "class":
        return _with_masks(path, masked)
    return by_class(
        path, {s: (masked[s] or (folder,))[0] for s, folder in within.items()}, PICTURES
    )


def _decoded(
    listing: Listing, options: Options, folder: Path, torn: Mapping[int, str] | None = None
) -> Mapping[str, JSON]:
    """Write a listing's pictures into a folder, but for those known to be torn; what is known."""
    total, whole, known = len(listing.files), listing, dict(torn or {})
    seen = list(shown_while("looking at pictures", in_order(glance, listing.files), total))
    broken = {i: s.reason for i, s in enumerate(seen) if isinstance(s, Unreadable)} | known
    notes = left_out(listing, broken, options)
    listing = listing.without(set(broken))
    readable = [s for i, s in enumerate(seen) if isinstance(s, Seen) and i not in broken]
    picture, dtype, more = chosen_picture(readable, [str(f) for f in listing.files], options)
    channels = len(picture.mode) if picture.mode else 1
    shape = (len(listing.files), picture.height, picture.width)
    x = new_array(folder, "x", dtype, shape if channels == 1 else (*shape, channels))
    results = in_order(partial(decode, picture=picture), listing.files)
    torn = _fill(x, shown_while("reading pictures", results, total))
    if torn:  # only their beginning is a picture: all others once more, without them
        left_out(listing, torn, options)
        places = [i for i in range(total) if i not in broken]
        torn_files = {places[i]: reason for i, reason in torn.items()}
        return _decoded(whole, options, folder, {**known, **broken, **torn_files})
    return {"picture": asdict(picture), "left_out": list(broken), "notes": [*notes, *more]}


def _decoded_masks(listing: Listing, picture: Picture, folder: Path) -> Mapping[str, JSON]:
    """Write masks into a folder."""
    pairs = zip(listing.files, listing.masks, strict=True)
    pictures, masks = in_order(glance, listing.files), in_order(glance, listing.masks)
    wide = False
    for (file, mask_file), seen, mask in zip(pairs, pictures, masks, strict=True):
        if isinstance(seen, Unreadable) or isinstance(mask, Unreadable):
            continue
        wide = wide or mask.deep
        if abs(mask.height * seen.width / seen.height - mask.width) > 1:
            raise TaskError(
                f"{mask_file}: is {mask.width}x{mask.height}, and its picture {file.name} "
                f"{seen.width}x{seen.height}, turned as its EXIF says; a mask has its picture's "
                "proportions: turn or resize it"
            )
    shape = (len(listing.masks), picture.height, picture.width)
    y = new_array(folder, "y", "int32" if wide else "uint8", shape)
    results = in_order(partial(decode_mask, picture=picture), listing.masks)
    broken = _fill(y, shown_while("reading masks", results, len(listing.masks)))
    if broken:
        raise TaskError(named(listing.masks, broken, "masks") + ": mend them, or remove the pairs")
    return {}


def _fill(array: Any, results: Iterator[Any | Unreadable]) -> dict[int, str]:
    """Write results into an array; those that are none, and why."""
    broken = dict[int, str]()
    for number, result in enumerate(results):
        if isinstance(result, Unreadable):
            broken[number] = result.reason
        else:
            array[number] = result
    array.flush()
    return broken


def chosen_picture(
    seen: Sequence[Seen], names: Sequence[str], options: Options
) -> tuple[Picture, str, list[str]]:
    """How all pictures become numbers, of which type, and notes: colours as any has them, in the
    size that is asked for, or that all have, or in a small square."""
    if not seen:
        raise TaskError("none of its files is a readable picture")
    deep = [glimpse.deep for glimpse in seen]
    if any(deep) and not all(deep):
        at = deep.index(not deep[0])
        raise TaskError(
            f"{names[at]}: is of mode {seen[at].mode}, and {names[0]} of {seen[0].mode}; all must "
            "have 8 bits a channel, or none: convert some"
        )
    alpha = any(glimpse.alpha for glimpse in seen)
    mode: Mode = "L" if all(glimpse.grey for glimpse in seen) else "RGB"
    if alpha:
        mode = "LA" if mode == "L" else "RGBA"
    notes = ["alpha is the last channel, since not all pictures are opaque"] if alpha else []
    dtype = "uint8"
    if all(deep):
        mode, notes = "", []
        dtype = str(np.result_type(*{DEPTHS.get(glimpse.mode, "float32") for glimpse in seen}))
    sizes = {(glimpse.height, glimpse.width) for glimpse in seen}
    if options.size:
        height, width = options.size
    elif len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST:
        ((height, width),) = sizes
    else:
        shorter = min(SIDE, median_low(min(size) for size in map(_sides, seen)))
        height = width = max(MULTIPLE, shorter // MULTIPLE * MULTIPLE)
    picture = Picture(mode, height, width, options.fit)
    if sizes != {(height, width)}:
        least, most = ("x".join(map(str, size[::-1])) for size in (min(sizes), max(sizes)))
        chosen = "" if options.size else "; another size: --size 128, or size = 128 under [data]"
        notes.append(f"pictures from {least} to {most} are {picture}{chosen}")
    return picture, dtype, notes


def _sides(glimpse: Seen) -> tuple[int, int]:
    return glimpse.height, glimpse.width


def _masked(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks, where there are both."""
    folders = [
        next((folder / n for n in names if (folder / n).is_dir()), None)
        for names in (IMAGES, MASKS)
    ]
    return (folders[0], folders[1]) if folders[0] and folders[1] else None


def _with_masks(path: Path, masked: Mapping[str, tuple[Path, Path] | None]) -> Listing:
    files, masks, splits = list[Path](), list[Path](), list[str]()
    for split, folders in masked.items():
        if folders is None:
            raise TaskError(f"{path}: {split} lacks a folder of images or of masks; train has both")
        ours, theirs = (_by_stem(folder) for folder in folders)
        if alone := sorted(ours.keys() ^ theirs.keys()):
            raise TaskError(
                f"{path}: {alone[0]!r}, the first of {len(alone)}, is a picture without a mask or "
                "the other way round; each picture needs a mask of its own name: add or remove it"
            )
        order = sorted(ours, key=ours.__getitem__)
        files += [ours[stem] for stem in order]
        masks += [theirs[stem] for stem in order]
        splits += [split] * len(ours)
    return Listing(path, tuple(files), tuple(splits), masks=tuple(masks))


def _by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their names without suffixes, which pair them with masks."""
    by_stem: dict[str, Path] = {}
    for file in files_below(folder, PICTURES):
        stem = str(file.relative_to(folder).with_suffix(""))
        if stem in by_stem:
            raise TaskError(
                f"{file} and {by_stem[stem]} have one name but for the suffix, and by names "
                "pictures and masks are paired: rename one"
            )
        by_stem[stem] = file
    return by_stem
