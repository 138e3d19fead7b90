"""What repeats in a network as classes: one for each rule whose lines stand more than once."""

from __future__ import annotations

import ast
import keyword
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from nas.export.lines import Line, assignment, making, method, readers, variables
from nas.export.template import Hole, Parameters, Template, expression, short
from nas.plan.writer import RESERVED


@dataclass
class Classes:
    """The classes of a network in the making: `texts` in the order in which they are needed;
    `signatures` has the parameters of every class by name, helpers' among them."""

    signatures: dict[str, list[str]]
    taken: set[str]
    texts: list[str] = field(default_factory=list)
    own: set[str] = field(default_factory=set)

    def collapse(self, lines: Sequence[Line], results: Iterable[int]) -> list[Line]:
        """The lines with what repeats as instances of classes, innermost rules first."""
        results, lines = list(results), list(lines)
        for depth in range(max((len(line.place) for line in lines), default=0), 0, -1):
            lines = self._collapse_at(depth, self._chained(lines, results), results)
        return self._chained(lines, results)

    def _collapse_at(self, depth: int, lines: list[Line], results: list[int]) -> list[Line]:
        """The lines with the rules at a depth that repeat as instances."""
        runs = [
            _Run(prefix, list(run), self.signatures)
            for prefix, run in groupby(lines, lambda line: line.place[:depth])
        ]
        flats, names = Counter(run.flat for run in runs), {line.name for line in lines}
        read = readers(lines, results)
        alike = defaultdict[Any, list[_Run]](list)
        for run in runs:
            alone = flats[run.flat] == 1 and run.flat not in names
            if alone and run.may_be_a_class(depth):
                run.look(read)
                alike[run.rule, run.key].append(run)
        for members in alike.values():
            if len(members) > 1:
                self._define(members)
        return [line for run in runs for line in ([run.instance] if run.instance else run.lines)]

    def _define(self, members: Sequence[_Run]) -> None:
        """Write the class of runs that are alike, and make each an instance of it."""
        first, name = members[0], self._named(members[0].rule)
        parameters = Parameters(
            first.holes, first.last, [run.numbers for run in members], self.taken
        )
        for run, numbers in zip(members, parameters.arguments, strict=True):
            first_argument = [ast.Constant(value) for value in numbers[:1]]
            words = zip(parameters.names[1:], numbers[1:], strict=True)
            rest = [ast.keyword(word, ast.Constant(value)) for word, value in words]
            run.become(ast.Call(ast.Name(name), list[ast.expr](first_argument), rest))
        self.signatures[name] = parameters.names
        self.own.add(name)
        title = f"{first.rule} of the search space, of which there are {len(members)}."
        self.texts.append(first.class_text(name, title, parameters, self.taken))

    def _named(self, rule: str) -> str:
        """A name for a rule's class that nothing has yet."""
        base = "".join(word[:1].upper() + word[1:] for word in re.split(r"\W+|_", rule)) or "Part"
        base = base if base.isidentifier() and not keyword.iskeyword(base) else f"Rule{base}"
        name, number = base, 2
        while name in self.taken:
            name, number = f"{base}{number}", number + 1
        self.taken.add(name)
        return name

    def _chained(self, lines: Sequence[Line], results: Sequence[int]) -> list[Line]:
        """The lines with instances that follow each other, as `block_0`, `block_1`, as one."""
        read, names = readers(lines, results), {line.name for line in lines}
        chained, i = list[Line](), 0
        while i < len(lines):
            chain = list(self._chain(lines, i, read))
            base = chain[0].name.removesuffix("_0") if chain else ""
            if len(chain) > 1 and base not in names and _is_attribute(base):
                modules = [line.module for line in chain if line.module]
                sequence = short(ast.Call(expression("nn.Sequential"), modules, []))
                ends = chain[0].inputs, chain[-1].outputs
                chained.append(Line(base, sequence, "{m}({0})", *ends, chain[0].place))
                i += len(chain)
            else:
                chained.append(lines[i])
                i += 1
        return chained

    def _chain(self, lines: Sequence[Line], first: int, read: Mapping[int, int]) -> Iterator[Line]:
        """The instances from one on that follow each other and count from nought."""
        base = lines[first].name.removesuffix("_0")
        for number in range(len(lines) - first):
            line, before = lines[first + number], lines[first + number - 1]
            instance = isinstance(line.module, ast.Call) and ast.unparse(line.module.func)
            if (
                instance not in self.own
                or line.name != f"{base}_{number}"
                or line.call != "{m}({0})"
                or len(line.outputs) != 1
                or line.place != lines[first].place
                or (number and line.inputs != before.outputs)
                or (number and read[line.inputs[0]] > 1)
            ):
                return
            yield line


