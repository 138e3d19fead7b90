"""Tables: CSV, TSV and Parquet, a sample a row."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import Samples
from nas.task.table import Table, numbers_of, read_frame

FEW = 20  # different numbers in a column that is predicted, which are read as classes
SUFFIXES = (".csv", ".tsv", ".parquet")


def is_table(path: Path) -> bool:
    return path.suffix in SUFFIXES and path.is_file()


def read_table(path: Path, options: Options) -> Samples:
    """The rows of a table: y is the column that is the target, x all others but those left out."""
    options.refuse(str(path), "target", "without")
    frame = read_frame(path)
    names = [str(name) for name in frame.columns]
    frame.columns = names
    for name in (options.target, *options.without):
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            what = f"there is no column {name!r}; {hint}" if name else "which column is predicted? "
            raise TaskError(
                f"{path}: {what}say ?target=COLUMN, one of {', '.join(names[:20])}"
                f"{', …' if len(names) > 20 else ''}"
            )
    y = frame[options.target]
    if missing := int(y.isna().sum()):
        at = int(np.flatnonzero(y.isna())[0])
        raise TaskError(
            f"{path}: {missing} of {len(y)} rows have no {options.target}, the first is row {at}; "
            "leave out the rows whose target is missing"
        )
    read = frame.drop(columns=[options.target, *options.without])
    real, target, classes = numbers_of(y), None, None
    values = y.astype(str).to_numpy(dtype=str) if real is None else real
    fractions = real is not None and bool((real != real.round()).any())
    if real is not None and (fractions or len(np.unique(real)) > FEW):
        target, classes = "numbers", (options.target,)

    def fit(rows: npt.NDArray[np.int64] | None = None) -> Samples:
        """Every row, by medians and categories of some."""
        table, notes = Table.of(read, str(path), rows)
        if not table.size:
            raise TaskError(f"{path}: there is no column to predict {options.target} from")
        pairs = {"train": (table.encode(read, str(path)), values)}
        numbers, words = len(table.numbers), len(table.categories)
        note = f"{numbers} columns of numbers, {words} of categories, by the rows of train"
        every = (note, *notes)
        return Samples(str(path), pairs, "nf", classes, every, table=table, target=target, fit=fit)

    return fit()
