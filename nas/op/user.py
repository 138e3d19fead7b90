"""An operator of the user's own: a Python function or module, learned on the meta device."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas.lazy import torch
from nas.op.base import Arg, Args, Code, Operator, Param, Phase, Shapes, infer
from nas.op.shape import Shape, ShapeError
from nas.user_code import content_digest, user_attribute

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights


class UserOperator(Operator):
    """`target` is `package.module:attribute` or `file.py:attribute`.

    A module class is called with the grammar's arguments, and with `shape` (without the batch
    axis) where it takes one; a plain function takes the tensors first and the arguments by name.
    Shapes, parameters and FLOPs are those of a run on the meta device. Sizes are part of the
    slot's key: such an operator is shared whole or not at all. Two are equal when what they name
    is: a function that was edited is another operator.
    """

    nonlinear, whole = True, True
    streams_in = None

    def __init__(self, name: str, target: str):
        self.name, self.target = name, target  # type: ignore[misc]
        self._built: dict[Any, Any] = {}

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, UserOperator) and self.target == other.target
        return same and self.digest == other.digest  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.target, self.digest))

    @cached_property
    def digest(self) -> str:
        return content_digest(self.target)

    @cached_property
    def function(self) -> Callable[..., Any]:
        try:
            loaded = user_attribute(self.target)
        except (ImportError, AttributeError, OSError) as error:
            raise ValueError(
                f"operator {self.name!r}: {self.target} cannot be loaded: {error}; "
                "write `use package.module:attribute as name` or `use ./file.py:attribute as name`"
            ) from None
        if not callable(loaded):
            raise ValueError(f"operator {self.name!r}: {self.target} is no function or module")
        return loaded  # type: ignore[no-any-return]

    @cached_property
    def is_module(self) -> bool:
        return isinstance(self.function, type) and issubclass(self.function, torch.nn.Module)

    @cached_property
    def args(self) -> tuple[Arg, ...]:  # type: ignore[override]
        skip = {"self", "shape"}
        arguments = []
        for index, p in enumerate(inspect.signature(self.function).parameters.values()):
            if p.name in skip or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                continue
            if not self.is_module and p.default is p.empty and index < self._tensors:
                continue
            default = None if p.default is p.empty else p.default
            kind = "word" if isinstance(default, str) else "float"
            arguments.append(Arg(p.name, "shape", default, kind))  # type: ignore[arg-type]
        return tuple(arguments)

    @cached_property
    def _tensors(self) -> int:
        """How many leading parameters of a plain function are tensors: those annotated so,
        or the first alone."""
        parameters = list(inspect.signature(self.function).parameters.values())
        named = [p for p in parameters if "Tensor" in str(p.annotation)]
        return max(1, len(named))

    def _module(self, xs: Shapes, a: Args) -> Any:
        words: dict[str, Any] = {
            k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in a.items()
        }
        if "shape" in inspect.signature(self.function).parameters:
            words["shape"] = xs[0].dims
        return self.function(**words)

    def _meta(self, xs: Shapes, a: Args) -> Any:
        key = (tuple(x.dims for x in xs), tuple(a.items()))
        if key not in self._built:
            with torch.device("meta"):
                self._built[key] = self._module(xs, a)
        return self._built[key]

    def _run(self, xs: Shapes, a: Args) -> tuple[Any, int]:
        """What it returns, and the FLOPs, on the meta device with a batch of one."""
        from torch.utils.flop_counter import FlopCounterMode

        tensors = [torch.empty((1, *x.dims), device="meta") for x in xs]
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                if self.is_module:
                    module = self._meta(xs, a).eval()
                    if next(module.buffers(), None) is not None:
                        raise ValueError("it keeps buffers; norms belong in the grammar")
                    result = module(*tensors)
                else:
                    result = self.function(*tensors, **a)
        except Exception as error:
            raise ShapeError(f"{self.target} raises {type(error).__name__}: {error}") from None
        return result, counter.get_total_flops()

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        results, _ = self._run(xs, a)
        shapes = []
        for result in results if isinstance(results, tuple) else (results,):
            dims = tuple(int(d) for d in result.shape[1:])
            kind = xs[0].kind if len(dims) == len(xs[0].dims) else Shape.of(dims).kind
            shapes.append(Shape(kind, dims))
        return tuple(shapes)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        if not self.is_module:
            return ()
        ones = self._ones(xs, a)
        return tuple(
            Param(
                name,
                tuple(p.shape),
                "fan_in" if p.ndim > 1 else _flat(name in ones),
                p[0].numel() if p.ndim > 1 else 0,
                p.ndim > 1,
            )
            for name, p in self._meta(xs, a).named_parameters()
        )

    def _ones(self, xs: Shapes, a: Args) -> frozenset[str]:
        """The parameters that the user's module begins with ones, as scales are."""
        key = ("ones", tuple(x.dims for x in xs), tuple(a.items()))
        if key not in self._built:
            with torch.random.fork_rng(devices=[]):
                held = self._module(xs, a).named_parameters()
            self._built[key] = frozenset(name for name, p in held if bool((p == 1).all()))
        return self._built[key]  # type: ignore[no-any-return]

    def flops(self, xs: Shapes, a: Args) -> int:
        return self._run(xs, a)[1]

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        shapes = tuple(Shape.of(tuple(x.shape[1:])) for x in xs)
        written = [x._version for x in xs if not x.is_inference()]
        try:
            if not self.is_module:
                result = self.function(*xs, **a)
            else:
                module = self._meta(shapes, a).train(phase.training)
                result = torch.func.functional_call(module, dict(p), xs)
        except (Exception, SystemExit) as error:
            raise self._fault(f"raises {type(error).__name__}: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        if written != [x._version for x in xs if not x.is_inference()]:
            raise self._fault("writes into its input, which others read: return a new tensor")
        shapes_now = [tuple(y.shape[1:]) for y in results]
        shapes_meta = [shape.dims for shape in infer(self, shapes, a).outputs]
        if shapes_now != shapes_meta:
            raise self._fault(
                f"gives {shapes_now} where it said {shapes_meta} on the meta device: a shape must "
                "depend on shapes alone"
            )
        return results

    def _fault(self, reason: str) -> RuntimeError:
        return RuntimeError(f"operator {self.name!r} ({self.target}) {reason}")

    def code(self, xs: Shapes, a: Args) -> Code:
        source, _, attribute = self.target.rpartition(":")
        if source.endswith(".py"):
            helper = f"\n{Path(source).read_text(encoding='utf-8')}\n"
        else:
            helper = f"\nfrom {source} import {attribute}\n"
        words = [
            f"{k}={int(v) if isinstance(v, float) and v.is_integer() else v!r}"
            for k, v in a.items()
        ]
        result, _ = self._run(xs, a)
        alone = "[0]" if isinstance(result, tuple) and len(result) == 1 else ""
        inputs = [f"{{{i}}}" for i in range(len(xs))]
        if not self.is_module:
            return Code(None, f"{attribute}({', '.join(inputs + words)}){alone}", helper)
        if "shape" in inspect.signature(self.function).parameters:
            words.append(f"shape={xs[0].dims}")
        module, call = f"{attribute}({', '.join(words)})", f"{{m}}({', '.join(inputs)})"
        return Code(module, call + alone, helper)


def _flat(ones: bool) -> Literal["ones", "zeros"]:
    return "ones" if ones else "zeros"
