"""MNIST's files (LeCun et al. 1998): idx, plain or gzipped."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import Samples

if TYPE_CHECKING:
    from nas.task.samples import Array, Pairs

STEMS = {"train": "train", "test": "t10k"}


def holds_idx(folder: Path) -> bool:
    return any(folder.glob("*-images*idx3-ubyte*"))


def read_idx_folder(path: Path, options: Options | None = None) -> Samples:
    """The images and labels of a folder."""
    (options or Options()).refuse(str(path))
    pairs: Pairs = {}
    for split, stem in STEMS.items():
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
    return Samples(str(path), pairs)


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
