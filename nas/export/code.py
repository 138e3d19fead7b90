"""A plan as the text of a plain PyTorch module that a person reads and edits."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from itertools import groupby

from nas.op import Code, Shape
from nas.op.sequence import convolution_code
from nas.plan import Plan, Step

VARIABLES = "xyzwvutsrqp"
WIDTH = 92  # of a line inside a method
OWN_IMPORTS = {
    "F": "torch.nn.functional",
    "Path": "pathlib.Path",
    "Tensor": "torch.Tensor",
    "load_file": "safetensors.torch.load_file",
    "math": "math",
    "nn": "torch.nn",
    "torch": "torch",
}

PARTS = (
    *("Model", "load", "prepare", "CLASSES", "PREPARATIONS", "open_picture", "_middle"),
    *("open_sound", "spectrum", "spectrum1", "spectrum2", "SPECTRA"),
)


class ExportError(ValueError):
    """A network that cannot leave as asked; the message names the value, the rule and the fix."""


def model_source(plan: Plan, *, title: str, beside: Sequence[str] = ()) -> str:
    """The text of model.py: a docstring, the helper classes needed, `Model`, `load`, and what else
    is to stand beside it.

    Model's state dict has the names of Network's; forward gives the result, or a dict of results
    by name where there are several. Raises ExportError where two helpers share a name.
    """
    codes = _codes(plan)
    helpers = _Helpers(codes)
    parts = [*helpers.definitions.values(), _model(plan, codes, helpers), _load(plan), *beside]
    body = "\n\n\n".join(parts)
    first = ast.parse(body).body[0]
    gap = "\n\n\n" if isinstance(first, ast.ClassDef | ast.FunctionDef) else "\n\n"
    return f"{_docstring(plan, title)}\n\n{helpers.header(body)}{gap}{body}\n"


def _codes(plan: Plan) -> list[Code]:
    """Each step's text; a convolution in three steps is written as one, at its linear map."""
    codes = [step.operator.code(step.shapes, step.args) for step in plan.steps]
    for last, (first, linear) in plan.convolutions.items():
        windows, step = plan.steps[first], plan.steps[linear]
        out, biased = int(step.args["out"]), bool(step.args["bias"])
        codes[first] = codes[last] = Code(None, "{0}")
        codes[linear] = convolution_code(windows.shapes[0], out, biased, windows.args)
    return codes


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


def _model(plan: Plan, codes: Sequence[Code], helpers: _Helpers) -> str:
    """The class: a module for each step that has one, and forward with a line a step."""
    names = _variables(plan, codes, helpers)
    laid = {
        plan.steps[linear].outputs[0]: plan.steps[last].outputs[0]
        for last, (_, linear) in plan.convolutions.items()
    }
    modules_text, run = [], []
    for place, group in groupby(zip(plan.steps, codes, strict=True), lambda pair: _place(pair[0])):
        steps = [(step, code) for step, code in group if not _passes(code)]
        modules = [
            line
            for step, code in steps
            if code.module
            for line in _wrapped(f"self.{step.name} = {code.module}")
        ]
        if modules:
            modules_text += [f"# {place}" if place else "", *modules]
        if steps:
            value = steps[-1][0].outputs[0]
            last = _batched(plan.shapes[laid.get(value, value)])
            run += [f"# {place} -> {last}" if place else ""]
            run += [_line(step, code, names) for step, code in steps]
    results = [f'"{name}": {names[value]}' for name, value in plan.outputs.items()]
    if len(results) > 1:
        kind, result = "dict[str, Tensor]", f"{{{', '.join(results)}}}"
    else:
        kind, result = "Tensor", results[0].partition(": ")[2]
    text = [
        "class Model(nn.Module):",
        "    def __init__(self) -> None:",
        *_indented(["super().__init__()", *_begun(modules_text)]),
        "",
        f"    def forward(self, {names[0]}: Tensor) -> {kind}:  # {_batched(plan.input)}",
        *_indented([*_begun(run), f"return {result}"]),
    ]
    return "\n".join(text)


def _begun(lines: list[str]) -> list[str]:
    """Lines without an empty one at their head."""
    return lines[1:] if lines and not lines[0] else lines


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"        {line}" if line else "" for line in lines]


def _wrapped(line: str) -> list[str]:
    """A line that makes a module, with its arguments on one of their own where it is long."""
    start, bracket, rest = line.partition("(")
    if len(line) <= WIDTH or not rest.endswith(")"):
        return [line]
    return [start + bracket, f"    {rest[:-1]}", ")"]


def _place(step: Step) -> str:
    """Where a step belongs: the first two parts of its path, its operator left out."""
    *folder, last = step.slot.partition(":")[0].split("/")
    if folder:
        return "/".join(folder[:2])
    block = re.fullmatch(r"(\w+?(?:\.\d+)*)\.(\d*[^\d.].*)", last)
    return block[1] if block else ""


def _line(step: Step, code: Code, names: dict[int, str]) -> str:
    """A step as an assignment."""
    words = {str(i): names[value] for i, value in enumerate(step.inputs)}
    words["m"] = f"self.{step.name}"
    call = re.sub(r"\{(\w+)\}", lambda word: words.get(word[1], word[0]), code.call)
    return f"{', '.join(names[value] for value in step.outputs)} = {call}"


def _passes(code: Code) -> bool:
    return code.module is None and code.call == "{0}"


