"""The shipped spaces: derivations of each are typed, printed, read back, built and run."""

from __future__ import annotations

import os
import random
import re
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nas.grammar import Apply, Derivation, Grammar, read_network, sample, shipped_spaces
from nas.grammar.count import count, extreme
from nas.network import Network
from nas.op import Shape
from nas.plan import Plan, plan
from nas.task import TARGETS, Task

GOLDEN = Path(__file__).parents[1] / "golden"
SPACES = ["einspace", "fbnetv5-small", "mlp", "mobile", "series", "vit"]
INPUTS = [(3, 32, 32), (1, 8, 8)]
MOST_FLOPS, MOST_PARAMS = 3e8, 3e7

each = pytest.mark.parametrize("input", INPUTS, ids=lambda dims: "x".join(map(str, dims)))
space = pytest.mark.parametrize("name", SPACES)


@cache
def made(name: str, input: tuple[int, ...]) -> list[tuple[Derivation, Plan]]:
    grammar = Grammar.load(name)
    derivations = [sample(grammar, random.Random(seed), input=input) for seed in range(100)]
    return [(derivation, plan(derivation)) for derivation in derivations]


def test_every_shipped_space_is_tested() -> None:
    assert set(SPACES) <= set(shipped_spaces())


@space
@each
def test_derivations_run_forward_in_the_shapes_predicted(name: str, input: tuple[int, ...]) -> None:
    ran = 0
    for derivation, typed in made(name, input):
        if typed.flops > MOST_FLOPS or typed.params > MOST_PARAMS:
            continue
        network = Network(derivation).eval()
        assert sum(p.numel() for p in network.parameters()) == typed.params
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = network(torch.randn(2, *input))
        assert {name: (2, *shape.dims) for name, shape in typed.output_shapes().items()} == {
            name: tuple(result.shape) for name, result in results.items()
        }
        ran += 1
    assert ran >= (40 if name == "mlp" else 80)  # which is for tables, of one pixel


@space
@each
def test_derivations_print_and_read_back(name: str, input: tuple[int, ...]) -> None:
    for derivation, _ in made(name, input):
        again = Derivation.read(str(derivation))
        assert again == derivation
        assert again.network_text == derivation.network_text


@pytest.mark.parametrize("input", [(4, 64), (2, 6, 8, 6)], ids=["line", "volume"])
def test_einspace_derives_for_lines_and_volumes_as_for_images(input: tuple[int, ...]) -> None:
    derivations = made("einspace", input)
    shapes = {shape for _, typed in derivations for shape in typed.shapes}
    assert {(s.kind, len(s.dims)) for s in shapes} == {("image", len(input)), ("sequence", 2)}
    assert len({d for d, _ in derivations}) > 60
    ran = 0
    for derivation, typed in derivations:
        if typed.flops > MOST_FLOPS or typed.params > MOST_PARAMS:
            continue
        with torch.no_grad():
            (result,) = Network(derivation).eval()(torch.randn(2, *input)).values()
        assert tuple(result.shape[1:]) == typed.output_shapes()["coarse"].dims
        ran += 1
    assert ran >= 80


@pytest.mark.parametrize(
    ("text", "input", "pooled"),
    [
        ("linear(16) positional", (4, 6, 6), (2, 3)),
        ("linear(16) positional", (4, 9), (2,)),
        ("linear(16) positional", (2, 3, 4, 5), (2, 3, 4)),
        ("im2col(3, 1, 1) linear(16) identity", (4, 6, 6), 1),
        ("im2col(4, 4, 0, 1) linear(32) identity", (4, 8), 1),
    ],
)
def test_head_pools_positions_and_classifies_features_of_images_and_sequences(
    text: str, input: tuple[int, ...], pooled: int | tuple[int, ...]
) -> None:
    derivation = read_network(Grammar.load("einspace"), f"{text} output(coarse)", input=input)
    task = Task(
        "t",
        input,
        "class",
        ("a", "b", "c"),
        TARGETS["class"].head,
        "accuracy",
        "",
        "",
        "t",
        lambda: pytest.fail("a head needs no data"),
    )
    trunk, whole = Network(derivation).eval(), Network(derivation, heads=[task]).eval()
    x = torch.randn(2, *input)
    features = trunk(x)["coarse"].mean(pooled)
    bias, weight = sorted(
        (p for name, p in whole.named_parameters() if name.startswith("head")), key=lambda p: p.ndim
    )
    trunk_params = [p for name, p in whole.named_parameters() if not name.startswith("head")]
    for mine, theirs in zip(trunk.parameters(), trunk_params, strict=True):
        assert torch.equal(mine, theirs)
    assert weight.shape == (3, features.shape[1])
    torch.testing.assert_close(whole(x)["t"], F.linear(features, weight, bias))


