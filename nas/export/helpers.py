"""What the operators' text needs around it in a model.py: definitions and imports."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence

from nas.export.error import ExportError
from nas.op import Code

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


class Helpers:
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

    def parameters(self) -> dict[str, list[str]]:
        """Of each class defined, what its instances are made with, by name."""
        found = dict[str, list[str]]()
        for node in ast.parse("\n\n".join(self.definitions.values())).body:
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                    found[node.name] = [argument.arg for argument in inner.args.args[1:]]  # type: ignore[attr-defined]
        return found

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
