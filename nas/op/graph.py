"""An ONNX graph in the making, for which `onnx` is not needed: nodes on named values, arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from nas.lazy import np

Array: TypeAlias = "np.ndarray[Any, Any]"
Arrays: TypeAlias = "Mapping[str, Array]"
Names = tuple[str, ...]
OPSET = 18  # that operators write themselves in; later ones hold the same nodes


class NoOnnxForm(ValueError):
    """An operator that cannot be written in ONNX; the message names it."""


class Node(NamedTuple):
    op: str
    inputs: Names
    outputs: Names
    attributes: Mapping[str, Any]


class Graph:
    """Nodes in the order in which they run; a value is known by its name, which begins with the
    step that is written."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.fixed: set[str] = set()  # constants that nobody learned
        self.step = ""

    def __call__(self, op: str, *values: str, **attributes: Any) -> str:
        """Add a node of one result, and give the result's name."""
        return self.several(1, op, *values, **attributes)[0]

    def several(self, n: int, op: str, *values: str, **attributes: Any) -> Names:
        """Add a node of `n` results, and give their names."""
        name = f"{self.step}/{op}_{len(self.nodes)}"
        outputs = (name,) if n == 1 else tuple(f"{name}.{i}" for i in range(n))
        self.nodes.append(Node(op, values, outputs, attributes))
        return outputs

    def result(self, value: str, name: str) -> None:
        """Give a value the name of a result."""
        self.nodes.append(Node("Identity", (value,), (name,), {}))

    def constant(self, value: Array, *, learned: bool = True) -> str:
        """The name of an array that stays as it is, in float32 where it holds fractions; `learned`
        is off of what is no parameter."""
        name = f"{self.step}/constant_{len(self.constants)}"
        real = np.issubdtype(value.dtype, np.floating)
        self.constants[name] = np.asarray(value, np.float32 if real else None, order="C")
        if not learned:
            self.fixed.add(name)
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def biased(self, p: Arrays, name: str = "bias") -> Names:
        """The name of a bias, () where there is none."""
        return (self.constant(p[name]),) if name in p else ()