def _variables(plan: Plan, codes: Sequence[Code], helpers: _Helpers) -> dict[int, str]:
    """A variable for each value. Where a step is the last to read one, its result takes over the
    name, so a chain keeps a single name and only what lives beside it has another."""
    same: dict[int, int] = {}
    last = dict.fromkeys(plan.outputs.values(), len(codes))
    for step, code in zip(plan.steps, codes, strict=True):
        if _passes(code):
            same[step.outputs[0]] = same.get(step.inputs[0], step.inputs[0])
    for index, step in enumerate(plan.steps):
        for value in step.inputs:
            last[value] = max(index, last.get(value, 0))
    for value, origin in same.items():
        last[origin] = max(last.get(origin, 0), last.get(value, 0))

    pool = [*VARIABLES, *(f"x{i}" for i in range(len(plan.shapes)))]
    pool = [name for name in pool if name not in helpers.names]
    names, used = {0: pool[0]}, {pool[0]}
    for index, step in enumerate(plan.steps):
        if step.outputs[0] in same:
            names[step.outputs[0]] = names[same[step.outputs[0]]]
            continue
        read = [same.get(value, value) for value in step.inputs]
        over = [names[value] for value in read if last[value] <= index]
        used.difference_update(over)
        fresh = iter(over + pool)
        for value in step.outputs:
            names[value] = next(n for n in fresh if n not in used) if value in last else "_"
            used.add(names[value])
    return names


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


class _Helpers:
    """What the operators' code needs around it: imports, and the definitions it comes to read.

    Of a user's file only these travel, so that nothing runs or is imported in vain.
    """

    def __init__(self, codes: Sequence[Code]):
        self.definitions: dict[str, str] = {}  # text by the names it binds
        self.meaning = {name: f"import {full}" for name, full in OWN_IMPORTS.items()}
        self.meaning |= dict.fromkeys(PARTS, "a part of every model.py")
        self.names: set[str] = set()
        self.imports = {name: (full, False) for name, full in OWN_IMPORTS.items()}
        roots: dict[str, set[str]] = {}
        for code in codes:
            if code.helper:
                words = re.findall(r"\w+", f"{code.module} {code.call}")
                roots.setdefault(code.helper, set()).update(words)
        for helper, wanted in roots.items():
            self._add(helper, wanted)

    def _add(self, helper: str, wanted: set[str]) -> None:
        lines = helper.splitlines()
        for statement in _closure(ast.parse(helper).body, wanted):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self._import(statement)
                continue
            text, names = _text(statement, lines), _binds(statement)
            for name in names:
                self._means(name, text)
            self.definitions[" ".join(sorted(names)) or text] = text

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        """Note what is imported: (full name, whether an attribute under another name)."""
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                full, name, renamed = alias.name, alias.asname or alias.name, False
            else:
                full, name = f"{statement.module}.{alias.name}", alias.asname or alias.name
                renamed = name != alias.name
            if "." not in name:
                self._means(name, f"import {full}")
            self.imports.setdefault(name, (full, renamed))

    def _means(self, name: str, text: str) -> None:
        if self.meaning.setdefault(name, text) != text:
            raise ExportError(
                f"in model.py {name!r} would mean two things: an operator of yours has the name "
                "of another, or of what every model.py holds; rename yours"
            )
        self.names.add(name)

    def header(self, body: str) -> str:
        """The imports that `body` reads: of the future, of Python, of everything else."""
        read = _reads(ast.parse(body))
        lines: dict[int, set[str]] = {}
        joined: dict[str, list[str]] = {}
        for name, (full, renamed) in sorted(self.imports.items()):
            module, _, last = full.rpartition(".")
            if name.partition(".")[0] not in read and module != "__future__" and last != "*":
                continue
            if renamed or (module and last == name):
                joined.setdefault(module, []).append(f"{last} as {name}" if renamed else last)
            else:
                line = f"import {full}" + (f" as {name}" if name != full else "")
                lines.setdefault(_section(full), set()).add(line)
        for module, names in joined.items():
            line = f"from {module} import {', '.join(names)}"
            lines.setdefault(_section(module), set()).add(line)
        return "\n\n".join(
            "\n".join(sorted(names, key=lambda line: (line.startswith("from"), line)))
            for _, names in sorted(lines.items())
        )


def _section(module: str) -> int:
    root = module.partition(".")[0]
    return 0 if root == "__future__" else 1 if root in sys.stdlib_module_names else 2


def _closure(statements: Sequence[ast.stmt], wanted: set[str]) -> list[ast.stmt]:
    """The statements that bind a wanted name, or one that these read, and so on; and those that
    bind none but touch what is defined so."""
    chosen: set[int] = set()
    defined: set[str] = set()
    growing = True
    while growing:
        growing = False
        for index, statement in enumerate(statements):
            binds, reads = _binds(statement), _reads(statement)
            if index in chosen or "__name__" in reads:
                continue
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                needed = True
            elif binds:
                needed = bool(binds & (wanted | {"*"}))
            else:
                needed = bool(reads & defined)
            if needed:
                chosen.add(index)
                wanted |= reads
                if not isinstance(statement, ast.Import | ast.ImportFrom):
                    defined |= binds
                growing = True
    return [statements[index] for index in sorted(chosen)]


def _binds(statement: ast.stmt) -> set[str]:
    """Names that a statement at the top of a file gives a meaning."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if isinstance(statement, definitions):
        return {statement.name}
    bound = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, definitions):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
    return bound


def _reads(tree: ast.AST) -> set[str]:
    """Names that a text mentions, in quoted annotations too."""
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            read.add(node.id)
        for word in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                read.update(re.findall(r"\w+", word.value))
    return read


def _text(statement: ast.stmt, lines: Sequence[str]) -> str:
    """A statement's lines, with its decorators and the comment above it."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(d.lineno for d in decorators)]) - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : statement.end_lineno])
