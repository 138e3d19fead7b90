"""Claims about what runs networks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from nas.grammar import Grammar, Limits, sample
from nas.measure.runtime import RUNTIMES, Runtime, onnx_bytes, usual
from nas.network import Network
from nas.op.graph import NoOnnxForm
from nas.plan import run
from nas.task import Task

QUICK = [name for name in RUNTIMES if name != "torch.compile"]


def network(space: str, input: tuple[int, ...], *tasks: str, seed: int = 0) -> Network:
    grammar = Grammar.parse(space) if "=" in space else Grammar.load(space)
    limits = None if grammar.finite else Limits(64, params=500_000, flops=10_000_000)
    derivation = sample(grammar, random.Random(seed), input=input, limits=limits)
    made = Network(derivation, heads=[Task.load(name) for name in tasks] or None).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in made.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
    return made


@pytest.mark.parametrize("runtime", QUICK)
@pytest.mark.parametrize(
    ("space", "input", "tasks"),
    [
        ("mobile", (1, 32, 32), ("scenes-segment", "scenes-classify")),
        ("fbnetv5-small", (3, 27, 22), ()),
        ("vit", (1, 28, 28), ()),
        ("series", (3, 64), ()),
        ("tdnn-small", (20, 60), ()),
        ("mlp", (30, 1), ()),
    ],
)
def test_every_runtime_computes_the_same(
    runtime: str, space: str, input: tuple[int, ...], tasks: tuple[str, ...]
) -> None:
    pytest.importorskip(RUNTIMES[runtime].package)
    for seed in range(3):
        own = network(space, input, *tasks, seed=seed)
        forward = RUNTIMES[runtime].load(own.plan, own.tensors(), 1, "cpu")
        for batch in (1, 5):
            x = torch.randn(batch, *input)
            with torch.inference_mode():
                results, wanted = forward(x), own(x)
            assert list(results) == list(wanted)
            for name, y in wanted.items():
                assert y.std() > 0
                scale = max(1.0, y.abs().max().item())
                assert (results[name] - y).abs().max() <= 1e-4 * scale


def test_a_compiled_network_computes_the_same() -> None:
    own = network("net = conv(4) batchnorm relu output(coarse)", (1, 6, 6))
    forward = RUNTIMES["torch.compile"].load(own.plan, own.tensors(), 1, "cpu")
    x = torch.randn(2, 1, 6, 6)
    with torch.inference_mode():
        torch.testing.assert_close(forward(x), own(x))


def test_open_derivations_compute_the_same_in_onnx_runtime() -> None:
    for seed in range(12):
        own = network("einspace", (3, 16, 16), seed=seed)
        forward = RUNTIMES["onnxruntime"].load(own.plan, own.tensors(), 1, "cpu")
        x = torch.randn(3, 3, 16, 16)
        with torch.inference_mode():
            wanted = run(own.plan, own.tensors(), x)
        for name, y in forward(x).items():
            scale = max(1.0, wanted[name].abs().max().item())
            assert (y - wanted[name]).abs().max() <= 1e-4 * scale


def test_norms_are_part_of_the_maps_before_them() -> None:
    import onnx

    own = network("net = conv(4) batchnorm relu batchnorm output(coarse)", (1, 6, 6))
    model = onnx.load_from_string(onnx_bytes(own.plan, own.tensors()))
    assert [node.op_type for node in model.graph.node] == [
        "Conv",
        "Relu",
        "BatchNormalization",
        "Identity",
    ]


def test_a_norm_stays_apart_from_a_map_that_others_read() -> None:
    own = network(
        "net = pointwise(2) clone(2) [identity; relu] add batchnorm output(coarse)", (1, 6, 6)
    )
    assert b"BatchNormalization" in onnx_bytes(own.plan, own.tensors())


def test_an_operator_of_the_users_own_has_no_form(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "own.grammar").write_text("use ./ops.py:twice as mine\nnet = conv(4) mine\n")
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    own = Network(sample(grammar, random.Random(0), input=(1, 8, 8))).eval()
    with pytest.raises(NoOnnxForm, match="operator mine has no form in ONNX"):
        onnx_bytes(own.plan, own.tensors())


def test_a_runtime_that_is_not_installed_says_how_to_install_it() -> None:
    absent = Runtime("swift", "Swift", "no_such_package_at_all", RUNTIMES["torch"].load, "swift")
    assert "pip install 'nas-engine[swift]'" in absent.lacks
    assert absent.version == "Swift"
    assert not RUNTIMES["onnxruntime"].lacks


def test_what_is_usual_hangs_on_the_device_and_on_what_can_be_written() -> None:
    assert usual("cpu") == "onnxruntime"
    assert usual("cuda") == usual("cpu", written=False) == "torch"
