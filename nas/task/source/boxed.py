"""Pictures with boxes, as COCO and Pascal VOC keep them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nas.task.decode import Picture, Unreadable, glance, in_order, shown_part
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import SPLITS, Samples
from nas.task.source.listing import Listing
from nas.task.source.pictures import decoded, samples_of
from nas.task.target.boxes import OUTSIDE

XMLS, JPEGS, SETS = "Annotations", "JPEGImages", "ImageSets/Main"
LEFT = 0.25  # share of a box that a cut picture must leave of it


class Box(NamedTuple):
    """A thing's class and place, in the picture's own pixels."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


class Boxed(NamedTuple):
    """A picture with its boxes."""

    file: Path
    split: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class _Image:
    id: int | str
    file_name: str


@dataclass(frozen=True)
class _Annotation:
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


@dataclass(frozen=True)
class _Category:
    id: int
    name: str


@dataclass(frozen=True)
class _Coco:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def holds_boxes(path: Path) -> bool:
    """Whether a folder is one of COCO's or VOC's."""
    return path.is_dir() and bool(_jsons(path) or (path / XMLS).is_dir())


def read_boxes(path: Path, options: Options) -> Samples:
    """The pictures of a folder, with their boxes as they lie on the size that pictures come to.

    COCO: a file of annotations a split, in the folder or in annotations/, named for its split.
    VOC: Annotations/, JPEGImages/ and, for splits, ImageSets/Main/. Raises TaskError for a picture
    that is missing, and for a box outside its picture or without area.
    """
    options.refuse(str(path), "size", "fit", "skip_corrupt")
    pictures, notes = _of_coco(path) if _jsons(path) else _of_voc(path)
    order = {split: number for number, split in enumerate(SPLITS)}
    pictures.sort(key=lambda boxed: (order[boxed.split], str(boxed.file)))
    by_file = {boxed.file: boxed for boxed in pictures}
    files = tuple(boxed.file for boxed in pictures)
    listing = Listing(path, files, tuple(boxed.split for boxed in pictures), notes=tuple(notes))
    listing, picture, store = decoded(listing, options)
    classes = tuple(sorted({box.name for boxed in pictures for box in boxed.boxes}))
    placed, cut = list[list[list[float]]](), 0
    for file, seen in zip(listing.files, in_order(glance, listing.files), strict=True):
        if isinstance(seen, Unreadable):
            raise TaskError(f"{file}: is no readable picture: {seen.reason}")
        boxes = by_file[file].boxes
        rows = [_row(file, box, classes, seen.width, seen.height, picture) for box in boxes]
        placed.append([row for row in rows if row])
        cut += len(rows) - len(placed[-1])
    y = np.full((len(placed), max(1, *map(len, placed)), 5), -1.0)
    for number, some in enumerate(placed):
        y[number, : len(some)] = np.reshape(some, (-1, 5))
    more = [f"{cut} boxes of which little is left in the cut pictures are left out"] if cut else []
    return samples_of(listing, picture, store, y, classes=classes, target="boxes", notes=more)


def _row(
    file: Path, box: Box, classes: Sequence[str], width: int, height: int, picture: Picture
) -> list[float]:
    """A box as it lies on the picture as it is used; [] where too little of it is left."""
    sides, ends = np.array(box[1:]), np.array([width, height, width, height])
    inside = sides.clip(0, ends)
    gone = not (inside[2:] > inside[:2]).all()
    if not (np.isfinite(sides).all() and (sides[2:] > sides[:2]).all()):
        raise _faulty(file, box, "has no area")
    if gone or np.abs(sides - inside).max() > OUTSIDE:
        raise _faulty(file, box, f"is outside its picture of {width}x{height}")
    left, top, right, bottom = shown_part(width, height, picture)
    scale = np.array([picture.width / (right - left), picture.height / (bottom - top)] * 2)
    moved = (inside - [left, top, left, top]) * scale
    shown = moved.clip(0, [picture.width, picture.height] * 2)
    share = (shown[2:] - shown[:2]).clip(min=0).prod() / (moved[2:] - moved[:2]).prod()
    return [float(classes.index(box.name)), *shown.tolist()] if share >= LEFT else []


def _faulty(file: Path, box: Box, why: str) -> TaskError:
    where = ", ".join(f"{side:g}" for side in box[1:])
    return TaskError(
        f"{file}: the box of {box.name!r} at {where} (left, top, right, bottom) {why}: correct it, "
        "or leave it out"
    )


def _jsons(path: Path) -> list[Path]:
    """COCO's files of annotations."""
    near = [path, path / "annotations", *(path / n for names in SPLITS.values() for n in names)]
    files = [file for folder in near for file in sorted(folder.glob("*.json")) if _is_coco(file)]
    named = [file for file in files if file.name.startswith("instances")]
    return named or files  # beside these COCO has keypoints of the same pictures


