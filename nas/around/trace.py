"""A module as the ATen operators that it runs, by torch.export."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from nas.around.error import UnreadError

PASSED = (  # what does nothing in evaluation
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "clone",
    "contiguous",
    "alias",
    "detach",
    "_to_copy",
    "to",
    "sym_size",
    "_assert_tensor_metadata",
)
VIEWS = "reshape view expand expand_as unsqueeze squeeze permute transpose _to_copy flatten".split()
BATCH = 3  # samples that are traced with; any number may come later


@dataclass(frozen=True)
class Traced:
    """The operators in order, the tensors that they read by the name of their node, and the class
    of each module by its path."""

    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    classes: Mapping[str, str]

    def constant(self, node: Any) -> Tensor | None:
        """The tensor of a parameter or buffer, through views of it; None of what is computed."""
        if not isinstance(node, Node):
            return None
        if node.name in self.tensors:
            return self.tensors[node.name]
        if node.op != "call_function" or operator_of(node) not in VIEWS:
            return None
        tensor = self.constant(node.args[0])
        if tensor is None:
            return None
        words = map_arg(node.args[1:], lambda inner: 1)  # of one sample
        view: Tensor = node.target(tensor, *words, **node.kwargs)  # type: ignore[operator]
        return view


def trace(module: nn.Module, input: tuple[int, ...]) -> Traced:
    """What a module does in evaluation with samples of a shape, for any number of them.

    Raises UnreadError where torch cannot export it, or its result is no single tensor.
    """
    example, batch = torch.zeros(BATCH, *input), torch.export.Dim("batch")
    try:
        with evaluating(module):
            exported = torch.export.export(
                module, (example,), dynamic_shapes=({0: batch},), strict=False
            )
    except Exception as error:  # of the user's own code, or of the exporter, whatever it raises
        first = next(iter(str(error).strip().splitlines()), "no reason given")
        raise UnreadError(
            f"{type(module).__name__} cannot be traced with samples of {list(input)}: "
            f"{type(error).__name__}: {first}; it must take one tensor of any number of samples "
            "(len(x) fixes it, x.shape[0] does not), and no branch may hang on the values in it"
        ) from None
    signature = exported.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        changed = next(iter({**signature.buffers_to_mutate, **signature.user_inputs_to_mutate}))
        raise UnreadError(f"{type(module).__name__} changes its state in forward: {changed}")
    state = {**exported.state_dict, **exported.constants}
    tensors = dict[str, Tensor]()
    for names in (
        signature.inputs_to_parameters,
        signature.inputs_to_buffers,
        signature.inputs_to_lifted_tensor_constants,
    ):
        tensors |= {node: state[name].detach() for node, name in names.items()}
    nodes = tuple(exported.graph.nodes)
    results = nodes[-1].args[0]
    if not isinstance(results, tuple | list) or len(results) != 1:
        raise UnreadError(
            f"{type(module).__name__} gives {len(results)} results: wrap it in a module whose "
            "forward gives the one that is wanted"
        )
    classes = {path: type(part).__name__ for path, part in module.named_modules()}
    return Traced(nodes, tensors, classes)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """With a module in evaluation, and each part of it as it was after."""
    flags = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in flags.items():
            part.training = training


def operator_of(node: Node) -> str:
    """The name of the ATen operator that a node applies, in place or not; else what it is."""
    if node.op != "call_function":
        return node.op
    packet = getattr(node.target, "overloadpacket", node.target)
    name = str(getattr(packet, "__name__", packet))
    return name.removesuffix("_") if name.strip("_") else name


def in_place(node: Node) -> bool:
    """Whether a node writes its result into what it reads first."""
    packet = getattr(node.target, "overloadpacket", None)
    return packet is not None and str(packet.__name__).endswith("_")


def path_of(node: Node) -> str:
    """The path of the module that applies an operator."""
    stack: Mapping[str, Any] = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path if re.fullmatch(r"[\w.]*", path) and not path.startswith("_empty") else ""


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of one sample of what a node gives; raises UnreadError where it hangs on the
    batch."""
    sizes = tuple(node.meta["val"].shape)[1:]
    if not all(isinstance(size, int) for size in sizes):
        raise UnreadError(f"{path_of(node) or node.name}: {node.target} mixes samples")
    return sizes
