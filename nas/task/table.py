"""How rows of a table become numbers: columns of numbers, and a column for each category."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.lazy import np
from nas.task.error import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

    Array = npt.NDArray[Any]

MOST = 256  # categories of a column


@dataclass(frozen=True)
class Number:
    """A column of numbers; `fill` stands for those that are missing, and where some were missing in
    training another column says which."""

    name: str
    fill: float
    marked: bool = False


@dataclass(frozen=True)
class Category:
    """A column of words, each of which gets a column of 0 and 1; another word is none of them."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The columns that a network reads, in order."""

    numbers: tuple[Number, ...] = ()
    categories: tuple[Category, ...] = ()

    @staticmethod
    def of(frame: pd.DataFrame, where: str) -> tuple[Table, list[str]]:
        """The table of some rows, and notes on what is missing. Raises TaskError for a column that
        cannot be read."""
        from pandas.api import types

        numbers, categories, notes = list[Number](), list[Category](), list[str]()
        for name, column in frame.items():
            missing = int(column.isna().sum())
            if column.nunique() < 2 and not missing:
                notes.append(f"column {name} is always the same and left out")
            elif types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
                numbers.append(Number(str(name), float(column.median()), missing > 0))
                if missing:
                    notes.append(f"{missing} of column {name} are missing: its median, and a mark")
            elif types.is_datetime64_any_dtype(column):
                raise TaskError(
                    f"{where}: column {name!r} holds times; make numbers of them, or leave it out: "
                    f"?without={name}"
                )
            else:
                values = tuple(sorted(map(str, column.dropna().unique())))
                if len(values) > MOST:
                    raise TaskError(
                        f"{where}: column {name!r} holds {len(values):,} different words, and "
                        f"{MOST} are read as categories at most; leave it out: ?without={name}"
                    )
                categories.append(Category(str(name), values))
                if missing:
                    notes.append(f"{missing} of column {name} are missing and of no category")
        return Table(tuple(numbers), tuple(categories)), notes

    @property
    def size(self) -> int:
        """The numbers of an encoded row."""
        marks = sum(number.marked for number in self.numbers)
        return len(self.numbers) + marks + sum(len(c.values) for c in self.categories)

    def encode(self, frame: pd.DataFrame, where: str) -> Array:
        """(rows, size) float32. Raises TaskError where a column is not there, or is no number."""
        from pandas import to_numeric

        columns = list[Any]()
        known = [c.name for c in self.numbers] + [c.name for c in self.categories]
        if lacking := [name for name in known if name not in frame.columns]:
            raise TaskError(f"{where}: has no column {', '.join(lacking)}, which the network reads")
        for number in self.numbers:
            try:
                values = to_numeric(frame[number.name]).to_numpy(np.float64, na_value=np.nan)
            except (ValueError, TypeError) as error:
                raise TaskError(f"{where}: column {number.name!r}: {error}") from None
            columns.append(np.where(np.isnan(values), number.fill, values))
            if number.marked:
                columns.append(np.isnan(values))
        for category in self.categories:
            words = frame[category.name].astype(str).where(frame[category.name].notna(), "")
            columns += [(words == value).to_numpy() for value in category.values]
        encoded: Array = np.stack([np.asarray(c, np.float32) for c in columns], axis=1)
        return encoded


def read_frame(path: Any) -> pd.DataFrame:
    """The rows of a CSV, TSV or Parquet file; raises TaskError where it is none."""
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    except (OSError, ValueError, ImportError) as error:
        raise TaskError(f"{path}: cannot be read as a table: {error}") from None
