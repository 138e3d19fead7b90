"""A plan as the text of a plain PyTorch module that a person reads and edits."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping, Sequence
from itertools import groupby

from nas.export.classes import Classes
from nas.export.helpers import OWN_IMPORTS, PARTS, Helpers
from nas.export.lines import Line, assignment, codes_of, lines_of, making, method, variables
from nas.op import Shape
from nas.plan import Plan


def model_source(plan: Plan, *, title: str, beside: Sequence[str] = ()) -> str:
    """The text of model.py: a docstring, the helper classes needed, a class for each rule of the
    space that repeats, `Model`, `load`, and what else is to stand beside it.

    The names of Model's state dict are those of Network's, but for dots in place of underscores;
    forward gives the result, or a dict of results by name where there are several. Raises
    ExportError where two helpers share a name.
    """
    codes = codes_of(plan)
    helpers = Helpers(codes)
    lines, same = lines_of(plan, codes)
    results = {name: same[value] for name, value in plan.outputs.items()}
    taken = {*helpers.names, *OWN_IMPORTS, *PARTS, *dir(builtins)}
    classes = Classes({"range": ["repeats"], **helpers.parameters()}, taken)
    if _told_apart(plan):
        lines = classes.collapse(lines, results.values())
    shapes = {same[value]: shape for value, shape in enumerate(plan.shapes)}
    model = _model(lines, results, shapes, plan.input, taken)
    parts = [*helpers.definitions.values(), *classes.texts, model, _load(plan), *beside]
    body = "\n\n\n".join(parts)
    first = ast.parse(body).body[0]
    gap = "\n\n\n" if isinstance(first, ast.ClassDef | ast.FunctionDef) else "\n\n"
    return f"{_docstring(plan, title)}\n\n{helpers.header(body)}{gap}{body}\n"


def _told_apart(plan: Plan) -> bool:
    """Whether tensors have different names with underscores in place of dots, by which those of a
    model with classes are found; a user's operators may have any."""
    names = [f"{step.name}.{tensor.name}" for step in plan.steps for tensor in step.params]
    return len({name.replace(".", "_") for name in names}) == len(names)


def _docstring(plan: Plan, title: str) -> str:
    results = ", ".join(f"{n} {_batched(shape)}" for n, shape in plan.output_shapes().items())
    lines = (
        title.strip().replace("\\", "\\\\").replace('"""', "'''"),
        "",
        f"Input   {_batched(plan.input)}",
        f"Output  {results}",
        f"Size    {plan.params:,} parameters, {plan.flops:,} FLOPs for a batch of one",
    )
    return '"""' + "\n".join(lines) + '\n"""'


def _batched(shape: Shape) -> str:
    return f"({', '.join(['batch', *map(str, shape.dims)])})"


def _model(
    lines: Sequence[Line],
    outputs: Mapping[str, int],
    shapes: Mapping[int, Shape],
    input: Shape,
    taken: set[str],
) -> str:
    """The class: its modules, and forward with a line for each step or instance."""
    names = variables(lines, [0], outputs.values(), taken)
    makes, calls = list[str](), list[str]()
    for place, group in groupby(lines, lambda line: "/".join(line.place[:2])):
        run = list(group)
        modules = [text for line in run for text in making(line)]
        if modules:
            makes += [f"# {place}" if place else "", *modules]
        calls += [f"# {place} -> {_batched(shapes[run[-1].outputs[0]])}" if place else ""]
        calls += [assignment(line, names) for line in run]
    results = [f'"{name}": {names[value]}' for name, value in outputs.items()]
    if len(results) > 1:
        kind, result = "dict[str, Tensor]", f"{{{', '.join(results)}}}"
    else:
        kind, result = "Tensor", results[0].partition(": ")[2]
    text = [
        "class Model(nn.Module):",
        *method("def __init__(self) -> None:", ["super().__init__()", *_begun(makes)]),
        "",
        *method(
            f"def forward(self, {names[0]}: Tensor) -> {kind}:  # {_batched(input)}",
            [*_begun(calls), f"return {result}"],
        ),
    ]
    return "\n".join(text)


def _begun(lines: list[str]) -> list[str]:
    """Lines without an empty one at their head."""
    return lines[1:] if lines and not lines[0] else lines


def _load(plan: Plan) -> str:
    counted = any(step.operator.statistics for step in plan.steps)
    counts = (
        "    counts = {k: v for k, v in model.state_dict().items()"
        ' if k.endswith("num_batches_tracked")}'
    )
    weights = "load_file(Path(__file__).parent / path)"
    lines = [
        'def load(path: str = "weights.safetensors") -> Model:',
        '    """The model in eval mode with its weights; `path` is relative to this file."""',
        "    model = Model()",
        *([counts] if counted else []),
        f"    model.load_state_dict({'counts | ' if counted else ''}{weights})",
        "    return model.eval()",
    ]
    return "\n".join(lines)
