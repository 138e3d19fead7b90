"""What every operator claims holds: shapes, parameters, FLOPs, code, slices and gradients.

A new operator needs rows in CASES; the claims it inherits.
"""

from __future__ import annotations

import itertools
from math import prod
from typing import Any, NamedTuple

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.grammar import Grammar, replay
from nas.network import Network
from nas.op import EVAL, OPERATORS, Composite, Operator, Param, Shape, ShapeError, Shapes, infer
from nas.op.graph import Arrays, Graph, Names
from nas.plan.onnx import onnx_model


class Small(NamedTuple):
    """A smaller choice of the elastic sizes of a case."""

    shapes: str
    args: dict[str, Any]


class Case(NamedTuple):
    name: str
    shapes: str  # of the streams that arrive
    args: dict[str, Any]
    small: Small | None = None

    @property
    def operator(self) -> Operator:
        return OPERATORS[self.name]

    @property
    def xs(self) -> Shapes:
        return read(self.shapes)

    @property
    def bound(self) -> dict[str, Any]:
        return self.operator.bind((), self.args)


def read(shapes: str) -> Shapes:
    return tuple(map(Shape.read, shapes.split()))


def case(name: str, shapes: str, small: Small | None = None, /, **args: Any) -> Case:
    return Case(name, shapes, args, small)


def small(shapes: str, /, **args: Any) -> Small:
    return Small(shapes, args)


