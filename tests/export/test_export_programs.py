"""Claims about files of other runtimes: each is run, and gives what torch gives."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

from nas.export import (
    ExportError,
    Recipe,
    load,
    save,
    to_executorch,
    to_litert,
    to_onnx,
    to_openvino,
    to_torch_export,
)
from nas.export.plain_model import plain
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.task import Task, score


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Network]:
    folder, task = tmp_path_factory.mktemp("programs") / "net", Task.load("digits")
    derivation = sample(Grammar.load("mobile"), random.Random(0), input=task.input)
    network = Network(derivation, heads=[task]).eval()
    save(network, folder, tasks=[task], recipe=Recipe(), source={})
    return folder, network


def test_openvino_runs_what_was_written(net: tuple[Path, Network]) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is an extra")
    path = to_openvino(net[0], prepared=True)
    ways = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", ways)
    for batch in (1, 2, 7):
        x = torch.randn(batch, 1, 8, 8)
        with torch.no_grad():
            wanted = plain(net[1])(x)
        assert torch.allclose(torch.from_numpy(compiled([x.numpy()])[0]), wanted, atol=1e-4)


def test_executorch_runs_what_was_written(net: tuple[Path, Network]) -> None:
    pytest.importorskip("executorch.runtime", reason="executorch is an extra")
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(to_executorch(net[0], prepared=True)).load_method("forward")
    for batch in (1, 2, 7):
        x = torch.randn(batch, 1, 8, 8)
        with torch.no_grad():
            wanted = plain(net[1])(x)
        assert torch.allclose(method.execute([x])[0], wanted, atol=1e-4)


def test_litert_runs_what_was_written(net: tuple[Path, Network]) -> None:
    pytest.importorskip("litert_torch", reason="litert is an extra")
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(model_path=str(to_litert(net[0], prepared=True)))
    loaded.allocate_tensors()
    (taken,), (given,) = loaded.get_input_details(), loaded.get_output_details()
    for _ in range(3):
        x = torch.randn(1, 1, 8, 8)
        loaded.set_tensor(taken["index"], x.numpy())
        loaded.invoke()
        with torch.no_grad():
            wanted = plain(net[1])(x)
        assert torch.allclose(
            torch.from_numpy(loaded.get_tensor(given["index"])), wanted, atol=1e-4
        )


def test_the_card_has_what_each_file_says_of_the_test_split(net: tuple[Path, Network]) -> None:
    folder, network = net
    for export in (to_onnx, to_torch_export, to_openvino, to_openvino):
        export(folder, tested=True)
    (task,) = load(folder)[1]
    with torch.no_grad():
        accuracy = score(task, network(task.splits().test.x)["digits"], task.splits().test.y)
    rows = [line for line in (folder / "card.md").read_text().splitlines() if "| 359 |" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| model.onnx", "| model.pt2", "| openvino"]
    figure = f"{accuracy['accuracy']:.4f}"
    assert all(row.split(" | ")[2:4] == [figure, figure] for row in rows)


def test_a_runtime_that_is_not_installed_is_named(
    net: tuple[Path, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, extra, export in (
        ("executorch", "executorch", to_executorch),
        ("litert_torch", "litert", to_litert),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ExportError, match=rf"pip install 'nas-engine\[{extra}\]'"):
            export(net[0])
