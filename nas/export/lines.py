"""A plan as lines of a module's text: what each makes, what it calls, and on which values."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from nas.op import Code
from nas.op.sequence import convolution_code
from nas.plan import Plan, Step

VARIABLES = "xyzwvutsrqp"
WIDTH = 92  # of a line inside a method


class Line(NamedTuple):
    """A line of a forward: `outputs = call` over {0}, {1}, … of `inputs`, with {m} for the module
    that `module` makes, kept as the attribute `name`. `place` is the path of rules it stands in."""

    name: str
    module: ast.expr | None
    call: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    place: tuple[str, ...]


def codes_of(plan: Plan) -> list[Code]:
    """Each step's text; a convolution in three steps is written as one, at its linear map."""
    codes = [step.operator.code(step.shapes, step.args) for step in plan.steps]
    for last, (first, linear) in plan.convolutions.items():
        windows, step = plan.steps[first], plan.steps[linear]
        out, biased = int(step.args["out"]), bool(step.args["bias"])
        codes[first] = codes[last] = Code(None, "{0}")
        codes[linear] = convolution_code(windows.shapes[0], out, biased, windows.args)
    return codes


def lines_of(plan: Plan, codes: Sequence[Code]) -> tuple[list[Line], dict[int, int]]:
    """A line for each step that does something, and for every value the one that it is: steps that
    pass on what they are given have none."""
    same = dict(enumerate(range(len(plan.shapes))))
    lines = []
    for step, code in zip(plan.steps, codes, strict=True):
        inputs = tuple(same[value] for value in step.inputs)
        if code.module is None and code.call == "{0}":
            same[step.outputs[0]] = inputs[0]
            continue
        module = ast.parse(code.module, mode="eval").body if code.module else None
        lines.append(Line(step.name, module, code.call, inputs, step.outputs, place_of(step)))
    return lines, same


def place_of(step: Step) -> tuple[str, ...]:
    """The rules that a step stands in, its operator left out."""
    *folder, last = step.slot.partition(":")[0].split("/")
    if folder:
        return tuple(folder)
    block = re.fullmatch(r"(\w+?(?:\.\d+)*)\.(\d*[^\d].*)", last)
    return (block[1],) if block else ()


def readers(lines: Iterable[Line], results: Iterable[int]) -> Counter[int]:
    """How often each value is read, by lines and as a result."""
    read = Counter(value for line in lines for value in line.inputs)
    read.update(results)
    return read


def variables(
    lines: Sequence[Line], given: Sequence[int], results: Collection[int], taken: Collection[str]
) -> dict[int, str]:
    """A variable for each value of a forward that is given some. Where a line is the last to read
    one, its result takes over the name, so a chain keeps a single name and only what lives beside
    it has another."""
    last = dict.fromkeys(results, len(lines))
    for index, line in enumerate(lines):
        for value in line.inputs:
            last[value] = max(index, last.get(value, 0))
    count = sum(len(line.outputs) for line in lines) + len(given)
    pool = [name for name in [*VARIABLES, *(f"x{i}" for i in range(count))] if name not in taken]
    names = dict(zip(given, pool, strict=False))
    used = set(names.values())
    for index, line in enumerate(lines):
        over = [names[value] for value in line.inputs if last[value] <= index]
        used.difference_update(over)
        fresh = iter(over + pool)
        for value in line.outputs:
            names[value] = next(n for n in fresh if n not in used) if value in last else "_"
            used.add(names[value])
    return names


def assignment(line: Line, names: dict[int, str]) -> str:
    """A line of forward."""
    words = {str(i): names[value] for i, value in enumerate(line.inputs)}
    words["m"] = f"self.{line.name}"
    call = re.sub(r"\{(\w+)\}", lambda word: words.get(word[1], word[0]), line.call)
    return f"{', '.join(names[value] for value in line.outputs)} = {call}"


def making(line: Line) -> list[str]:
    """The lines of __init__ that make a line's module, none where it has none."""
    if line.module is None:
        return []
    text = f"self.{line.name} = {ast.unparse(line.module)}"
    if len(text) <= WIDTH or not isinstance(line.module, ast.Call):
        return [text]
    arguments = [*line.module.args, *line.module.keywords]
    start = f"self.{line.name} = {ast.unparse(line.module.func)}("
    if any(isinstance(argument, ast.Call) for argument in line.module.args):
        return [start, *(f"    {ast.unparse(argument)}," for argument in arguments), ")"]
    return [start, f"    {', '.join(map(ast.unparse, arguments))}", ")"]


def method(head: str, body: Iterable[str]) -> list[str]:
    """A method of a class, its lines indented."""
    if len(head) > WIDTH + 4:
        start, _, rest = head.partition("(")
        given, _, end = rest.rpartition(")")
        heads = [f"    {start}(", f"        {given}", f"    ){end}"]
    else:
        heads = [f"    {head}"]
    return [*heads, *(f"        {line}" if line else "" for line in body)]
