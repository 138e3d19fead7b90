"""Where samples come from: one record a kind of file or folder, and functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import Samples
from nas.task.source.arrays import holds_npy, read_npy_folder, read_npz
from nas.task.source.boxed import holds_boxes, read_boxes
from nas.task.source.hub import is_saved, read_saved
from nas.task.source.idx import holds_idx, read_idx_folder
from nas.task.source.pictures import read_pictures
from nas.task.source.sounds import holds_sounds, read_sounds
from nas.task.source.tables import is_table, read_table


class Source(NamedTuple):
    """A kind of file or folder: how it is recognised, and read."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path, Options], Samples]


SOURCES = {  # asked in this order
    "npz": Source(lambda path: path.is_file() and path.suffix == ".npz", read_npz),
    "table": Source(is_table, read_table),
    "idx": Source(holds_idx, read_idx_folder),
    "npy": Source(holds_npy, read_npy_folder),
    "saved": Source(is_saved, read_saved),
    "boxes": Source(holds_boxes, read_boxes),
    "sounds": Source(holds_sounds, read_sounds),
    "pictures": Source(Path.is_dir, read_pictures),
}


def read_path(path: Path, options: Options) -> Samples:
    """The samples of a file or folder, by the first source that recognises it."""
    for source in SOURCES.values():
        if source.recognises(path):
            return source.read(path, options)
    raise TaskError(
        f"{path}: data comes from an .npz, .csv or .parquet file, a folder, or a function "
        "(package.module:function); convert it, e.g. np.savez('data.npz', x=x, y=y)"
    )
