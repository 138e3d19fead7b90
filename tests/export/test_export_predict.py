"""Claims about preparation that travels: a network knows how its samples are to be prepared."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from nas.cli import app
from nas.export import ExportError, Recipe, load, predict, save, to_onnx, to_torch_export
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.task import Task, load_tasks

RNG = np.random.default_rng(2)
SPACE = Grammar.parse("net = conv(8, stride=2) batchnorm relu output(coarse)", name="s")
PIXELS = Grammar.parse(
    "net = conv(8) output(fine) conv(8, stride=2) output(middle) relu output(coarse)", name="p"
)


def saved(folder: Path, tasks: list[Task], grammar: Grammar = SPACE) -> Network:
    derivation = sample(grammar, random.Random(0), input=tasks[0].input)
    network = Network(derivation, heads=tasks, seed=3).eval()
    save(network, folder, tasks=tasks, recipe=Recipe(), source={})
    return network


def imported(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"model_{folder.name}", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["RGB", "L", "RGBA"])
def photos(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Pictures of unequal sizes, of which some are turned."""
    for name in ('a cat\'s\n"paw"'.replace("\n", " "), "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            pixels = RNG.integers(0, 256, (20 + 3 * i, 41 - i, 4), dtype=np.uint8)
            image = Image.fromarray(pixels).convert(request.param)
            exif = Image.Exif()
            exif[0x0112] = 6 if i % 2 else 1
            image.save(tmp_path / "photos" / name / f"{i}.png", exif=exif)
    return tmp_path / "photos"


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_a_picture_is_prepared_alike_in_training_in_model_py_in_onnx_and_by_predict(
    photos: Path, tmp_path: Path, fit: str
) -> None:
    task = Task.load(f"pets={photos}?size=16&fit={fit}")
    network = saved(tmp_path / "net", [task])
    splits = task.splits()
    known = [row for part in (splits.train, splits.valid, splits.test) for row in part.x]
    model = imported(tmp_path / "net")
    plain = model.load()
    session = onnxruntime.InferenceSession(to_onnx(tmp_path / "net"))
    files = sorted(photos.rglob("*.png"))
    said = list(predict(tmp_path / "net", files))
    assert {"pets": task.classes} == model.CLASSES
    for file, prediction in zip(files, said, strict=True):
        raw = model.open_picture(file)
        assert raw.dtype == torch.uint8
        prepared = model.prepare(raw)
        assert min((prepared[0] - row).abs().max() for row in known) < 1e-6
        with torch.no_grad():
            wanted = network(prepared)["pets"]
            torch.testing.assert_close(plain(prepared), wanted, rtol=1e-4, atol=1e-5)
        (found,) = session.run(None, {"x": raw.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-3, atol=1e-4)
        shares = wanted.softmax(1)[0]
        best = task.classes[int(shares.argmax())]
        assert prediction.sample == str(file)
        assert next(iter(prediction.tasks["pets"])) == best
        assert prediction.tasks["pets"][best] == pytest.approx(float(shares.max()), abs=1e-5)
    props = session.get_modelmeta().custom_metadata_map
    assert json.loads(props["classes pets"]) == list(task.classes)
    assert json.loads(props["preparation"])["picture"]["width"] == 16


def test_arrays_are_prepared_as_they_were_laid_out(tmp_path: Path) -> None:
    x, y = RNG.normal(3, 5, (60, 9, 8, 3)), np.arange(60) % 3
    np.savez(tmp_path / "d.npz", x=x, y=y)
    task = Task.load(f"mine={tmp_path / 'd.npz'}")
    network = saved(tmp_path / "net", [task])
    np.save(tmp_path / "new.npy", x[:5])
    with torch.no_grad():
        prepared = task.preparation(torch.from_numpy(x[:5]).permute(0, 3, 1, 2))
        shares = network(prepared)["mine"].softmax(1)
    for number, said in enumerate(predict(tmp_path / "net", [tmp_path / "new.npy"])):
        assert said.sample.endswith(f"new.npy[{number}]")
        values = [said.tasks["mine"][name] for name in task.classes]
        assert values == pytest.approx(shares[number].tolist(), abs=1e-5)
    np.save(tmp_path / "odd.npy", x[:5, :4])
    with pytest.raises(ExportError, match=r"odd.npy: a sample is \[3, 4, 8\], and mine takes"):
        list(predict(tmp_path / "net", [tmp_path / "odd.npy"]))
    Image.new("RGB", (8, 9)).save(tmp_path / "p.png")
    with pytest.raises(ExportError, match="was not learned from pictures in files"):
        list(predict(tmp_path / "net", [tmp_path / "p.png"]))


def test_two_tasks_that_are_prepared_otherwise_are_prepared_each_by_its_own(tmp_path: Path) -> None:
    for name, scale in (("left", 1.0), ("right", 9.0)):
        x = RNG.normal(scale, scale, (40, 1, 8, 8)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(40) % 2)
    tasks = load_tasks([f"{name}={tmp_path / name}.npz?layout=nchw" for name in ("left", "right")])
    saved(tmp_path / "net", tasks)
    model, x = imported(tmp_path / "net"), torch.randn(3, 1, 8, 8)
    for task in tasks:
        torch.testing.assert_close(model.prepare(x, task.name), task.preparation(x))
    session = onnxruntime.InferenceSession(to_onnx(tmp_path / "net"))
    assert session.get_modelmeta().custom_metadata_map["input"] == "prepared"


def test_a_torch_program_takes_samples_as_they_are_found_or_prepared(tmp_path: Path) -> None:
    tasks = load_tasks(["digits"])
    network = saved(tmp_path / "net", tasks)
    raw = torch.rand(3, 1, 8, 8)
    for prepared in (False, True):
        program = torch.export.load(to_torch_export(tmp_path / "net", prepared=prepared)).module()
        x = raw if prepared else tasks[0].preparation(raw)
        with torch.no_grad():
            (found,) = program(raw)
            torch.testing.assert_close(found, network(x)["digits"], rtol=1e-4, atol=1e-5)


def test_masks_are_drawn_and_classes_printed_by_the_command(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "seg" / part).mkdir(parents=True)
    for i in range(10):
        pixels = RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "seg" / "images" / f"{i}.png")
        Image.fromarray((pixels[..., 0] > 99).astype(np.uint8)).save(
            tmp_path / "seg" / "masks" / f"{i}.png"
        )
    task = Task.load(f"seg={tmp_path / 'seg'}")
    network = saved(tmp_path / "net", [task], PIXELS)
    file = tmp_path / "seg" / "images" / "3.png"
    words = ["predict", str(tmp_path / "net"), str(file), "--to", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    drawn = np.asarray(Image.open(tmp_path / "out" / "3.seg.png"))
    with torch.no_grad():
        raw = torch.from_numpy(np.asarray(Image.open(file)).transpose(2, 0, 1)[None].copy())
        wanted = network(task.preparation(raw))["seg"].argmax(1)[0].numpy()
    assert (drawn == wanted).all()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and "3.seg.png is there already" in result.output
    with torch.no_grad():
        many = network(task.preparation(raw.repeat(2, 1, 1, 1)))["seg"].argmax(1)
    np.save(tmp_path / "x.npy", np.asarray(Image.open(file))[None].repeat(2, 0))
    words = ["predict", str(tmp_path / "net"), str(tmp_path / "x.npy"), "--to", str(tmp_path / "n")]
    assert CliRunner().invoke(app, words).exit_code == 0
    for number in (0, 1):
        again = np.asarray(Image.open(tmp_path / "n" / f"x-{number}.seg.png"))
        assert (again == many[number].numpy()).all()


def test_a_network_that_does_not_know_its_preparation_says_so(tmp_path: Path) -> None:
    saved(tmp_path / "net", load_tasks(["digits"]))
    path = tmp_path / "net" / "architecture.json"
    record = json.loads(path.read_text())
    del record["tasks"][0]["preparation"]
    path.write_text(json.dumps(record))
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8)))
    with pytest.raises(ExportError, match="does not say how samples of digits are prepared"):
        list(predict(tmp_path / "net", [tmp_path / "x.npy"]))
    assert to_onnx(tmp_path / "net").exists()  # of prepared samples, as then


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mean": [0.0, 1.0]}, "2 means and 1 deviations"),
        ({"deviation": [0.0]}, "not above 0"),
        ({"scale": "NaN"}, "scale"),
        ({"picture": {"mode": "RGB", "height": 8, "width": 8}}, "pictures as colour"),
    ],
)
def test_a_preparation_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    saved(tmp_path / "net", load_tasks(["digits"]))
    path = tmp_path / "net" / "architecture.json"
    record = json.loads(path.read_text())
    record["tasks"][0]["preparation"] |= change
    path.write_text(json.dumps(record))
    with pytest.raises(ExportError, match=says):
        load(tmp_path / "net")