ELEMENTWISE = [
    "relu",
    "leaky_relu",
    "hardswish",
    "silu",
    "gelu",
    "sigmoid",
    "tanh",
    "hardsigmoid",
    "relu6",
    "softmax",
    "identity",
]
CASES = [
    case("conv", "3x9", small("3x9", out=4, kernel=3), out=8, kernel=5),
    case("conv", "6x9x8", small("4x9x8", out=5, kernel=3), out=8, kernel=7),
    case("conv", "4x8x8", small("4x8x8", out=2, bias=1), out=6, stride=2, bias=1),
    case("conv", "4x9x9", out=8, kernel=4, groups=2, padding=0, stride=3),
    case("conv", "2x5x5x5", small("1x5x5x5", out=3, kernel=1), out=4, kernel=3),
    case("conv", "4x9x8", small("4x9x8", out=2, kernel=3), out=4, kernel=5, kernel_width=3),
    case("conv", "3x9x8", out=4, kernel=1, kernel_width=5, stride=2, bias=1),
    case("conv", "3x12", small("2x12", out=2, kernel=1), out=4, kernel=3, dilation=3),
    case("conv", "2x9x9", out=4, kernel=3, dilation=2, padding=1, stride=2),
    case("depthwise", "4x9x8", kernel=3, kernel_width=7, dilation=2),
    case("depthwise", "6x7", small("4x7", kernel=1), kernel=3),
    case("depthwise", "6x9x9", small("5x9x9", kernel=3, stride=2), kernel=7, stride=2),
    case("depthwise", "2x5x4x5", bias=1, padding=0),
    case("pointwise", "4x6", out=3, bias=1),
    case("pointwise", "8x6x6", small("4x6x6", out=3), out=10),
    case("pointwise", "2x5x5x5", out=4, stride=2),
    case("mbconv", "8x9", out=8, act="gelu"),
    case(
        "mbconv",
        "8x8x8",
        small("4x8x8", out=4, kernel=3, expand=2, se=4),
        out=8,
        kernel=5,
        expand=6,
        se=4,
    ),
    case(
        "mbconv",
        "8x8x8",
        small("8x8x8", out=12, kernel=3, expand=1, stride=2),
        out=16,
        kernel=7,
        expand=4,
        stride=2,
    ),
    case("mbconv", "4x5x5x5", out=6, expand=1, act="hardswish"),
    case("squeeze_excite", "16x5", ratio=2),
    case("squeeze_excite", "32x5x5", small("24x5x5")),
    case("squeeze_excite", "6x3x3x3"),
    case("squeeze_excite", "8x5x5", small("6x5x5", inner=2), inner=5, act="silu", gate="sigmoid"),
    case("experts", "6x4x4", small("4x4x4", n=2, k=1, hidden=3), n=4, k=2, hidden=8),
    case("experts", "8", n=2, k=2, hidden=4),
    case("experts", "4x6", small("4x6", n=3, k=2, hidden=2), n=6, k=3, hidden=4),
    case("batchnorm", "12"),
    case("batchnorm", "6x5"),
    case("batchnorm", "3x4x4x4"),
    case("batchnorm", "6x5x5", small("4x5x5")),
    case("batchnorm", "6x5x5", eps=0.1),
    case("layernorm", "sequence:5x8", small("sequence:5x6"), eps=0.1),
    case("layernorm", "12"),
    case("layernorm", "sequence:5x8", small("sequence:5x6")),
    case("layernorm", "3x4x5"),
    case("channelnorm", "6x5", eps=0.1),
    case("channelnorm", "6x5x4", small("4x5x4")),
    case("channelnorm", "3x2x3x4"),
    case("groupnorm", "6x5x4", small("4x5x4", groups=2), groups=2),
    case("groupnorm", "6x5", groups=3, eps=0.1),
    case("layer_scale", "5"),
    case("layer_scale", "6x5x4", small("4x5x4")),
    case("layer_scale", "3x4"),
    case("layer_scale", "sequence:5x8", small("sequence:5x6")),
    case("norm", "6x5x5", small("4x5x5")),
    case("norm", "sequence:5x8"),
    case("norm", "7"),
    *(
        case(name, shapes)
        for name in ELEMENTWISE
        for shapes in ("7", "3x6", "sequence:4x6", "3x4x5", "2x3x3x3")
    ),
    case("pool", "5x7"),
    case("pool", "5x4x4"),
    case("pool", "3x4x4x4"),
    case("pool", "sequence:6x5"),
    case("pool", "9"),
    case("mean_space", "5x7"),
    case("mean_space", "5x4x4"),
    case("mean_space", "3x4x2x2"),
    case("attentive_pool", "6x9", small("4x9", size=3), size=3),
    case("attentive_pool", "5x4x3", size=2),
    case("cosine", "6", small("4", out=3), out=5),
    case("cosine", "3", out=2, scale=1.0),
    case("mean_positions", "sequence:6x5"),
    case("mean_positions", "sequence:1x3"),
    *(
        case(name, shapes, **args)
        for name in ("max_pool", "avg_pool")
        for shapes, args in (
            ("3x9", {}),
            ("3x8x9", {"kernel": 2, "stride": 2}),
            ("3x8x8", {"kernel": 5, "stride": 1}),
            ("2x5x5x5", {"kernel": 3, "stride": 2, "padding": 0}),
            ("3x8x7", {"kernel": 3, "stride": 2, "padding": 0, "ceil": 1}),
            ("3x6x5", {"kernel": 2, "stride": 3, "padding": 1, "ceil": 1}),
        )
    ),
    case("avg_pool", "3x8x9", counted=0),
    case("avg_pool", "3x8x9", counted=0, ceil=1, kernel=3, stride=2),
    case("upsample", "3x5"),
    case("upsample", "3x4x5", factor=3),
    case("upsample", "2x3x3x3"),
    case("upsample_to", "3x4x4", height=8, width=9),
    case("upsample_to", "3x8x8", height=4, width=4),
    case("resize", "3x9x6", percent=75),
    case("resize", "2x5x4", percent=150),
    case("resize", "3x4x4x4", percent=100),
    case("resize", "3x1x2", percent=10),
    case("linear", "12", small("8", out=4), out=9),
    case("linear", "sequence:5x8", small("sequence:5x6", out=3, bias=0), out=7, bias=0),
    case("linear", "3x4x5", out=2),
    case("flatten", "3x7"),
    case("flatten", "3x4x5"),
    case("flatten", "sequence:4x3"),
    case("output", "3x4x5", name="fine"),
    case("output", "7", name="coarse", also="vector"),
    case("precision", "3x4x5"),
    case("precision", "sequence:4x3", bits=32),
    case("precision", "7", low=25),
    case("clone", "3x4x4"),
    case("clone", "sequence:4x3", n=4),
    case("clone", "5", n=1),
    case("group", "8x4x4", n=4),
    case("group", "3x4x6", n=2, dim=3),
    case("group", "4x3", n=1),
    case("group", "sequence:4x6", n=2, dim=2),
    case("group", "10", n=5),
    case("add", "3x4x4 3x4x4"),
    case("add", "5 5 5"),
    case("add", "sequence:4x3"),
    case("multiply", "3x4x4 3x4x4"),
    case("multiply", "5 5 5"),
    case("multiply", "sequence:4x3"),
    case("concat", "3x4x4 5x4x4 1x4x4"),
    case("concat", "3x4x4 3x4x2", dim=3),
    case("concat", "4 6"),
    case("concat", "sequence:4x3 sequence:4x5", dim=2),
    case("matmul", "3x4x6 3x6x5"),
    case("matmul", "sequence:4x6 sequence:6x2"),
    case("matmul", "2x3x4x6 2x3x6x5"),
    case("scaled_matmul", "3x4x6 3x6x5"),
    case("scaled_matmul", "sequence:4x6 sequence:6x2"),
    case("upsample_add", "4x8 4x4"),
    case("upsample_add", "4x8x8 4x4x4 4x2x2"),
    case("upsample_add", "2x4x4x4 2x2x2x2"),
    case("upsample_add", "3x5x5"),
    case("upsample_add", "3x9x7 3x5x3 3x2x7"),
    case("fuse", "4x8 6x4"),
    case("fuse", "4x8x8 6x4x4 8x2x2"),
    case("fuse", "3x4x4x4 5x2x2x2"),
    case("fuse", "4x8x8"),
    case("fuse", "4x7x5 6x4x3 8x2x2 3x1x1"),
    case("fuse", "4x4x6 6x1x2 3x1x1"),
    case("permute", "3x4x5", order=312),
    case("permute", "sequence:4x6", order=21),
    case("permute", "5", order=1),
    case("permute", "2x3x4x5", order=4213),
    case("im2col", "3x8x8"),
    case("im2col", "3x8x6", kernel=2, stride=2),
    case("im2col", "1x5x5", kernel=3, stride=2, padding=1),
    case("im2col", "3x9", kernel=4, stride=4, axes=1),
    case("im2col", "2x8", padding=1, axes=1),
    case("im2col", "2x4x5x6", padding=1, stride=2, axes=3),
    case("im2col", "3x2x4x2", kernel=2, stride=2, axes=3),
    case("im2col", "2x4x3x5", kernel=1, stride=2, axes=3),
    case("col2im", "sequence:6x5", height=6, axes=1),
    case("col2im", "sequence:30x4", height=2, width=5, axes=3),
    case("col2im", "sequence:12x5", height=3, width=4),
    case("col2im", "sequence:1x5", height=1, width=1),
    case("tokens", "3x6"),
    case("tokens", "3x4x5"),
    case("tokens", "2x3x3x3"),
    case("positional", "7"),
    case("positional", "sequence:6x4", small("sequence:5x3")),
    case("positional", "3x4x5", small("2x3x4")),
    case("attention", "sequence:6x8", small("sequence:6x8", heads=2, size=4), heads=4, size=4),
    case("attention", "sequence:6x8", heads=2),
    case(
        "attention",
        "sequence:6x8",
        small("sequence:6x8", heads=1, size=3, bias=1),
        heads=2,
        size=3,
        bias=1,
    ),
    case("class_token", "sequence:6x4", small("sequence:5x3")),
    case("item", "sequence:6x4"),
    case("item", "sequence:6x4", at=6),
    case("attention", "sequence:5x6", small("sequence:5x6", heads=1, size=5), heads=3, size=5),
]


