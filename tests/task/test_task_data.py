"""Claims about reading data of one's own."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas.task import Task, TaskError
from nas.task.cut import cut
from nas.task.preparation import Inputs, Preparation, moments
from nas.task.prepare import Array

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 8, 8)), np.arange(40) % 4


def saved(folder: Path, **arrays: Array) -> str:
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type, unused-ignore]
    return f"mine={folder / 'data.npz'}"


def idx(array: Array) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.mark.parametrize(
    ("shape", "input"),
    [
        ((40, 8, 6), (1, 8, 6)),
        ((40, 8, 6, 3), (3, 8, 6)),
        ((40, 8, 6, 1), (1, 8, 6)),
        ((40, 3, 8, 6), (3, 8, 6)),
        ((40, 12, 8, 8), (12, 8, 8)),
        ((40, 3, 3, 3), (3, 3, 3)),
        ((40, 10), (10, 1, 1)),
        ((40, 10, 1, 1), (10, 1, 1)),
    ],
)
def test_the_axes_of_x_are_read_from_its_shape(
    tmp_path: Path, shape: tuple[int, ...], input: tuple[int, ...]
) -> None:
    x = RNG.normal(size=shape)
    task = Task.load(saved(tmp_path, x=x, y=Y))
    assert task.input == input
    assert sum(map(len, (task.splits().train, task.splits().valid, task.splits().test))) == 40


@pytest.mark.parametrize(
    ("shape", "layout", "input"),
    [
        ((40, 3, 128), "ncl", (3, 128)),
        ((40, 128, 3), "nlc", (3, 128)),
        ((40, 6, 300), "ncl", (6, 300)),
        ((40, 12, 8, 6), "nchw", (12, 8, 6)),
        ((40, 3, 8, 3), "nhwc", (3, 3, 8)),
        ((40, 8, 8, 16), "nhwc", (16, 8, 8)),
    ],
)
def test_axes_that_may_be_two_things_are_asked_for(
    tmp_path: Path, shape: tuple[int, ...], layout: str, input: tuple[int, ...]
) -> None:
    spec = saved(tmp_path, x=RNG.normal(size=shape), y=Y)
    with pytest.raises(TaskError, match=f"may be .*{layout}.*say which, as --layout"):
        Task.load(spec)
    task = Task.load(f"{spec}?layout={layout}")
    assert task.input == input
    assert Task.load(task.spec).input == input  # as a run keeps it


def test_a_layout_in_the_file_wins_over_the_guess(tmp_path: Path) -> None:
    assert Task.load(saved(tmp_path, x=X, y=Y, layout=np.array("ncl"))).input == (8, 8)


def test_what_y_is_follows_from_its_shape(tmp_path: Path) -> None:
    task = Task.load(saved(tmp_path, x=X, y=np.array(["cat", "ant"])[Y % 2]))
    assert (task.target, task.classes) == ("class", ("ant", "cat"))
    assert task.splits().train.y.dtype == torch.int64
    task = Task.load(saved(tmp_path, x=X, y=RNG.integers(0, 2, size=(40, 5))))
    assert (task.target, len(task.classes)) == ("labels", 5)
    assert task.splits().train.y.dtype == torch.float32
    task = Task.load(saved(tmp_path, x=X, y=RNG.integers(0, 3, size=(40, 8, 8))))
    assert (task.target, task.metric) == ("pixels", "mean_iou")
    assert task.head.reads == ("fine", "middle", "coarse")
    assert task.splits().train.y.shape[1:] == (8, 8)


def test_a_column_of_classes_and_whole_floats_are_classes(tmp_path: Path) -> None:
    task = Task.load(saved(tmp_path, x=X, y=Y[:, None].astype(float)))
    assert (task.target, task.classes) == ("class", ("0", "1", "2", "3"))


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_x", "train_y", "test_x", "test_y"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_given_splits_are_kept_and_only_the_missing_is_cut(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    arrays = dict(zip(names, (X, Y, X[:8], Y[:8]), strict=True))
    task = Task.load(saved(tmp_path, **arrays))
    found = task.splits()
    assert (len(found.train), len(found.valid), len(found.test)) == (34, 6, 8)
    assert found.test.y.tolist() == Y[:8].tolist()
    assert "valid (15%) cut from train, stratified" in task.describe()
    assert "test (20%)" not in task.describe()


def test_bytes_are_scaled_before_they_are_normalised(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, size=(40, 8, 8), dtype=np.uint8)
    task = Task.load(saved(tmp_path, x=x, y=Y))
    assert "mean 0.4" in task.describe() or "mean 0.5" in task.describe()
    assert abs(task.splits().train.x.mean()) < 1e-5


def test_a_constant_channel_becomes_zero_and_not_noise() -> None:
    x = np.stack([np.full((9, 4, 4), 0.1), RNG.normal(size=(9, 4, 4))], 1).astype(np.float32)
    out = Inputs(x, Preparation(1.0, *map(tuple, moments(x, None, 1.0)))).whole().numpy()
    assert np.abs(out[:, 0]).max() < 1e-6 and abs(out[:, 1].std() - 1) < 1e-5


@given(st.lists(st.integers(2, 40), min_size=2, max_size=8), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_cut_uses_every_sample_once_and_leaves_each_class_in_train(
    sizes: list[int], test: bool, valid: bool
) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    parts = cut(y, 0.2 * test, 0.15 * valid, "here")
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(y)))
    assert set(y[parts["train"]].tolist()) == set(range(len(sizes)))
    assert ("test" in parts, "valid" in parts) == (test, valid)
    for split, share in (("test", 0.2), ("valid", 0.8 * 0.15 if test else 0.15)):
        for c, size in enumerate(sizes):
            if split in parts:
                assert abs((y[parts[split]] == c).sum() - share * size) < 3


def test_npz_with_nan_says_where(tmp_path: Path) -> None:
    x = X.copy()
    x[17, 3, 4] = np.nan
    x[20, 0, 0] = np.inf
    with pytest.raises(TaskError, match=r"x\[17, 3, 4\] is NaN or infinite.*2 such.*nan_to_num"):
        Task.load(saved(tmp_path, x=x, y=Y))


def test_numbers_too_large_for_float32_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="float32"):
        Task.load(saved(tmp_path, x=X * 1e300, y=Y))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": X, "y": Y[:30]}, r"\[40, 8, 8\] but y \[30\].*remove"),
        ({"x": X, "y": Y * 0}, "every y of train is the same"),
        ({"x": X, "y": np.where(np.arange(40) == 3, 9, Y)}, "class '9' has 1 samples.*2 or more"),
        ({"x": X}, "x stands alone"),
        ({"a": X}, "holds a, and there is no training data"),
        ({"x": X + 1j, "y": Y}, "complex128.*convert"),
        ({"x": X, "y": 1j * Y}, "y is complex.*whole numbers or strings"),
        ({"x": X, "y": np.where(Y > 2, np.nan, Y)}, r"y\[\d+, 0\] is missing or infinite"),
        ({"x": X, "y": Y * 0 + 0.5}, "every y of train is the same"),
        ({"x": X, "y": np.stack([Y, Y], 1)}, "is 2, which is not among"),
        ({"x": X, "y": RNG.integers(0, 2, size=(40, 4, 4))}, "nearest"),
        ({"x": X[:0], "y": Y[:0]}, "empty"),
        ({"x": np.array(3.0), "y": Y}, "shape"),
        ({"x": X, "y": np.zeros((40, 3), int)}, "every y of train is the same"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "test: y.* is 4, which is"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)}, "test: y.* is '0'"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :4], "y_test": Y}, "one size"),
        ({"x": X, "y": Y, "layout": np.array("chw")}, "'chw'.*one of nf, nhw"),
        ({"x": X, "y": np.array([[0], [1]], object).repeat(20)}, "no plain array"),
        ({"x": X[:3], "y": RNG.integers(0, 3, size=(3, 8, 8))}, "too few"),
    ],
)
def test_unusable_arrays_are_refused_with_value_rule_and_fix(
    tmp_path: Path, arrays: dict[str, Array], says: str
) -> None:
    with pytest.raises(TaskError, match=says) as caught:
        Task.load(saved(tmp_path, **arrays))
    assert "data.npz" in str(caught.value)


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    for name, says in (("data.npz", "whole .npz"), ("data.xyz", "convert it")):
        (tmp_path / name).write_bytes(b"1,2,3")
        with pytest.raises(TaskError, match=says):
            Task.load(f"mine={tmp_path / name}")


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_files_are_read_plain_or_gzipped(tmp_path: Path, zipped: bool) -> None:
    x = RNG.integers(0, 256, size=(40, 8, 8), dtype=np.uint8)
    for stem, n in (("train", 40), ("t10k", 12)):
        for name, a in (("images-idx3", x[:n]), ("labels-idx1", Y[:n].astype(np.uint8))):
            data, end = (gzip.compress(idx(a)), ".gz") if zipped else (idx(a), "")
            (tmp_path / f"{stem}-{name}-ubyte{end}").write_bytes(data)
    found = Task.load(f"mine={tmp_path}").splits()
    assert (len(found.train), len(found.valid), len(found.test)) == (34, 6, 12)
    assert found.test.y.tolist() == Y[:12].tolist()


def test_a_cut_off_mnist_file_is_refused(tmp_path: Path) -> None:
    x = np.zeros((4, 8, 8), np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(x)[:-5])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(Y[:4].astype(np.uint8)))
    with pytest.raises(TaskError, match="251 values where the header says.*fetch it anew"):
        Task.load(f"mine={tmp_path}")


def test_a_folder_of_npy_files_is_read(tmp_path: Path) -> None:
    for name, array in {"train_x": X, "train_y": Y, "test_x": X[:8], "test_y": Y[:8]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert len(Task.load(f"mine={tmp_path}").splits().test) == 8


def pictures(folder: Path, mode: str = "L", side: int = 8) -> None:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = RNG.integers(0, 256, size=(side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.png")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3)])
def test_a_sub_folder_is_a_class_of_pictures(tmp_path: Path, mode: str, channels: int) -> None:
    pictures(tmp_path, mode)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    task = Task.load(f"mine={tmp_path}")
    assert (task.input, task.classes) == ((channels, 8, 8), ("cat", "dog"))


def test_folders_of_splits_hold_folders_of_classes(tmp_path: Path) -> None:
    pictures(tmp_path / "train")
    pictures(tmp_path / "val")
    found = Task.load(f"mine={tmp_path}").splits()
    assert len(found.valid) == 12 and len(found.train) + len(found.test) == 12


def test_a_broken_picture_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="holds no idx files"):
        Task.load(f"mine={tmp_path}")
    pictures(tmp_path)
    (tmp_path / "dog" / "9.png").write_bytes(b"no picture")
    with pytest.raises(TaskError, match="1 of 13 are no readable pictures: .*9.png"):
        Task.load(f"mine={tmp_path}")


CODE = """
import torch
from torch.utils.data import TensorDataset
from pathlib import Path

