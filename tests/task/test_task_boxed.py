"""Claims about pictures with boxes in COCO's and VOC's folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.task import Task, TaskError

SIZES = [(40, 24), (24, 40), (32, 32)]


def scene(number: int) -> tuple[Any, list[tuple[str, float, float, float, float]]]:
    """A dark picture with a red and a green rectangle, and their boxes."""
    rng = np.random.default_rng(number)
    width, height = SIZES[number % 3]
    pixels = np.full((height, width, 3), 20, np.uint8)
    boxes = []
    for channel, name in enumerate(("red", "green")):
        left, top = rng.integers(9, 11, 2) + 6 * channel
        right, bottom = left + 4, top + int(rng.integers(3, 6))
        pixels[top:bottom, left:right] = 0
        pixels[top:bottom, left:right, channel] = 255
        boxes.append((name, float(left), float(top), float(right), float(bottom)))
    return pixels, boxes[::-1] if number % 2 else boxes[1:]


def coco(folder: Path, splits: dict[str, range], **more: Any) -> Path:
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in splits.items():
        (folder / split).mkdir()
        images, annotations = [], []
        for number in numbers:
            pixels, boxes = scene(number)
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "license": 1})
            for name, left, top, right, bottom in boxes:
                kind = {"red": 7, "green": 90}[name]
                box = [left, top, right - left, bottom - top]
                entry = {
                    "image_id": number,
                    "category_id": kind,
                    "bbox": box,
                    "id": len(annotations),
                }
                annotations.append({**entry, "segmentation": [[1.0, 2.0]], "iscrowd": 0})
        known = {
            "info": {},
            "images": images,
            "annotations": annotations + more.get("annotations", []),
            "categories": [{"id": 7, "name": "red"}, {"id": 90, "name": "green"}],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(known))
    return folder


def voc(folder: Path, splits: dict[str, range]) -> Path:
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, numbers in splits.items():
        name = {"valid": "val"}.get(split, split)
        (folder / "ImageSets/Main" / f"{name}.txt").write_text(
            "\n".join(f"{number} 1" for number in numbers)
        )
        for number in numbers:
            pixels, boxes = scene(number)
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{number}.png")
            things = "".join(
                f"<object><name>{n}</name><bndbox><xmin>{a + 1}</xmin><ymin>{b + 1}</ymin>"
                f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
                for n, a, b, c, d in boxes
            )
            (folder / "Annotations" / f"{number}.xml").write_text(
                f"<annotation><filename>{number}.png</filename>{things}</annotation>"
            )
    return folder


SPLITS = {"train": range(12), "valid": range(12, 18), "test": range(18, 24)}


@pytest.mark.parametrize("make", [coco, voc])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_boxes_lie_where_their_things_do(tmp_path: Path, make: Any, fit: str) -> None:
    task = Task.load(f"mine={make(tmp_path / 'data', SPLITS)}?size=64&fit={fit}")
    assert (task.target, task.classes, task.input) == ("boxes", ("green", "red"), (3, 64, 64))
    for split, numbers in SPLITS.items():
        samples = getattr(task.splits(), split)
        assert len(samples) == len(numbers)
        x = samples.x_at(torch.arange(len(samples)))
        bright = x - x.amin((2, 3), keepdim=True)
        for picture, rows in zip(bright, samples.y, strict=True):
            assert 1 <= (rows[:, 0] >= 0).sum() <= 2
            for kind, *sides in rows[rows[:, 0] >= 0].tolist():
                left, top, right, bottom = (side * 64 for side in sides)
                seen = picture[1 - int(kind)] > 0.6 * picture[1 - int(kind)].max()
                rows_seen, columns_seen = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
                assert abs(float(columns_seen[0]) - left) < 2
                assert abs(float(columns_seen[-1]) + 1 - right) < 2
                assert abs(float(rows_seen[0]) - top) < 2
                assert abs(float(rows_seen[-1]) + 1 - bottom) < 2


def test_splits_that_are_not_given_are_cut_and_crowds_left_out(tmp_path: Path) -> None:
    crowd = {"image_id": 0, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    task = Task.load(f"mine={coco(tmp_path / 'data', {'train': range(30)}, annotations=[crowd])}")
    assert [len(getattr(task.splits(), s)) for s in ("train", "valid", "test")] == [20, 4, 6]
    assert "1 boxes around crowds are left out" in task.splits().notes


def test_what_lies_beside_cocos_boxes_is_passed_over(tmp_path: Path) -> None:
    nothing = {"image_id": 0, "category_id": 7, "bbox": [3, 3, 0, 4], "iscrowd": 0}
    folder = coco(tmp_path / "data", {"train": range(30)}, annotations=[nothing])
    known = json.loads((folder / "annotations" / "instances_train.json").read_text())
    others = {"captions_train2017": {**known, "annotations": [{"image_id": 0, "caption": "a"}]}}
    others |= {"person_keypoints_train2017": known, "latest": {"categories": []}}
    for name, content in others.items():
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    task = Task.load(f"mine={folder}")
    assert "1 boxes without area are left out" in task.splits().notes


def test_a_thing_that_a_cut_leaves_little_of_is_left_out(tmp_path: Path) -> None:
    far = {"image_id": 0, "category_id": 7, "bbox": [0, 5, 6, 9], "iscrowd": 0}
    folder = coco(tmp_path / "data", {"train": range(30)}, annotations=[far])
    task = Task.load(f"mine={folder}?size=16")
    assert any("1 boxes of which little is left" in note for note in task.splits().notes)


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ({"bbox": [3, 3, 80, 4]}, r"outside its picture of 40x24"),
        ({"bbox": [3, 3, 4, float("nan")]}, "has no area"),
        ({"image_id": 999}, "image_id 999, which is none of its images"),
        ({"category_id": 1}, "category_id 1, which is none of its categories"),
        ({"bbox": [1, 2, 3]}, "no file of COCO's annotations"),
    ],
)
def test_a_box_that_cannot_be_is_named(tmp_path: Path, entry: Any, rule: str) -> None:
    known = {"image_id": 0, "category_id": 7, "bbox": [1, 1, 5, 5], "iscrowd": 0, **entry}
    folder = coco(tmp_path / "data", {"train": range(8)}, annotations=[known])
    with pytest.raises(TaskError, match=rule):
        Task.load(f"mine={folder}")


def test_a_picture_that_is_missing_or_elsewhere_is_named(tmp_path: Path) -> None:
    folder = coco(tmp_path / "data", {"train": range(8)})
    (folder / "train" / "3.png").unlink()
    with pytest.raises(TaskError, match=r"names 3.png, which is neither in"):
        Task.load(f"mine={folder}")
    file = folder / "annotations" / "instances_train.json"
    file.write_text(file.read_text().replace('"3.png"', '"../../3.png"'))
    with pytest.raises(TaskError, match="is outside the folder"):
        Task.load(f"mine={folder}")


def test_names_that_lead_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    folder = voc(tmp_path / "data", {"train": range(8)})
    for name in ("../0", "/etc/0"):
        (folder / "ImageSets" / "Main" / "train.txt").write_text(name)
        with pytest.raises(TaskError, match="is outside the folder"):
            Task.load(f"mine={folder}")


def test_annotations_that_declare_entities_are_refused(tmp_path: Path) -> None:
    folder = voc(tmp_path / "data", {"train": range(8)})
    file = folder / "Annotations" / "2.xml"
    file.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    with pytest.raises(TaskError, match="2.xml.*declares entities"):
        Task.load(f"mine={folder}")
    (folder / "Annotations" / "2.xml").write_text("<annotation><object></object></annotation>")
    with pytest.raises(TaskError, match="no file of VOC's annotations"):
        Task.load(f"mine={folder}")