class Written(nn.Module):
    """The module that an operator's own code text describes, parts and all."""

    def __init__(self, operator: Operator, xs: Shapes, args: dict[str, Any]):
        super().__init__()
        self.parts: list[tuple[str, Operator, tuple[int, ...]]] | None = None
        if isinstance(operator, Composite):
            parts, self.results = operator.expand(xs, args)
            values, self.parts = list(xs), []
            for part in parts:
                taken = tuple(values[i] for i in part.inputs)
                values += infer(part.operator, taken, part.args).outputs
                name = part.local.replace(".", "__")
                self.add_module(name, Written(part.operator, taken, dict(part.args)))
                self.parts.append((name, part.operator, part.inputs))
            return
        code = operator.code(xs, args)
        self.names: dict[str, Any] = {"nn": nn, "F": F, "torch": torch}
        exec(code.helper, self.names)
        if code.module is not None:
            self.m = eval(code.module, self.names)
        words = [f"x{i}" for i in range(len(xs))]
        self.call = code.call.format(*words, m="m")

    def forward(self, *xs: Tensor) -> tuple[Tensor, ...]:
        if self.parts is not None:
            values = list(xs)
            for name, _, inputs in self.parts:
                values += self.get_submodule(name)(*(values[i] for i in inputs))
            return tuple(values[i] for i in self.results)
        here = {f"x{i}": x for i, x in enumerate(xs)} | {"m": getattr(self, "m", None)}
        result = eval(self.call, self.names, here)
        return tuple(result) if isinstance(result, tuple | list) else (result,)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and statistics by the names that the operator gives them."""
        return {
            name.removeprefix("m.").replace(".m.", ".").replace("__", "."): value
            for name, value in (*self.named_parameters(), *self.named_buffers())
            if not name.endswith("num_batches_tracked")
        }


def apply(
    operator: Operator, xs: tuple[Tensor, ...], given: dict[str, Tensor], args: Any, shapes: Shapes
) -> tuple[Tensor, ...]:
    """Forward on tensors, through the parts of a composite."""
    if not isinstance(operator, Composite):
        return operator.forward(xs, given, args, EVAL)
    values, typed = list(xs), list(shapes)
    parts, results = operator.expand(shapes, args)
    for part in parts:
        taken = tuple(typed[i] for i in part.inputs)
        start = f"{part.local}."
        own = {k.removeprefix(start): v for k, v in given.items() if k.startswith(start)}
        inputs = tuple(values[i] for i in part.inputs)
        values += apply(part.operator, inputs, own, part.args, taken)
        typed += infer(part.operator, taken, part.args).outputs
    return tuple(values[i] for i in results)


def write(
    operator: Operator, graph: Graph, values: Names, xs: Shapes, arrays: Arrays, args: Any
) -> Names:
    """An operator's graph, through the parts of a composite."""
    if not isinstance(operator, Composite):
        return operator.onnx(graph, values, xs, arrays, args)
    names, typed = list(values), list(xs)
    parts, results = operator.expand(xs, args)
    for part in parts:
        taken, start = tuple(typed[i] for i in part.inputs), f"{part.local}."
        own = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
        inputs = tuple(names[i] for i in part.inputs)
        names += write(part.operator, graph, inputs, taken, own, part.args)
        typed += infer(part.operator, taken, part.args).outputs
    return tuple(names[i] for i in results)


