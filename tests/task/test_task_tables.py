"""Claims about tables: which columns are read how, and that it travels with a network."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nas.export import Recipe, load, predict, save
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.task import Task, TaskError, load_tasks
from nas.task.table import Table, read_frame

RNG = np.random.default_rng(4)


def frame(n: int = 120) -> pd.DataFrame:
    age = RNG.integers(20, 70, n).astype(float)
    return pd.DataFrame(
        {
            "age": np.where(np.arange(n) % 10 == 3, np.nan, age),
            "city": np.array(["Rome", "Oslo", None], dtype=object)[np.arange(n) % 3],
            "member": np.arange(n) % 2 == 0,
            "same": 7,
            "price": 3 * age + RNG.normal(size=n),
            "sold": np.array(["yes", "no"])[np.arange(n) % 2],
        }
    )


@pytest.fixture(params=["csv", "tsv", "parquet"])
def table(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"houses.{request.param}"
    if request.param == "parquet":
        frame().to_parquet(path)
    else:
        frame().to_csv(path, index=False, sep="," if request.param == "csv" else "\t")
    return path


def test_a_table_is_numbers_and_categories_and_what_is_missing_is_said(table: Path) -> None:
    task = Task.load(f"house={table}?target=price&without=sold")
    assert (task.target, task.classes) == ("numbers", ("price",))
    assert task.input == (2 + 2 + 2, 1, 1)  # age and its mark, two cities, member or not
    said = task.describe()
    raw = task.splits().train.inputs
    rows = read_frame(table).iloc[raw.at]
    missing = {name: int(rows[name].isna().sum()) for name in ("age", "city")}
    assert f"{missing['age']} of column age are missing: its median, and a mark" in said
    assert f"{missing['city']} of column city are missing and of no category" in said
    assert "column same is always the same and left out" in said
    raw = task.splits().train.inputs.raw[:, :, 0, 0]
    assert set(np.unique(raw[:, 1]).tolist()) == {0.0, 1.0}
    assert (raw[:, 2:4].sum(1) <= 1).all() and (raw[:, 4:6].sum(1) == 1).all()


def test_medians_and_categories_are_those_of_train(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = pd.DataFrame({"x": np.arange(100.0), "word": "common", "y": np.arange(100) % 2})
    rows.to_csv(path, index=False)
    valid = Task.load(f"mine={path}?target=y").splits().valid.inputs.at
    rows.loc[valid, "word"] = [f"rare{i}" for i in range(len(valid))]
    rows.loc[valid[0], "x"] = np.nan
    rows.loc[[3 if 3 not in valid else 4], "word"] = "other"
    rows.to_csv(path, index=False)
    task = Task.load(f"mine={path}?target=y")
    known = task.preparation.table
    assert known is not None
    assert not any(v.startswith("rare") for c in known.categories for v in c.values)
    of_train = rows["x"].iloc[task.splits().train.inputs.at]
    assert [n.fill for n in known.numbers] == [of_train.median()]


@pytest.mark.parametrize("row", range(0, 60, 7))
def test_a_column_with_a_word_anywhere_is_of_words_however_rows_are_cut(
    row: int, tmp_path: Path
) -> None:
    rows = pd.DataFrame({"a": np.arange(60.0), "b": "5", "y": np.arange(60) % 2})
    rows.loc[rows.index % 3 == 0, "b"] = "6"
    rows.loc[row, "b"] = "unknown"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    table = Task.load(f"mine={tmp_path / 'rows.csv'}?target=y").preparation.table
    assert table is not None and [c.name for c in table.categories] == ["b"]


def test_two_columns_are_two_tasks_of_the_same_rows(table: Path) -> None:
    price, sold = load_tasks(
        [f"price={table}?target=price&without=sold", f"sold={table}?target=sold&without=price"]
    )
    assert (price.target, sold.target) == ("numbers", "class")
    assert sold.splits().train.inputs is price.splits().train.inputs


def test_whole_numbers_of_few_values_are_classes(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": RNG.normal(size=80), "stars": np.arange(80) % 5})
    rows.to_csv(tmp_path / "t.csv", index=False)
    assert Task.load(f"t={tmp_path / 't.csv'}?target=stars").target == "class"
    assert Task.load(f"t={tmp_path / 't.csv'}?target=stars&predict=numbers").target == "numbers"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", r"which column is predicted\? say \?target=COLUMN, one of age, city"),
        ("?target=prize", "there is no column 'prize'; did you mean 'price'"),
        ("?target=price&without=solt", "there is no column 'solt'; did you mean 'sold'"),
        ("?target=age", "12 of 120 rows have no age, the first is row 3"),
        ("?target=price&size=20", "size cannot be asked of it; it may be asked for target"),
    ],
)
def test_what_a_table_cannot_give_is_named(tmp_path: Path, query: str, says: str) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(TaskError, match=says):
        Task.load(f"t={tmp_path / 't.csv'}{query}")


def test_words_of_too_many_kinds_are_no_category() -> None:
    rows = pd.DataFrame({"name": [f"n{i}" for i in range(300)]})
    with pytest.raises(TaskError, match="300 different words, and 256 are read"):
        Table.of(rows, "here")
    with pytest.raises(TaskError, match="column 'at' holds times"):
        Table.of(pd.DataFrame({"at": pd.to_datetime(["2026-01-01", "2026-01-02"])}), "here")


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"no table")
    with pytest.raises(TaskError, match="cannot be read as a table"):
        Task.load(f"t={tmp_path / 't.parquet'}?target=a")


def test_a_network_reads_new_rows_as_it_read_those_it_learned_from(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    tasks = load_tasks([f"price={tmp_path / 't.csv'}?target=price&without=sold"])
    derivation = sample(Grammar.load("mlp"), random.Random(0), input=tasks[0].input)
    save(
        Network(derivation, heads=tasks), tmp_path / "net", tasks=tasks, recipe=Recipe(), source={}
    )
    known = load(tmp_path / "net")[1][0].known
    assert known is not None and known.preparation == tasks[0].preparation
    rows = frame().head(4)
    rows.loc[0, "city"] = "Paris"  # a word that it has never met
    rows[["member", "age", "city"]].to_csv(tmp_path / "new.csv", index=False)
    said = list(predict(tmp_path / "net", [tmp_path / "new.csv"]))
    assert [p.sample for p in said] == [f"{tmp_path / 'new.csv'}[{i}]" for i in range(4)]
    assert all(set(p.tasks["price"]) == {"price"} for p in said)
    rows[["member"]].to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(TaskError, match="has no column age, city, which the network reads"):
        list(predict(tmp_path / "net", [tmp_path / "less.csv"]))


def test_words_that_look_like_numbers_are_the_same_words_in_another_file(tmp_path: Path) -> None:
    codes = ["007", "A1", "12"]
    rows = pd.DataFrame({"code": [codes[i % 3] for i in range(90)], "y": RNG.normal(size=90)})
    rows.to_csv(tmp_path / "t.csv", index=False)
    known = Task.load(f"t={tmp_path / 't.csv'}?target=y").preparation.table
    assert known is not None
    (tmp_path / "new.csv").write_text("code\n007\n\n12\n", encoding="utf-8")
    encoded = known.encode(read_frame(tmp_path / "new.csv"), "here")
    assert encoded.tolist() == [[1, 0, 0], [0, 1, 0]]  # an empty line is no row
    (tmp_path / "gap.csv").write_text("code,z\n007,1\n,2\n12,3\n", encoding="utf-8")
    encoded = known.encode(read_frame(tmp_path / "gap.csv"), "here")
    assert encoded.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_an_empty_column_is_left_out_and_lists_are_refused(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": RNG.normal(size=60), "none": [None] * 60, "y": np.arange(60) % 2})
    rows.to_csv(tmp_path / "t.csv", index=False)
    task = Task.load(f"t={tmp_path / 't.csv'}?target=y")
    assert task.input == (1, 1, 1) and "column none is empty and left out" in task.describe()
    rows["a"] = [[1, 2]] * 60
    rows.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TaskError, match="column 'a' holds lists: leave it out: .without=a"):
        Task.load(f"t={tmp_path / 't.parquet'}?target=y")


def test_a_number_of_many_values_may_be_asked_for_as_classes(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": RNG.normal(size=300), "zone": np.arange(300) % 26})
    rows.to_csv(tmp_path / "t.csv", index=False)
    task = Task.load(f"t={tmp_path / 't.csv'}?target=zone&predict=class")
    assert (task.target, len(task.classes)) == ("class", 26)