def one(n=20, side=6):
    g = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 3, side, side, generator=g), torch.arange(n) % 2)
def two(): return one(), one(8)
def three(): return one(), one(6), one(8)
def named(): return {"train": one(), "val": one(6)}
def mixed(): return [(torch.zeros(1, i + 3, 3), i % 2) for i in range(9)]
def words(): return [(torch.randn(1, 3, 3), "ab"[i % 2]) for i in range(9)]
def fails(): raise KeyError("lost")
def traced():
    (Path(__file__).parent / "ran").touch()
    return one()
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(CODE)
    return f"mine={tmp_path}/own.py"


@pytest.mark.parametrize(
    ("function", "sizes"),
    [("one", (14, 2, 4)), ("two", (17, 3, 8)), ("three", (20, 6, 8)), ("named", (16, 6, 4))],
)
def test_a_function_returns_a_dataset_or_several(
    code: str, function: str, sizes: tuple[int, ...]
) -> None:
    task = Task.load(f"{code}:{function}", trust_code=True)
    found = task.splits()
    assert task.input == (3, 6, 6)
    assert (len(found.train), len(found.valid), len(found.test)) == sizes


def test_a_function_may_name_classes_by_words(code: str) -> None:
    assert Task.load(f"{code}:words", trust_code=True).classes == ("a", "b")