def batch(xs: Shapes, size: int = 2, device: str = "cpu") -> tuple[Tensor, ...]:
    made = torch.Generator().manual_seed(1)
    if device == "meta":
        return tuple(torch.empty((size, *x.dims), device="meta") for x in xs)
    return tuple(torch.randn((size, *x.dims), generator=made) for x in xs)


def filled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random values of the same shapes, positive where they are variances."""
    made = torch.Generator().manual_seed(2)
    values = {k: torch.randn(v.shape, generator=made) for k, v in tensors.items()}
    return {k: v.abs() + 0.5 if k.endswith("var") else v for k, v in values.items()}


def written(operator: Operator, xs: Shapes, args: dict[str, Any]) -> Written:
    module = Written(operator, xs, args).eval()
    for value, new in zip(
        module.tensors().values(), filled(module.tensors()).values(), strict=True
    ):
        value.data.copy_(new)
    return module


def window(param: Param, larger: tuple[int, ...]) -> tuple[slice, ...]:
    """Where a smaller parameter lies in a larger one: leading, or centred on the last axes."""
    first_centred = len(larger) - param.centred
    starts = [
        (big - own) // 2 if axis >= first_centred else 0
        for axis, (big, own) in enumerate(zip(larger, param.shape, strict=True))
    ]
    return tuple(slice(s, s + own) for s, own in zip(starts, param.shape, strict=True))


def test_no_operator_lacks_a_case() -> None:
    assert {c.name for c in CASES} == set(OPERATORS)


def label(value: object) -> str | None:
    if not isinstance(value, Case):
        return None
    words = ",".join(f"{k}={v}" for k, v in value.args.items())
    return f"{value.name}({words})-{value.shapes}".replace(" ", "+")


@pytest.mark.parametrize("case", CASES, ids=label)
class TestOperator:
    def test_output_shapes_are_the_arithmetic(self, case: Case) -> None:
        module = written(case.operator, case.xs, case.bound)
        results = apply(case.operator, batch(case.xs), module.tensors(), case.bound, case.xs)
        outputs = infer(case.operator, case.xs, case.bound).outputs
        assert [tuple(r.shape) for r in results] == [(2, *shape.dims) for shape in outputs]
        assert len(outputs) == case.operator.streams_out(len(case.xs), case.bound)
        assert all(torch.isfinite(r).all() for r in results)

    def test_parameters_are_those_of_the_written_module(self, case: Case) -> None:
        module = Written(case.operator, case.xs, case.bound)
        params = case.operator.params(case.xs, case.bound)
        held = dict(module.named_parameters())
        found = {
            k: tuple(v.shape)
            for k, v in module.tensors().items()
            if not k.endswith(("running_mean", "running_var"))
        }
        assert {p.name: p.shape for p in params} == found
        assert infer(case.operator, case.xs, case.bound).params == sum(
            p.numel() for p in held.values()
        )

    def test_flops_are_those_of_torch_on_meta(self, case: Case) -> None:
        module = Written(case.operator, case.xs, case.bound).eval().to("meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*batch(case.xs, 1, "meta"))
        counted = counter.get_total_flops()
        assert infer(case.operator, case.xs, case.bound).flops == counted

    def test_written_module_computes_the_same(self, case: Case) -> None:
        module = written(case.operator, case.xs, case.bound)
        xs = batch(case.xs)
        ours = apply(case.operator, xs, module.tensors(), case.bound, case.xs)
        for a, b in zip(ours, module(*xs), strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("size", [1, 5])
    def test_in_onnx_it_computes_the_same(self, case: Case, size: int) -> None:
        tensors = written(case.operator, case.xs, case.bound).tensors()
        xs = batch(case.xs, size)
        graph, inputs = Graph(), {f"x{i}": x for i, x in enumerate(case.xs)}
        arrays = {name: value.detach().numpy() for name, value in tensors.items()}
        values = write(case.operator, graph, tuple(inputs), case.xs, arrays, case.bound)
        outputs = infer(case.operator, case.xs, case.bound).outputs
        for i, value in enumerate(values):
            graph.result(value, f"y{i}")
        model = onnx_model(graph, inputs, {f"y{i}": shape for i, shape in enumerate(outputs)})
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        feed = {name: x.numpy() for name, x in zip(inputs, xs, strict=True)}
        ours = apply(case.operator, xs, tensors, case.bound, case.xs)
        for a, b in zip(ours, session.run(None, feed), strict=True):
            torch.testing.assert_close(a.detach(), torch.from_numpy(b), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", [c for c in CASES if c.small], ids=label)
def test_slice_equals_a_smaller_operator_and_trains_alone(case: Case) -> None:
    assert case.small
    operator, xs = case.operator, read(case.small.shapes)
    args = operator.bind((), case.small.args)
    whole = {
        k: v.detach().clone().requires_grad_()
        for k, v in written(operator, case.xs, case.bound).tensors().items()
    }
    module = written(operator, xs, args)
    views = {k: v for k, v in module.tensors().items() if not isinstance(v, nn.Parameter)}
    cuts = {p.name: window(p, tuple(whole[p.name].shape)) for p in operator.params(xs, args)}
    for name, cut in cuts.items():
        views[name] = whole[name][cut]
        module.tensors()[name].data.copy_(views[name])
    inputs = batch(xs)
    for a, b in zip(apply(operator, inputs, views, args, xs), module(*inputs), strict=True):
        torch.testing.assert_close(a, b)
        a.square().sum().backward()
    for name, cut in cuts.items():
        gradient = whole[name].grad
        assert gradient is not None
        own = module.tensors()[name]
        assert gradient[cut].shape == own.shape
        outside = gradient.clone()
        outside[cut] = 0
        assert not outside.any()


def test_every_elastic_argument_has_a_case_that_slices_it() -> None:
    elastic = {
        (op.name, arg.name) for op in OPERATORS.values() for arg in op.args if arg.kind == "elastic"
    }
    sliced = {
        (c.name, arg)
        for c in CASES
        if c.small
        for arg in c.bound
        if c.operator.bind((), c.small.args)[arg] != c.bound[arg]
    }
    assert elastic <= sliced


POOL = read(
    "1 6 3x1 3x7 4x8x8 4x4x4 3x1x1 6x2x4 2x4x4x4 2x3x4x4x4 "
    "sequence:16x8 sequence:8x8 sequence:1x6 sequence:12x4x4"
)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_any_shape_is_refused_with_a_shape_error_or_runs_as_typed(name: str) -> None:
    operator = OPERATORS[name]
    arriving = [(x,) for x in POOL] + list(itertools.combinations_with_replacement(POOL, 2))
    typed = 0
    for args in {str(c.bound): c.bound for c in CASES if c.name == name}.values():
        for xs in arriving:
            try:
                outputs = infer(operator, xs, args).outputs
            except ShapeError:
                continue
            typed += 1
            if len(xs) == 1:
                assert operator.takes(xs[0].kind, len(xs[0].dims), args)
                assert len(outputs) > 1 or operator.may_make(xs[0], outputs[0])
            module = Written(operator, xs, args).eval().to("meta")
            results = apply(operator, batch(xs, 2, "meta"), module.tensors(), args, xs)
            assert [tuple(r.shape[1:]) for r in results] == [y.dims for y in outputs]
            assert all(prod(y.dims) > 0 for y in outputs)
    assert typed


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_arguments_out_of_range_are_refused(name: str) -> None:
    operator = OPERATORS[name]
    least = {arg.name: arg.least for arg in operator.args if arg.type == "int"}
    given = dict.fromkeys((a.name for a in operator.args if a.default is None), "x")
    given |= {k: v for k, v in least.items() if k in given}
    operator.bind((), given)
    for arg, lowest in least.items():
        for wrong in (lowest - 1, 1.5, "three"):
            with pytest.raises(ValueError, match=rf"{name}\({arg}="):
                operator.bind((), {**given, arg: wrong})
    with pytest.raises(ValueError, match="has no argument 'sise'"):
        operator.bind((), {**given, "sise": 1})


@pytest.mark.parametrize(
    "term",
    [
        "mbconv(8, kernel=5, expand=3, se=4)",
        "mbconv(16, stride=2, act=silu)",
        "norm",
        "pool",
        "clone(2) [identity; conv(6, stride=2)] fuse [pool; pool] concat",
    ],
)
def test_composite_is_planned_as_its_parts(term: str) -> None:
    derivation = replay(Grammar.parse(f"net = {term}"), [], input=(8, 8, 8))
    network = Network(derivation).eval()
    assert network.plan.params == sum(p.numel() for p in network.parameters())
    assert not any(isinstance(step.operator, Composite) for step in network.plan.steps)
    x = torch.randn(2, 8, 8, 8)
    assert torch.isfinite(network(x)["coarse"]).all()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(torch.empty(1, 8, 8, 8, device="meta"))
    assert network.plan.flops == counter.get_total_flops()


JOINING = [case for case in CASES if len(case.xs) > 1]


@pytest.mark.parametrize("case", JOINING, ids=str)
def test_a_shape_that_would_join_the_others_is_taken_and_makes_what_is_wanted(case: Case) -> None:
    """Each stream of a case is left out, and asked for again by what comes out."""
    operator, xs, args = case.operator, case.xs, case.bound
    made = operator.makes(xs, args)
    assert made is not None
    for at, x in enumerate(xs):
        joining = operator.joins(xs[:at], xs[at + 1 :], made[0], args)
        if joining is not None:
            assert all(
                operator.makes((*xs[:at], y, *xs[at + 1 :]), args) in (made, None) for y in joining
            )
            assert x in joining
        for y in operator.tries(xs[:at], xs[at + 1 :], args) or ():
            assert y.kind == x.kind


@pytest.mark.parametrize("case", JOINING, ids=str)
def test_equal_streams_join_by_how_many_they_are(case: Case) -> None:
    operator, args, x = case.operator, case.bound, case.xs[0]
    made = operator.makes((x,) * 3, args)
    if made is not None:
        joining = operator.joins((), 2, made[0], args)
        assert joining is None or all(operator.makes((y,) * 3, args) == made for y in joining)


@pytest.mark.parametrize("case", JOINING, ids=str)
def test_a_mended_stream_is_taken_with_the_others_as_they_are(case: Case) -> None:
    operator, args, xs = case.operator, case.bound, case.xs
    wrong = tuple(x._replace(dims=(*x.dims[:-1], x.dims[-1] + i)) for i, x in enumerate(xs))
    for streams in (xs, wrong):
        for at, y in enumerate(operator.mended(streams, args)):
            assert operator.makes((*streams[:at], y, *streams[at + 1 :]), args) is not None
