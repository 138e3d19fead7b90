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
    def of(frame: pd.DataFrame, where: str, rows: Array | None = None) -> tuple[Table, list[str]]:
        """The table of a frame, by some rows of it or all, and notes on what is missing in them.
        What holds numbers in all rows is numbers. Raises TaskError for a column that cannot be
        read."""
        numbers, categories, notes = list[Number](), list[Category](), list[str]()
        for name, whole in frame.items():
            column = whole if rows is None else whole.iloc[rows]
            missing, words = int(column.isna().sum()), _words(column, f"{where}: column {name!r}")
            values = None if numbers_of(whole) is None else numbers_of(column)
            if missing == len(column):
                notes.append(f"column {name} is empty and left out")
            elif words.nunique() == 1 and not missing:
                notes.append(f"column {name} is always the same and left out")
            elif values is not None:
                fill = float(np.nanmedian(values))
                numbers.append(Number(str(name), fill, missing > 0))
                if missing:
                    notes.append(f"{missing} of column {name} are missing: its median, and a mark")
            else:
                known = tuple(sorted(words[column.notna()].unique()))
                if len(known) > MOST:
                    raise TaskError(
                        f"{where}: column {name!r} holds {len(known):,} different words, and "
                        f"{MOST} are read as categories at most; leave it out: ?without={name}"
                    )
                categories.append(Category(str(name), known))
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
        columns = list[Any]()
        known = [c.name for c in self.numbers] + [c.name for c in self.categories]
        if lacking := [name for name in known if name not in frame.columns]:
            raise TaskError(f"{where}: has no column {', '.join(lacking)}, which the network reads")
        for number in self.numbers:
            values = numbers_of(frame[number.name])
            if values is None:
                raise TaskError(
                    f"{where}: column {number.name!r} holds words, and numbers are read"
                )
            columns.append(np.where(np.isnan(values), number.fill, values))
            if number.marked:
                columns.append(np.isnan(values))
        for category in self.categories:
            column = frame[category.name]
            words = _words(column, f"{where}: column {category.name!r}").where(column.notna(), "")
            columns += [(words == value).to_numpy() for value in category.values]
        encoded: Array = np.stack([np.asarray(c, np.float32) for c in columns], axis=1)
        return encoded


def numbers_of(column: pd.Series[Any]) -> Array | None:
    """A column as float64, NaN where it is missing; None where some of it is no number."""
    from pandas import to_numeric
    from pandas.api import types

    if types.is_bool_dtype(column) or types.is_datetime64_any_dtype(column):
        return None
    try:
        values = to_numeric(column, errors="raise")
    except (ValueError, TypeError):
        return None
    numbers: Array = values.to_numpy(np.float64, na_value=np.nan)
    return numbers


def _words(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """A column as text; raises TaskError where it holds times, or what is no single value."""
    from pandas.api import types

    if types.is_datetime64_any_dtype(column):
        raise TaskError(
            f"{where} holds times; make numbers of them, or leave it out: ?without={column.name}"
        )
    if any(isinstance(value, list | dict | np.ndarray) for value in column.head(100)):
        raise TaskError(f"{where} holds lists: leave it out: ?without={column.name}")
    return column.astype(str)


def read_frame(path: Any) -> pd.DataFrame:
    """The rows of a CSV, TSV or Parquet file, text as it is written there; raises TaskError where
    it is none."""
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str)
    except (OSError, ValueError, ImportError) as error:
        raise TaskError(f"{path}: cannot be read as a table: {error}") from None
