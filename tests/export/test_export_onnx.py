"""Claims about the formats of other runtimes."""

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from nas.export import ExportError, Recipe, load, save, to_onnx, to_torch_export
from nas.grammar import Grammar, Limits, sample
from nas.network import Network
from nas.task import Task

TINY = "net = conv(4) batchnorm relu output(coarse) pool output(vector)"


def saved(folder: Path, space: str, input: tuple[int, ...], *specs: str, seed: int = 0) -> Network:
    grammar = Grammar.parse(space) if "=" in space else Grammar.load(space)
    tasks = [Task.load(spec) for spec in specs]
    limits = None if grammar.finite else Limits(64, params=500_000, flops=10_000_000)
    derivation = sample(grammar, random.Random(seed), input=input, limits=limits)
    network = Network(derivation, heads=tasks or None).eval()
    for name, value in network.state_dict().items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    save(network, folder, tasks=tasks, recipe=Recipe(), source={})
    return network


def in_onnxruntime(path: Path, x: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x.numpy()}), strict=True))


@pytest.mark.parametrize(
    ("space", "input", "specs"),
    [
        ("mobile", (1, 32, 32), ("scenes-segment", "scenes-classify")),
        ("fbnetv5-small", (1, 28, 28), ()),
        ("vit", (1, 28, 28), ()),
        ("net = resize(75) conv(4) batchnorm output(coarse)", (1, 30, 21), ()),
    ],
)
def test_onnx_agrees_in_onnxruntime(space, input, specs, tmp_path, capfd) -> None:
    network = saved(tmp_path / "net", space, input, *specs)
    path = to_onnx(tmp_path / "net")
    assert path == tmp_path / "net" / "model.onnx"
    assert capfd.readouterr() == ("", "")
    x = torch.randn(3, *input)
    prepared = load(tmp_path / "net")[1][0].preparation(x) if specs else x
    with torch.no_grad():
        wanted = network(prepared)
    found = in_onnxruntime(path, x)
    assert list(found) == list(wanted)
    for name, y in found.items():
        assert np.abs(y - wanted[name].numpy()).max() <= 1e-4 * max(1.0, np.abs(y).max())


def test_random_open_derivations_agree_in_onnxruntime(tmp_path) -> None:
    for seed in range(4):
        saved(tmp_path / str(seed), "einspace", (3, 16, 16), seed=seed)
        to_onnx(tmp_path / str(seed))


def test_the_batch_can_be_fixed(tmp_path) -> None:
    saved(tmp_path, TINY, (1, 8, 8))
    path = to_onnx(tmp_path, dynamic_batch=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 1, 8, 8]


def test_the_opset_is_the_one_asked_for(tmp_path) -> None:
    saved(tmp_path, TINY, (1, 8, 8))
    found = onnx.load(to_onnx(tmp_path, opset=20)).opset_import
    assert [each.version for each in found if not each.domain] == [20]
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ExportError, match="17 was asked for"):
        to_onnx(tmp_path, opset=17)
    assert not (tmp_path / "model.onnx").exists()


def test_a_model_that_onnxruntime_computes_otherwise_is_refused(tmp_path, monkeypatch) -> None:
    saved(tmp_path, TINY, (1, 8, 8))
    runtime = onnxruntime.InferenceSession
    run = runtime.run
    monkeypatch.setattr(runtime, "run", lambda self, *a: [y + 0.5 for y in run(self, *a)])
    with pytest.raises(ExportError, match="ONNX Runtime differs from torch by"):
        to_onnx(tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def test_what_cannot_be_exported_says_why(tmp_path) -> None:
    (tmp_path / "ops.py").write_text(
        "def depends(x):\n    if x.is_meta or x.sum() > 0:\n        return x\n    return 2 * x\n"
    )
    (tmp_path / "own.grammar").write_text("use ./ops.py:depends as mine\nnet = conv(4) mine\n")
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    network = Network(sample(grammar, random.Random(0), input=(1, 8, 8))).eval()
    save(network, tmp_path / "net", tasks=[], recipe=Recipe(), source={})
    with pytest.raises(ExportError, match="cannot go to ONNX"):
        to_onnx(tmp_path / "net", trust_code=True)


def test_an_operator_without_a_form_goes_through_torchs_exporter_which_is_said(tmp_path) -> None:
    (tmp_path / "ops.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "own.grammar").write_text("use ./ops.py:twice as mine\nnet = conv(4) mine relu\n")
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    network = Network(sample(grammar, random.Random(0), input=(1, 8, 8))).eval()
    save(network, tmp_path / "net", tasks=[], recipe=Recipe(), source={})
    told: list[str] = []
    path = to_onnx(
        tmp_path / "net", trust_code=True, listener=lambda event: told.append(event.text)
    )
    (text,) = told
    assert text.startswith("the operator mine has no form in ONNX: torch's exporter writes")
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        wanted = network(x)["coarse"].numpy()
    assert np.abs(in_onnxruntime(path, x)["coarse"] - wanted).max() <= 1e-4


def test_a_result_that_is_called_x_leaves_the_input_another_name(tmp_path) -> None:
    saved(tmp_path, "net = conv(4) relu output(x)", (1, 8, 8))
    graph = onnx.load(to_onnx(tmp_path)).graph
    assert [value.name for value in graph.input] == ["input"]
    assert [value.name for value in graph.output] == ["x"]


def test_a_model_py_from_somebody_else_is_not_run(tmp_path) -> None:
    saved(tmp_path, TINY, (1, 8, 8))
    (tmp_path / "model.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')\n")
    assert to_onnx(tmp_path).exists()
    assert not (tmp_path / "RAN").exists()


def test_torch_export_agrees(tmp_path) -> None:
    network = saved(tmp_path, TINY, (1, 8, 8))
    program = torch.export.load(to_torch_export(tmp_path))
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        for found, wanted in zip(program.module()(x), network(x).values(), strict=True):
            assert torch.allclose(found, wanted, atol=1e-5)