class _Run:
    """Lines of one rule that follow each other: what may become an instance of a class.

    `key` is equal for equal lines, whatever numbers they are made with; `numbers` are those.
    """

    def __init__(
        self, prefix: tuple[str, ...], lines: list[Line], signatures: Mapping[str, list[str]]
    ):
        self.prefix, self.lines, self.signatures = prefix, lines, signatures
        self.instance: Line | None = None
        self.rule = re.sub(r"(\.\d+)+$", "", prefix[-1]) if prefix else ""
        self.flat = re.sub(r"\W+|_+", "_", "/".join(prefix)).strip("_")
        self.key: Any = None
        self.holes = list[Hole]()
        self.numbers = list[int]()
        self.last = ""  # the module that comes last

    def may_be_a_class(self, depth: int) -> bool:
        rests = [line.name.removeprefix(f"{self.flat}_") for line in self.lines]
        return (
            len(self.prefix) == depth
            and len(self.lines) > 1
            and any(line.module for line in self.lines)
            and all(line.name.startswith(f"{self.flat}_") for line in self.lines)
            and all(map(_is_attribute, rests))
            and _is_attribute(self.flat)
        )

    def look(self, read: Mapping[int, int]) -> None:
        """Take the lines apart into what is alike and their numbers."""
        number, rows = dict[int, int](), []
        self.templates = list[Line]()
        for line in self.lines:
            rest = line.name.removeprefix(f"{self.flat}_")
            module = None
            if line.module:
                module = Template(rest, self.signatures, self.holes, self.numbers).of(line.module)
                self.last = rest
            self.templates.append(line._replace(name=rest, module=module))
            inputs = tuple(number.setdefault(value, len(number)) for value in line.inputs)
            outputs = tuple(number.setdefault(value, len(number)) for value in line.outputs)
            rows.append((rest, module and ast.dump(module), line.call, inputs, outputs))
        inner = [value for line in self.lines for value in line.outputs]
        within = readers(self.lines, ())
        self.given = [value for value in number if value not in inner]
        self.results = [value for value in inner if read[value] > within[value]]
        self.key = tuple(rows), tuple(number[value] for value in self.results)

    def become(self, making: ast.Call) -> None:
        """Be an instance of a class, which that call makes."""
        call = ", ".join(f"{{{i}}}" for i in range(len(self.given)))
        ends = tuple(self.given), tuple(self.results)
        self.instance = Line(self.flat, making, f"{{m}}({call})", *ends, self.prefix[:-1])

    def class_text(
        self, name: str, title: str, parameters: Parameters, taken: Iterable[str]
    ) -> str:
        lines = [
            line._replace(module=parameters.filled(line.module)) if line.module else line
            for line in self.templates
        ]
        names = variables(lines, self.given, self.results, set(taken))
        given = ", ".join(f"{names[value]}: Tensor" for value in self.given)
        results = ", ".join(names[value] for value in self.results)
        kind = "Tensor" if len(self.results) == 1 else "tuple[Tensor, ...]"
        sizes = "".join(f", {name}: int" for name in parameters.names)
        makes = [text for line in lines for text in making(line)]
        calls = [assignment(line, names) for line in lines]
        body = [
            f"class {name}(nn.Module):",
            f'    """{title}"""',
            "",
            *method(f"def __init__(self{sizes}) -> None:", ["super().__init__()", *makes]),
            "",
            *method(f"def forward(self, {given}) -> {kind}:", [*calls, f"return {results}"]),
        ]
        return "\n".join(body)


def _is_attribute(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name not in RESERVED