def _is_coco(file: Path) -> bool:
    """Whether a file holds boxes of pictures: captions, for one, hold none."""
    import mmap

    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as text:
            return all(text.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"bbox"'))
    except (OSError, ValueError):
        return False


@cache
def _schema() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(_Coco)


def _of_coco(path: Path) -> tuple[list[Boxed], list[str]]:
    pictures, crowds, empty, met = list[Boxed](), 0, 0, dict[str, Path]()
    for file in _jsons(path):
        split = _split_of(file, path)
        if split in met:
            raise TaskError(
                f"{path}: {met[split].name} and {file.name} are both of {split}: keep one"
            )
        met[split] = file
        try:
            coco = _schema().validate_python(json.loads(file.read_bytes()))
        except (ValueError, RecursionError) as error:
            first = str(error).replace("\n", " ")[:200]
            raise TaskError(f"{file}: is no file of COCO's annotations: {first}") from None
        names = {category.id: category.name for category in coco.categories}
        boxes: dict[Any, list[Box]] = {image.id: [] for image in coco.images}
        for entry in coco.annotations:
            if entry.image_id not in boxes or entry.category_id not in names:
                key, of = (
                    ("image_id", "images")
                    if entry.image_id not in boxes
                    else ("category_id", "categories")
                )
                raise TaskError(
                    f"{file}: an annotation has {key} {getattr(entry, key)!r}, which is none of "
                    f"its {of}: correct it"
                )
            left, top, width, height = entry.bbox
            crowds += bool(entry.iscrowd)
            nothing = width <= 0 or height <= 0
            empty += bool(not entry.iscrowd and nothing)
            if not (entry.iscrowd or nothing):
                box = Box(names[entry.category_id], left, top, left + width, top + height)
                boxes[entry.image_id].append(box)
        for image in coco.images:
            own = tuple(boxes[image.id])
            pictures.append(Boxed(_picture(path, file, split, image.file_name), split, own))
    left_out = {"around crowds": crowds, "without area": empty}
    return pictures, [f"{n} boxes {which} are left out" for which, n in left_out.items() if n]


def _split_of(file: Path, path: Path) -> str:
    """The split that a file of annotations is of, by its name or its folder's."""
    text = file.stem if file.parent in (path, path / "annotations") else file.parent.name
    words = re.findall(r"[a-z]+", text.lower())
    for split in ("test", "valid", "train"):
        if any(name in words for name in SPLITS[split]):
            return split
    return "train"


def _picture(path: Path, file: Path, split: str, name: str) -> Path:
    """Where a picture lies that annotations name."""
    _inside(file, name)
    stem = file.stem.rpartition("_")[2]
    folders = ["", "images", stem, f"images/{stem}", *SPLITS[split]]
    folders += [f"images/{s}" for s in SPLITS[split]]
    places = [file.parent / name, *(path / folder / name for folder in folders)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise TaskError(
            f"{file}: names {name}, which is neither in {path} nor in its images/ or {split}/: put "
            "it there"
        )
    return found


def _inside(file: Path, name: str) -> None:
    """Raise TaskError for a name that leads out of a folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise TaskError(f"{file}: {name!r} is outside the folder: name pictures relative to it")


def _listed(file: Path) -> list[str]:
    """The names in a file of a split."""
    text = file.read_text(encoding="utf-8", errors="replace")
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    for name in names:
        _inside(file, name)
    return names


def _of_voc(path: Path) -> tuple[list[Boxed], list[str]]:
    named = {
        split: _listed(file)
        for split, names in SPLITS.items()
        for name in names
        if (file := path / SETS / f"{name}.txt").is_file()
    }
    stems = sorted(file.stem for file in (path / XMLS).glob("*.xml"))
    pictures, difficult = list[Boxed](), 0
    for split, some in (named or {"train": stems}).items():
        for stem in some:
            boxes = list(_voc_boxes(path / XMLS / f"{stem}.xml"))
            known = tuple(box for box in boxes if box is not None)
            difficult += len(boxes) - len(known)
            pictures.append(Boxed(_beside(path, stem), split, known))
    if not pictures:
        raise TaskError(f"{path}: {XMLS} holds no .xml file")
    return pictures, [f"{difficult} difficult boxes are left out"] if difficult else []


def _beside(path: Path, stem: str) -> Path:
    found = sorted((path / JPEGS).glob(f"{_escaped(stem)}.*"))
    if not found:
        raise TaskError(f"{path / XMLS / stem}.xml: there is no picture {JPEGS}/{stem}: add it")
    return found[0]


def _escaped(stem: str) -> str:
    from glob import escape

    return escape(stem)


def _voc_boxes(file: Path) -> Iterator[Box | None]:
    """The boxes of a picture, whose first pixel is number 1; None for one that is difficult."""
    from xml.etree import ElementTree

    try:
        data = file.read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:
            raise ValueError("it declares entities, or is no UTF-8")
        root = ElementTree.fromstring(data)
        for thing in root.iter("object"):
            place = thing.find("bndbox")
            sides = {} if place is None else {part.tag: part.text or "" for part in place}
            keys = ("xmin", "ymin", "xmax", "ymax")
            left, top, right, bottom = (float(sides[key]) for key in keys)
            box = Box(thing.findtext("name") or "", left - 1, top - 1, right, bottom)
            yield None if (thing.findtext("difficult") or "").strip() == "1" else box
    except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise TaskError(f"{file}: is no file of VOC's annotations: {reason}") from None
