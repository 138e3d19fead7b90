"""How modules that are alike are made: an expression, and the numbers in which they differ."""

from __future__ import annotations

import ast
import inspect
import keyword
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

ENDS = {"channels", "num_channels", "num_features", "out", "out_channels", "out_features"}
CHANNELS = ENDS | {"groups", "hidden", "in_channels", "in_features", "normalized_shape"}
SHORT = {"kernel_size": "kernel", "num_groups": "groups"}


class Hole(NamedTuple):
    """Where a number stands: the attribute that is made with it, and the argument's name."""

    module: str
    argument: str


class Template(ast.NodeTransformer):
    """An expression with a hole for each number; of each the module and the argument it is of."""

    def __init__(
        self,
        module: str,
        signatures: Mapping[str, list[str]],
        holes: list[Hole],
        numbers: list[int],
    ):
        self.module, self.signatures, self.holes, self.numbers = module, signatures, holes, numbers
        self.argument = "size"

    def of(self, expression: ast.expr) -> ast.expr:
        copied = ast.parse(ast.unparse(expression), mode="eval").body
        result: ast.expr = self.visit(copied)
        return result

    def visit_Call(self, call: ast.Call) -> ast.Call:
        function = ast.unparse(call.func)
        names = self.signatures.get(function, [])
        if function.startswith("nn.") and function != "nn.Sequential":
            call, names = _with_defaults(call)
        outer = self.argument
        for i, argument in enumerate(call.args):
            self.argument = names[i] if i < len(names) else outer
            call.args[i] = self.visit(argument)
        for word in call.keywords:
            self.argument = word.arg or outer
            word.value = self.visit(word.value)
        self.argument = outer
        return call

    def visit_Constant(self, constant: ast.Constant) -> ast.expr:
        if type(constant.value) is not int:
            return constant
        self.holes.append(Hole(self.module, self.argument))
        self.numbers.append(constant.value)
        return ast.Name(f"__hole{len(self.holes) - 1}")


class Parameters:
    """The numbers in which instances of one class differ, by names; `arguments` are those of each.

    Numbers that are equal in every instance are one parameter, and a padding that is half of the
    kernel in each is written so.
    """

    def __init__(
        self,
        holes: Sequence[Hole],
        last: str,
        numbers: Sequence[Sequence[int]],
        taken: Collection[str],
    ):
        self.taken = {*taken, "self"}
        columns = list(zip(*numbers, strict=True))
        self.fillings = dict[str, ast.expr]()
        self.names = list[str]()
        by_column = dict[tuple[int, ...], str]()
        for i, column in enumerate(columns):
            module, argument = holes[i]
            kernel = self._kernel_of(i, holes, columns)
            if len(set(column)) == 1:
                self.fillings[f"__hole{i}"] = ast.Constant(column[0])
            elif kernel:
                self.fillings[f"__hole{i}"] = expression(f"{by_column[kernel]} // 2")
            else:
                if column not in by_column:
                    same = [j for j, other in enumerate(columns) if other == column]
                    of_all = [holes[j].argument for j in same]
                    argument = next((a for a in of_all if a != "padding"), argument)
                    ends = any(holes[j].module == last and holes[j].argument in ENDS for j in same)
                    by_column[column] = self._name(module, argument, ends)
                    self.names.append(by_column[column])
                self.fillings[f"__hole{i}"] = ast.Name(by_column[column])
        self.arguments = [[column[j] for column in by_column] for j in range(len(numbers))]

    @staticmethod
    def _kernel_of(
        i: int, holes: Sequence[Hole], columns: Sequence[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """The column of the kernel whose half a padding is, None where it is none."""
        module, argument = holes[i]
        if argument != "padding":
            return None
        for j in range(i):
            if holes[j] != (module, "kernel_size") or len(set(columns[j])) == 1:
                continue
            pairs = zip(columns[j], columns[i], strict=True)
            if all(kernel % 2 and padding == kernel // 2 for kernel, padding in pairs):
                return columns[j]
        return None

    def _name(self, module: str, argument: str, ends: bool) -> str:
        """A name for a parameter, after the argument that it is first given to, and whether it is
        of the last module too."""
        name = SHORT.get(argument, argument)
        if argument in CHANNELS:
            further = "out_channels" if ends else "hidden"
            name = further if "channels" in self.names else "channels"
        base, number = name if name.isidentifier() else "size", 2
        name = base
        others = {*self.names, *self.taken, module}
        while name in others or keyword.iskeyword(name):
            name, number = f"{base}{number}", number + 1
        return name

    def filled(self, template: ast.expr) -> ast.expr:
        """A template with its parameters, and without what is a default."""
        fillings = self.fillings

        class Fill(ast.NodeTransformer):
            def visit_Name(self, name: ast.Name) -> ast.expr:
                return fillings.get(name.id, name)

        copied = ast.parse(ast.unparse(template), mode="eval").body
        result: ast.expr = _Plain().visit(Fill().visit(copied))
        return result


class _Plain(ast.NodeTransformer):
    """torch's modules without arguments that are their defaults."""

    def visit_Call(self, call: ast.Call) -> ast.expr:
        self.generic_visit(call)
        function = ast.unparse(call.func)
        if function == "nn.Sequential":
            return short(call)
        if function.startswith("nn."):
            defaults = _defaults(function)
            call.keywords = [
                word
                for word in call.keywords
                if not isinstance(word.value, ast.Constant)
                or word.arg not in defaults
                or defaults[word.arg] != word.value.value
            ]
        return call


def _with_defaults(call: ast.Call) -> tuple[ast.Call, list[str]]:
    """A call of a module of torch with every number that it takes by default said, in the order of
    its signature, and the names of the arguments that are given by place."""
    function = ast.unparse(call.func)
    order = list(inspect.signature(getattr(nn, function[3:])).parameters)
    defaults = _defaults(function)
    given = dict(zip(order, call.args, strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg}
    numbers = {name: ast.Constant(v) for name, v in defaults.items() if type(v) is int}
    said = {**numbers, **given}
    by_place = [name for name in order if name in said and name not in defaults]
    words = [ast.keyword(name, said[name]) for name in order if name in said and name in defaults]
    return ast.Call(call.func, [said[name] for name in by_place], words), by_place


def _defaults(function: str) -> dict[str, Any]:
    parameters = inspect.signature(getattr(nn, function[3:])).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def short(sequence: ast.Call) -> ast.expr:
    """A sequence of equal modules as a loop."""
    texts = [ast.unparse(argument) for argument in sequence.args]
    if len(texts) > 1 and len(set(texts)) == 1:
        return expression(f"nn.Sequential(*({texts[0]} for _ in range({len(texts)})))")
    return sequence


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
