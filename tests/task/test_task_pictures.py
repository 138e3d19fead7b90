"""Claims about pictures as people have them: nothing is lost without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas.task import Task, TaskError, loss, score, trivial_score
from nas.task.decode import Fit, Picture, fitted

RNG = np.random.default_rng(3)


def fill(folder: Path, low: int, high: int, n: int = 20) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        Image.fromarray(RNG.integers(low, high, (12, 12)).astype(np.uint16)).save(
            folder / f"{i}.png"
        )


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    fill(tmp_path / "dark", 300, 500)
    fill(tmp_path / "bright", 500, 700)
    task = Task.load(f"mine={tmp_path}")
    split = task.splits().train
    means = split.x.mean((1, 2, 3))
    bright = task.classes.index("bright")
    assert means[split.y == bright].min() > means[split.y != bright].max()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(tmp_path / "dark" / "eight.png")
    with pytest.raises(TaskError, match=r"eight.png.*must have 8 bits a channel, or none"):
        Task.load(f"mine={tmp_path}")


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path: Path) -> None:
    for k, name in enumerate(("top", "side")):
        (tmp_path / name).mkdir()
        for i in range(16):
            a = np.zeros((12, 12, 3), np.uint8)
            a[:6] = 255
            image = Image.fromarray(a if k == 0 else a.transpose(1, 0, 2).copy())
            exif = Image.Exif()
            if i % 2:
                image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
            image.save(tmp_path / name / f"{i}.jpg", exif=exif, quality=95)
    split = Task.load(f"mine={tmp_path}").splits().train
    for c in (0, 1):
        alike = split.x[split.y == c]
        assert (alike - alike[0]).abs().max() < 0.1


def test_what_only_alpha_holds_is_a_channel_and_opaque_alpha_is_none(tmp_path: Path) -> None:
    for mode, channels in (("RGBA", 4), ("LA", 2)):
        for k, name in enumerate(("ring", "dot")):
            folder = tmp_path / mode / name
            folder.mkdir(parents=True)
            for i in range(12):
                a = np.full((12, 12, 4), 200, np.uint8)
                a[..., 3] = 0
                a[3 + k : 9 - k, 3 + k : 9 - k, 3] = 255
                Image.fromarray(a, "RGBA").convert(mode).save(folder / f"{i}.png")
        task = Task.load(f"mine={tmp_path / mode}")
        assert task.input == (channels, 12, 12)
        assert "alpha is the last channel" in task.describe()
    for name in ("a", "b"):
        (tmp_path / "opaque" / name).mkdir(parents=True)
        for i in range(6):
            pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).convert("RGBA" if i % 2 else "L")
            image.save(tmp_path / "opaque" / name / f"{i}.png")
    assert Task.load(f"mine={tmp_path / 'opaque'}").input == (3, 8, 8)


def masked(folder: Path, mode: str = "L", values: tuple[int, ...] = (0, 1, 255)) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(20):
        pixels = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.jpg")
        mask = Image.fromarray(RNG.choice(values, (16, 16)).astype(np.uint8))
        if mode == "P":
            mask.putpalette([c for v in range(256) for c in (v, 255 - v, 7)])
        mask.save(folder / "masks" / f"{i}.png")


def test_two_pictures_of_one_name_are_not_one(tmp_path: Path) -> None:
    masked(tmp_path)
    (tmp_path / "images" / "7.png").write_bytes((tmp_path / "images" / "7.jpg").read_bytes())
    with pytest.raises(TaskError, match="have one name but for the suffix"):
        Task.load(f"mine={tmp_path}")


@pytest.mark.parametrize("mode", ["L", "P"])
def test_images_and_masks_are_pictures_with_a_class_a_pixel(tmp_path: Path, mode: str) -> None:
    masked(tmp_path, mode)
    task = Task.load(f"mine={tmp_path}")
    assert (task.target, task.classes, task.input) == ("pixels", ("0", "1"), (3, 16, 16))
    (tmp_path / "masks" / "7.png").unlink()
    with pytest.raises(TaskError, match="'7', the first of 1, is a picture without a mask"):
        Task.load(f"mine={tmp_path}")


def test_pixels_of_no_class_are_in_neither_loss_nor_metric(tmp_path: Path) -> None:
    y = RNG.integers(0, 3, (40, 8, 8))
    ignored = y.copy()
    ignored[:, :3] = 255
    np.savez(tmp_path / "d.npz", x=RNG.normal(size=(40, 8, 8)), y=ignored)
    task = Task.load(f"mine={tmp_path / 'd.npz'}")
    assert task.classes == ("0", "1", "2")
    split = task.splits().test
    assert (split.y[:, :3] < 0).all()
    assert (split.y[:, 3:] >= 0).all()
    logits = torch.randn(len(split), 3, 8, 8)
    changed = logits.clone()
    changed[:, :, :3] = 100 * torch.randn(len(split), 3, 3, 8)
    assert loss(task, logits, split.y) == loss(task, changed, split.y)
    assert score(task, logits, split.y) == score(task, changed, split.y)
    rest = torch.nn.functional.cross_entropy(logits[:, :, 3:], split.y[:, 3:])
    assert torch.allclose(loss(task, logits, split.y), rest)
    assert 0 < trivial_score(task)["pixel_accuracy"] < 1
    assert float(loss(task, logits, torch.full_like(split.y, -100))) == 0


def test_a_mask_of_0_and_255_has_two_classes(tmp_path: Path) -> None:
    masked(tmp_path, values=(0, 255))
    assert Task.load(f"mine={tmp_path}").classes == ("0", "255")


def test_broken_pictures_are_counted_and_some_named(tmp_path: Path) -> None:
    fill(tmp_path / "a", 0, 9)
    fill(tmp_path / "b", 0, 9)
    for i in range(7):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"none")
    with pytest.raises(TaskError, match=r"7 of 40 are no readable pictures: .*0\.png.*…"):
        Task.load(f"mine={tmp_path}")


def test_nested_pictures_are_of_the_folder_above_and_what_is_no_picture_is_passed_over(
    tmp_path: Path,
) -> None:
    for name in ("a", "b", ".hidden", "__MACOSX"):
        fill(tmp_path / name, 0, 99, 6)
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "._1.png").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "a" / ".thumbnails", 0, 99, 3)
    task = Task.load(f"mine={tmp_path}")
    assert task.classes == ("a", "b")
    assert "empty holds no picture and is no class" in task.describe()
    fill(tmp_path / "b" / "deeper", 0, 99, 2)
    task = Task.load(f"mine={tmp_path}")
    assert task.classes == ("a", "b")
    assert "2 pictures in folders below b are of that class" in task.describe()
    assert sum(map(len, (task.splits().train, task.splits().valid, task.splits().test))) == 14


def disc(width: int, height: int, value: int = 200) -> Image.Image:
    """A bright disc in the middle of a dark picture of any size."""
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2 + 0.5) ** 2 + (y - height / 2 + 0.5) ** 2 < (
        min(width, height) / 3
    ) ** 2
    return Image.fromarray((inside * value).astype(np.uint8))


def test_pictures_of_any_size_are_cut_to_one_and_it_is_said(tmp_path: Path) -> None:
    for k, name in enumerate(("bright", "dark")):
        (tmp_path / name).mkdir()
        for i in range(10):
            disc(40 + 7 * i, 90 - 5 * i, 250 - 150 * k).save(tmp_path / name / f"{i}.png")
    task = Task.load(f"mine={tmp_path}")
    assert task.input == (1, 48, 48)
    assert "are grey, cut to 48x48; another size: --size 128" in task.describe()
    raw = task.splits().train.inputs.raw
    assert isinstance(raw, np.ndarray) and raw.dtype == np.uint8
    for picture in raw[:, 0]:  # the disc stays a disc in the middle
        down, across = np.nonzero(picture > picture.max() / 2)
        assert abs(np.ptp(down) - np.ptp(across)) <= 2
        assert abs(down.mean() - 23.5) < 1 and abs(across.mean() - 23.5) < 1
    assert Task.load(f"mine={tmp_path}?size=20").input == (1, 20, 20)
    stretched = Task.load(f"mine={tmp_path}?size=20&fit=stretch").splits().train.inputs.raw
    spans = [[np.ptp(axis) for axis in np.nonzero(p[0] > p[0].max() / 2)] for p in stretched]
    assert max(abs(down - across) for down, across in spans) > 4


@given(st.integers(1, 900), st.integers(1, 900), st.integers(4, 300), st.integers(4, 300))
@settings(max_examples=200, deadline=None)
def test_a_picture_of_any_size_fits_any_other(
    width: int, height: int, to_width: int, to_height: int
) -> None:
    image = Image.new("L", (width, height), 77)
    for fit in get_args(Fit):
        pixels = np.asarray(fitted(image, Picture("L", to_height, to_width, fit)))
        assert pixels.shape == (to_height, to_width) and (pixels == 77).all()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("size=3", "between 4 and 4096"),
        ("size=large", "size = 'large'"),
        ("fit=bend", "fit = 'bend'"),
        ("sise=20", "sise = '20'"),
    ],
)
def test_what_cannot_be_asked_of_pictures_is_named(tmp_path: Path, query: str, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        Task.load(f"mine={tmp_path}?{query}")


def test_a_size_is_for_pictures_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=RNG.normal(size=(20, 4)), y=np.arange(20) % 2)
    with pytest.raises(
        TaskError, match="d.npz: size cannot be asked of it; it may be asked for target alone"
    ):
        Task.load(f"mine={tmp_path / 'd.npz'}?size=20")


def test_masks_are_cut_as_their_pictures_are(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i in range(12):
        width, height = 30 + 3 * i, 60 - 2 * i
        disc(width, height).convert("RGB").save(tmp_path / "images" / f"{i}.png")
        disc(width, height, 1).save(tmp_path / "masks" / f"{i}.png")
    split = Task.load(f"mine={tmp_path}?size=32").splits().train
    assert split.x.shape[1:] == (3, 32, 32) and split.y.shape[1:] == (32, 32)
    bright = (split.x[:, 0] > split.x[:, 0].mean()).long()
    assert (bright == split.y).double().mean() > 0.97


def test_sixteen_bits_stay_sixteen_bits_when_they_are_resized(tmp_path: Path) -> None:
    for k, name in enumerate(("low", "high")):
        (tmp_path / name).mkdir()
        for i in range(8):
            deep = np.full((30 + i, 40), 1000 + 30000 * k, np.uint16)
            Image.fromarray(deep).save(tmp_path / name / f"{i}.tiff")
    raw = Task.load(f"mine={tmp_path}?size=16").splits().train.inputs.raw
    assert set(np.unique(raw).tolist()) == {1000, 31000}


def test_broken_pictures_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    fill(tmp_path / "a", 0, 9)
    fill(tmp_path / "b", 0, 9)
    for i in range(3):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"none")
    task = Task.load(f"mine={tmp_path}?skip_corrupt=true")
    assert sum(map(len, (task.splits().train, task.splits().valid, task.splits().test))) == 37
    assert "3 of 40 files are no pictures and left out: 0.png, 1.png, 2.png" in task.describe()
    with pytest.raises(TaskError, match="or leave them out: .skip_corrupt=true"):
        Task.load(f"mine={tmp_path}")


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "YCbCr"])
def test_pictures_of_any_colours_are_read(tmp_path: Path, mode: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).convert(mode)
            image.save(tmp_path / name / f"{i}.tiff")
    assert Task.load(f"mine={tmp_path}").input == (1 if mode == "1" else 3, 8, 8)


def test_a_torn_picture_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = np.full((40, 40, 3), 20 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i:02}.jpg", quality=95)
    whole = (tmp_path / "a" / "05.jpg").read_bytes()
    (tmp_path / "a" / "05.jpg").write_bytes(whole[:-20])
    (tmp_path / "a" / "03.jpg").write_bytes(b"none")
    with pytest.raises(TaskError, match="1 of 24 are no readable pictures: .*03.jpg"):
        Task.load(f"mine={tmp_path}")
    task = Task.load(f"mine={tmp_path}?skip_corrupt=true")
    assert "2 of 24 files are no pictures and left out: 03.jpg, 05.jpg" in task.describe()
    splits = task.splits()
    for split in (splits.train, splits.valid, splits.test):
        raw = split.inputs.raw[split.inputs.at]
        assert not {60, 100} & set(raw[split.y.numpy() == 0][:, 0, 20, 20].tolist())
    for i in range(12):
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "a" / f"{i}.png").write_bytes(b"none")
    (tmp_path / "test" / "a").mkdir(parents=True)
    Image.new("L", (9, 9)).save(tmp_path / "test" / "a" / "1.png")
    with pytest.raises(TaskError, match="no picture of train can be read, all are left out"):
        Task.load(f"mine={tmp_path}?skip_corrupt=true")


def test_a_mask_that_lies_otherwise_than_its_picture_is_refused(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i in range(8):
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 5 else 1
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / f"{i}.jpg", exif=exif)
        mask = RNG.integers(0, 2, (20, 30), dtype=np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    with pytest.raises(TaskError, match=r"5.png: is 30x20, and its picture 5.jpg 20x30"):
        Task.load(f"mine={tmp_path}?size=16")


def test_folders_alike_in_names_sizes_and_times_are_two(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two")):
        for k in "ab":
            (tmp_path / name / k).mkdir(parents=True)
            for i in range(6):
                file = tmp_path / name / k / f"{i}.bmp"
                Image.new("L", (8, 8), 100 * number + i).save(file)
                os.utime(file, (0, 0))
    one, two = (Task.load(f"mine={tmp_path / name}").splits() for name in ("one", "two"))
    assert one.train.inputs.raw.max() < 100 <= two.train.inputs.raw.min()


def test_a_layout_of_ones_own_is_not_taken_for_the_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(8):
            pixels = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    for layout, shape in (("nhw", (1, 8, 8)), ("ncl", (8, 8)), ("nhw", (1, 8, 8))):
        task = Task.load(f"mine={tmp_path}?layout={layout}")
        assert task.input == shape and len(task.preparation.mean) == shape[0]
        assert abs(float(task.splits().train.x.mean())) < 1e-4


def test_masks_of_bytes_with_named_classes_are_read(tmp_path: Path) -> None:
    masked(tmp_path, values=(0, 1, 2))
    (tmp_path / "own.toml").write_text(
        'name = "mine"\nclasses = ["sky", "sea", "sand"]\n[data]\nkind = "file"\npath = "."\n'
    )
    task = Task.load(f"{tmp_path}/own.toml")
    assert task.classes == ("sky", "sea", "sand")
    assert set(task.splits().train.y.unique().tolist()) == {0, 1, 2}