def test_convolution_of_a_line_and_of_a_volume_is_one_of_einspace() -> None:
    grammar = Grammar.load("einspace")
    for input, text in (
        ((3, 9), "im2col(3, 2, 1, 1) linear(16) col2im(5, 1, 1) output(coarse)"),
        ((3, 5, 4, 6), "im2col(3, 1, 1, 3) linear(16) col2im(5, 6, 3) output(coarse)"),
    ):
        derivation = read_network(grammar, text, input=input)
        network = Network(derivation).eval()
        (weight, bias), x = network.parameters(), torch.randn(2, *input)
        rank, inner = len(input) - 1, input[0]
        kernel = weight.reshape(16, inner, *[3] * rank)
        convolve = (F.conv1d, F.conv3d)[rank == 3]
        expected = convolve(x, kernel, bias, stride=2 if rank == 1 else 1, padding=1)
        torch.testing.assert_close(network(x)["coarse"], expected, rtol=1e-4, atol=1e-5)


@each
def test_einspace_instantiates_at_most_256_operators(input: tuple[int, ...]) -> None:
    sizes = [sum(isinstance(t, Apply) for t in d.terms) for d, _ in made("einspace", input)]
    assert max(sizes) <= 256
    assert min(sizes) < 16


def test_einspace_derivations_differ_and_use_all_its_kinds() -> None:
    derivations = [d for d, _ in made("einspace", INPUTS[0])]
    assert len(set(derivations)) > 80
    used = {t.operator.name for d in derivations for t in d.terms if isinstance(t, Apply)}
    assert used >= {
        "clone",
        "group",
        "add",
        "concat",
        "matmul",
        "permute",
        "im2col",
        "linear",
        "norm",
        "softmax",
        "positional",
        "leaky_relu",
    }


@space
def test_trunk_names_its_outputs(name: str) -> None:
    wanted = {
        "einspace": {"coarse"},
        "mobile": {"fine", "middle", "coarse"},
        "vit": {"fine", "middle", "coarse"},
        "series": {"fine", "middle", "coarse"},
        "mlp": {"coarse"},
        "fbnetv5-small": {"p4", "p8", "p16", "p32", "fine", "middle", "coarse"},
    }
    for _, typed in made(name, INPUTS[0]):
        assert set(typed.outputs) == wanted[name]


def test_layers_of_a_tdnn_are_aggregated_as_if_they_were_joined() -> None:
    """The sum of a map of each layer's output is one map of all of them side by side."""
    grammar, input = Grammar.load("tdnn-small"), (20, 60)
    deepest = extreme(grammar, input=input, of="terminals")
    steps = plan(deepest).steps
    apart = Grammar.parse(
        "net = conv(8) clone(2) [pointwise(6); conv(12) pointwise(6)] add output(coarse)", name="a"
    )
    whole = Grammar.parse(
        "net = conv(8) clone(2) [identity; conv(12)] concat pointwise(6) output(coarse)", name="b"
    )
    sums, maps = (Network(sample(g, random.Random(0), input=input)).eval() for g in (apart, whole))
    tensors = [p.data for p in sums.parameters()]
    by_shape = {tuple(t.shape): t for t in tensors}
    for mine in maps.parameters():
        if tuple(mine.shape) == (6, 20, 1):
            mine.data = torch.cat([by_shape[6, 8, 1], by_shape[6, 12, 1]], 1)
        else:
            mine.data = by_shape[tuple(mine.shape)]
    x = torch.randn(2, *input)
    torch.testing.assert_close(sums(x)["coarse"], maps(x)["coarse"], rtol=1e-4, atol=1e-5)
    assert sum(step.operator.name == "squeeze_excite" for step in steps) == 4