def test_data_that_has_changed_is_not_trained_on_by_another_preparation(tmp_path: Path) -> None:
    x, y = RNG.normal(3, 5, (60, 9)), np.arange(60) % 3
    np.savez(tmp_path / "d.npz", x=x, y=y)
    saved(tmp_path / "net", [Task.load(f"mine={tmp_path / 'd.npz'}")], Grammar.load("mlp"))
    load(tmp_path / "net")[1][0].splits()
    np.savez(tmp_path / "d.npz", x=3 * x, y=y)
    with pytest.raises(ExportError, match="its data has changed since the network was extracted"):
        load(tmp_path / "net")[1][0].splits()


@pytest.mark.parametrize("array", [np.zeros(()), np.zeros((0, 8, 8)), np.full((1, 8, 8), np.nan)])
def test_samples_that_are_none_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    saved(tmp_path / "net", load_tasks(["digits"]))
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match="holds no sample|is NaN or infinite"):
        list(predict(tmp_path / "net", [tmp_path / "x.npy"]))


def test_a_mode_that_would_be_code_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "net", load_tasks(["digits"]))
    path = tmp_path / "net" / "architecture.json"
    record = json.loads(path.read_text())
    mode = 'L") or print("'
    record["tasks"][0]["preparation"]["picture"] = {"mode": mode, "height": 8, "width": 8}
    path.write_text(json.dumps(record))
    with pytest.raises(ExportError, match="mode"):
        load(tmp_path / "net")