@pytest.mark.parametrize(
    ("function", "says"),
    [("mixed", "one size"), ("fails", "raised KeyError: 'lost'"), ("absent", "AttributeError")],
)
def test_a_function_that_fails_is_named(code: str, function: str, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        Task.load(f"{code}:{function}", trust_code=True)


def test_a_module_that_is_not_installed_is_named() -> None:
    with pytest.raises(TaskError, match="ModuleNotFoundError.*write ./file.py:function"):
        Task.load("mine=no_such_module.data:make", trust_code=True)


def test_untrusted_code_is_named_and_never_run(code: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"would run traced\(\) of .*own.py.*--trust-code"):
        Task.load(f"{code}:traced")
    (tmp_path / "own.toml").write_text(
        'name = "mine"\ntitle = "t"\nsource = "s"\nlicence = "l"\n'
        '[data]\nkind = "code"\nfunction = "./own.py:traced"\n'
    )
    with pytest.raises(TaskError, match="--trust-code"):
        Task.load(f"{tmp_path}/own.toml")
    assert not (tmp_path / "ran").exists()
    assert Task.load(f"{tmp_path}/own.toml", trust_code=True).target == "class"
    assert (tmp_path / "ran").exists()


def test_of_shipped_code_only_what_shipped_definitions_name_is_trusted() -> None:
    assert Task.load("mine=digits:digits").input == (1, 8, 8)
    for function in ("raw_digits", "cache", "compose"):
        with pytest.raises(TaskError, match=rf"would run {function}\(\) of digits"):
            Task.load(f"mine=digits:{function}")


def test_a_definition_gives_its_function_arguments_and_folders_from_where_it_lies(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "def series(n, folder):\n"
        "    x = np.full((n, 1, 8), len(folder), np.float32) + np.arange(n)[:, None, None] % 2\n"
        "    return [(x[i], i % 2) for i in range(n)]\n"
    )
    (tmp_path / "rows").mkdir()
    definition = (
        'name = "mine"\nweight = 0.5\n[data]\nkind = "code"\nlayout = "ncl"\n'
        'function = "./own.py:series"\n'
        'arguments = {n = 120, folder = "rows"}\n'
    )
    (tmp_path / "own.toml").write_text(definition)
    task = Task.load(f"{tmp_path}/own.toml", trust_code=True)
    splits = task.splits()
    assert sum(len(part.y) for part in (splits.train, splits.valid, splits.test)) == 120
    assert (task.input, task.weight) == ((1, 8), 0.5)
    (tmp_path / "own.toml").write_text(definition.replace('"rows"', '"columns"'))
    with pytest.raises(TaskError, match=f"there is no {tmp_path}/columns"):
        Task.load(f"{tmp_path}/own.toml", trust_code=True)
    (tmp_path / "own.toml").write_text(definition.replace("0.5", "0"))
    with pytest.raises(TaskError, match="weight = 0.0: a loss's weight is above 0"):
        Task.load(f"{tmp_path}/own.toml", trust_code=True)


@pytest.mark.parametrize("kinds", [("uint8", "int64"), ("int64", "uint8"), ("bool", "bool")])
def test_whole_numbers_of_any_type_are_classes(tmp_path: Path, kinds: tuple[str, str]) -> None:
    y = (Y > 1).astype(kinds[0])
    arrays = {"x_train": X, "y_train": y, "x_test": X[:8], "y_test": y[:8].astype(kinds[1])}
    spec = saved(tmp_path, **arrays)
    assert Task.load(spec).splits().test.y.tolist() == y[:8].astype(int).tolist()
    labels = np.stack([y, 1 - y.astype(int)], 1).astype(kinds[0])
    assert Task.load(saved(tmp_path, x=X, y=labels)).target == "labels"


def test_numbers_of_another_byte_order_are_read(tmp_path: Path) -> None:
    x = X.astype(">f4")
    one, two = Task.load(saved(tmp_path, x=x, y=Y)).splits().train.x, None
    two = Task.load(saved(tmp_path, x=X.astype("f4"), y=Y)).splits().train.x
    assert torch.equal(one, two)


def test_what_was_scored_first_can_be_trained_on(tmp_path: Path) -> None:
    task = Task.load(saved(tmp_path, x=X, y=Y))
    with torch.inference_mode():
        task.splits().train.x_at(torch.arange(4))
    assert not task.splits().train.x.is_inference()