@pytest.mark.parametrize("name", ["tdnn", "tdnn-small"])
def test_a_tdnn_sees_as_far_as_its_dilations_say_and_ends_in_statistics(name: str) -> None:
    grammar, input = Grammar.load(name), (24, 40)
    small, large = (
        extreme(grammar, input=input, of="terminals", largest=largest) for largest in (False, True)
    )
    for derivation, layers in ((small, 2), (large, 4)):
        operators = [t for t in derivation.terms if isinstance(t, Apply)]
        dilations = [int(t.args["dilation"]) for t in operators if t.args.get("dilation", 1) != 1]
        assert dilations == [2, 3, 4, 5][:layers]
        (shape,) = plan(derivation).output_shapes().values()
        assert shape.kind == "vector"


@pytest.mark.parametrize("side", [23, 24, 28, 47, 64])
def test_mobile_chooses_its_resolution_and_dense_logits_are_of_the_inputs_size(side: int) -> None:
    input = (1, side, side + 1)
    task = Task(
        "t",
        input,
        "pixels",
        ("a", "b", "c"),
        TARGETS["pixels"].head,
        "mean_iou",
        "",
        "",
        "t",
        lambda: pytest.fail("a head needs no data"),
    )
    drawn = [sample(Grammar.load("mobile"), random.Random(seed), input=input) for seed in range(9)]
    found = {d.labels[0]: Network(d, heads=[task]).eval() for d in drawn}
    offered = ["percent=100", "percent=75", "percent=88"]
    assert side < 24 or sorted(found) == offered
    assert side >= 24 or not set(found) & set(offered)
    for label, network in found.items():
        assert network(torch.randn(2, *input))["t"].shape == (2, 3, *input[1:])
        resized = [s for s in network.plan.steps if s.operator.name == "upsample_to"][:-1]
        assert len(resized) == (label in ("percent=75", "percent=88"))


SHIPPED = re.findall(
    r"^[|] `(.+)` [|].*[|] (\d\S+) [|] ([\d,]+) [|] (.+) to (.+) [|] (.+) M to (.+) M [|]$",
    (Path(__file__).parents[2] / "docs" / "spaces.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("name", "input", "holds", "low", "high", "least", "most"), SHIPPED)
def test_the_docs_say_what_shipped_spaces_hold(
    name: str, input: str, holds: str, low: str, high: str, least: str, most: str
) -> None:
    grammar, shape = Grammar.load(name), Shape.read(input)
    params, flops = (
        [
            getattr(plan(extreme(grammar, input=shape, of=of, largest=largest)), of)
            for largest in (False, True)
        ]
        for of in ("params", "flops")
    )
    assert [holds, low, high] == [f"{n:,}" for n in (count(grammar, input=shape), *params)]
    assert [least, most] == [f"{n / 1e6:.3f}" for n in flops]


def test_the_docs_list_every_shipped_space() -> None:
    finite = {name for name in shipped_spaces() if Grammar.load(name).finite}
    assert {row[0] for row in SHIPPED} == finite


@space
def test_seeded_derivations_are_the_golden_ones(name: str) -> None:
    """Where a change of these is meant, NAS_WRITE_GOLDEN=1 writes the files anew."""
    derivations = [d for d, _ in made(name, INPUTS[1]) if len(d.choices) < 40][:5]
    text = "".join(f"{d}\n{d.network_text}\n\n" for d in derivations)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("NAS_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    golden = path.read_text(encoding="utf-8")
    assert text == golden
    for block in golden.split("\n\n")[:-1]:
        printed, operators = block.split("\n")
        assert Derivation.read(printed).network_text == operators