def test_boxes_are_said_and_surfaces_written(tmp_path: Path) -> None:
    tasks = load_tasks(["scenes-detect", "scenes-depth"])
    network = saved(tmp_path / "net", tasks, PIXELS)
    x = np.stack([tasks[0].splits().test.x[0, 0].numpy()])
    np.save(tmp_path / "new.npy", x)
    words = ["predict", str(tmp_path / "net"), str(tmp_path / "new.npy"), "--to", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "scenes-detect: " in result.output and " at " in result.output
    (surface,) = tmp_path.glob("new-0.scenes-depth.npy")
    ((mean, deviation),) = tasks[1].units
    with torch.no_grad():
        logits = network(tasks[1].preparation(torch.from_numpy(x)[:, None]))["scenes-depth"]
    assert np.load(surface) == pytest.approx(logits[0, 0].numpy() * deviation + mean, abs=1e-4)
    surface.unlink()
    shown = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert {"class", "share", "box"} == set(shown["scenes-detect"][0])


@pytest.fixture
def two_sizes(tmp_path: Path) -> list[Task]:
    """Grey pictures with masks, and larger ones in colours with classes."""
    grey = RNG.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    colour = RNG.integers(0, 255, (60, 16, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "mask.npz", x=grey, y=(grey > 127).astype(int))
    np.savez(tmp_path / "kind.npz", x=colour, y=np.arange(60) % 2)
    return load_tasks([f"{name}={tmp_path / f'{name}.npz'}" for name in ("mask", "kind")])


def test_a_network_takes_samples_of_each_task_as_they_are_found(
    two_sizes: list[Task], tmp_path: Path
) -> None:
    saved(tmp_path / "net", two_sizes, Grammar.load("fbnetv5-small"))
    model = imported(tmp_path / "net")
    for task, shape in zip(two_sizes, ((1, 8, 8), (3, 16, 24)), strict=True):
        x = torch.randint(0, 255, (3, *shape), dtype=torch.uint8)
        torch.testing.assert_close(model.prepare(x, task.name), task.preparation(x))


def test_arrays_are_answered_by_the_tasks_whose_samples_they_are(
    two_sizes: list[Task], tmp_path: Path
) -> None:
    saved(tmp_path / "net", two_sizes, Grammar.load("fbnetv5-small"))
    for task, shape in zip(("mask", "kind"), ((2, 8, 8), (2, 16, 24, 3)), strict=True):
        np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
        first, _ = predict(tmp_path / "net", [tmp_path / "x.npy"])
        assert list(first.tasks) == [task]


def test_a_network_for_the_enlarged_task_alone_takes_small_pictures(
    two_sizes: list[Task], tmp_path: Path
) -> None:
    task = two_sizes[0]
    network = saved(tmp_path / "net", [task], Grammar.load("fbnetv5-small"))
    x = torch.randint(0, 255, (3, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(task.preparation(x))["mask"]
    prepared = imported(tmp_path / "net").prepare(x)
    torch.testing.assert_close(prepared, task.preparation(x))
    session = onnxruntime.InferenceSession(to_onnx(tmp_path / "net"))
    (logits,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)
    np.save(tmp_path / "new.npy", x[:, 0].numpy())
    (first, *_) = predict(tmp_path / "net", [tmp_path / "new.npy"])
    assert first.tasks["mask"].shape == (16, 24)


def test_a_folder_that_enlarges_to_another_input_is_refused(
    two_sizes: list[Task], tmp_path: Path
) -> None:
    saved(tmp_path / "net", two_sizes[:1], Grammar.load("fbnetv5-small"))
    file = tmp_path / "net" / "architecture.json"
    text = "".join(file.read_text().split())
    assert '"to":[3,16,24]' in text
    file.write_text(text.replace('"to":[3,16,24]', '"to":[3,90000,24]'))
    with pytest.raises(ExportError, match="mask is prepared by"):
        load(tmp_path / "net")


@pytest.mark.parametrize("asked", ["features=log-mel", "features=mfcc&trim=true&rate=6000"])
def test_a_recording_is_prepared_alike_in_training_in_model_py_in_onnx_and_by_predict(
    tmp_path: Path, asked: str
) -> None:
    soundfile = pytest.importorskip("soundfile", reason="recordings need nas-engine[audio]")
    for speaker in range(6):
        (tmp_path / "voices" / f"s{speaker}").mkdir(parents=True)
        for i in range(4):
            wave = RNG.normal(0, 0.1 + 0.02 * speaker, (3000 + 900 * i, 1 + i % 2)).cumsum(0) / 40
            wave[:500] = 0
            rate = 8000 if i else 11_025
            soundfile.write(
                tmp_path / "voices" / f"s{speaker}" / f"{i}.wav", wave.clip(-1, 1), rate
            )
    task = Task.load(f"who={tmp_path / 'voices'}?predict=speaker&seconds=0.5&bands=20&{asked}")
    space = Grammar.parse(
        "net = conv(8, kernel=3, dilation=2) relu batchnorm attentive_pool(4) output(coarse)",
        name="s",
    )
    network = saved(tmp_path / "net", [task], space)
    known = [row for part in task.splits().every for row in part.x]
    model = imported(tmp_path / "net")
    plain = model.load()
    session = onnxruntime.InferenceSession(to_onnx(tmp_path / "net"))
    files = sorted((tmp_path / "voices").rglob("*.wav"))
    for file, said in zip(files, predict(tmp_path / "net", files), strict=True):
        raw = model.open_sound(file)
        prepared = model.prepare(raw)
        assert min((prepared[0] - row).abs().max() for row in known) < 1e-3
        with torch.no_grad():
            wanted = network(prepared)["who"]
            torch.testing.assert_close(plain(prepared), wanted, rtol=1e-4, atol=1e-4)
        (found,) = session.run(None, {"x": raw.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-3, atol=2e-3)
        cosines = (wanted[0, 192:] / 30).tolist()
        for name, cosine in zip(task.classes, cosines, strict=True):
            assert said.tasks["who"][name] == pytest.approx(cosine, abs=1e-4)
    with pytest.raises(ExportError, match="is no readable recording"):
        list(predict(tmp_path / "net", [tmp_path / "net" / "model.py"]))


def test_two_tasks_of_recordings_are_prepared_each_by_its_own(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="recordings need nas-engine[audio]")
    for name, loud in (("left", 0.02), ("right", 0.3)):
        for kind in ("a", "b"):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(8):
                wave = RNG.normal(0, loud, 4000).cumsum() / 30
                soundfile.write(tmp_path / name / kind / f"{i}.wav", wave.clip(-1, 1), 8000)
    asked = {"left": "bands=20", "right": "bands=20&features=mfcc"}
    specs = [f"{name}={tmp_path / name}?seconds=0.5&{words}" for name, words in asked.items()]
    tasks = load_tasks(specs)
    saved(tmp_path / "net", tasks)
    model = imported(tmp_path / "net")
    x = model.open_sound(tmp_path / "left" / "a" / "0.wav")
    for task in tasks:
        torch.testing.assert_close(
            model.prepare(x, task.name), task.preparation(x), rtol=1e-3, atol=1e-3
        )
