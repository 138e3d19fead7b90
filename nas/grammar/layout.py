"""A network laid out: operators and brackets in sequence, with the shapes that arrive at each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from nas.grammar.error import GrammarError
from nas.grammar.frames import Frame, Place, Waiting
from nas.grammar.grammar import Grammar
from nas.grammar.machine import Machine
from nas.grammar.nodes import Operation
from nas.grammar.tokens import called
from nas.op import Shape, ShapeError, Shapes


@dataclass(eq=False)
class Line:
    """Operators and brackets in sequence, each with the streams that arrive at it and the number
    of operators before it in the network; at the end once more."""

    items: list[Operation | Branches] = field(default_factory=list)
    streams: list[Shapes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    text: str = ""

    def add(self, item: Operation | Branches, streams: Shapes, number: int) -> None:
        self.items.append(item)
        self.streams.append(streams)
        self.numbers.append(number)

    def end(self, streams: Shapes, number: int) -> None:
        self.streams.append(streams)
        self.numbers.append(number)
        self.text = " ".join(
            item.text if isinstance(item, Branches) else called(item.operator, item.args)
            for item in self.items
        )


@dataclass(eq=False)
class Branches:
    """Streams in parallel. `text` is equal for equal operators, written as copies or out."""

    branches: list[Line]

    @cached_property
    def text(self) -> str:
        texts = [branch.text for branch in self.branches]
        if len(set(texts)) == 1:
            return f"[ {texts[0]} * {len(texts)} ]"
        return "[ " + " ; ".join(texts) + " ]"


class Layout:
    """Told by a machine what it does, it lays the network out; copies are one line many times."""

    def __init__(self, input: Shape):
        self.line, self.count = Line(), 0
        self.streams: Shapes = (input,)
        self.done: Shapes = ()
        self.open_: list[tuple[Line, int, Shapes, Branches]] = []

    def apply(self, node: Operation, place: Place, copies: int, streams: Shapes) -> None:
        self.line.add(node, streams, self.count)
        self.count += 1
        self.streams = node.on(streams)

    def open(self, twins: int) -> None:
        self.open_.append((self.line, self.count, self.streams, Branches([])))
        self.line, self.streams = Line(), self.streams[:1]

    def branch(self, finished: int, join: Frame, done: Shapes) -> None:
        _, _, arriving, bracket = self.open_[-1]
        self.line.end(self.streams, self.count)
        bracket.branches.append(self.line)
        self.line, self.streams = Line(), arriving[finished : finished + 1]
        self.done = done

    def close(self) -> None:
        self.line, count, arriving, bracket = self.open_.pop()
        self.line.add(bracket, arriving, count)
        self.streams = self.done

    def copy(self, n: int, place: Place) -> None:
        self.line.end(self.streams, self.count)
        copied, self.done = self.line, self.streams * n
        self.open_[-1][3].branches.extend([copied] * n)
        self.close()


def laid_out(network: Grammar, input: Shape) -> Line:
    """A network's operators with their shapes; raises GrammarError where one does not fit."""
    machine, layout = Machine(network), Layout(input)
    try:
        end = machine.advance((input,), machine.start(), layout)
    except ShapeError as error:
        raise GrammarError(
            f"{network.name} does not fit an input of {input}: operator {layout.count + 1}, {error}"
        ) from None
    if isinstance(end, Waiting):
        options = ", ".join(option.label for option in end.options)
        raise GrammarError(
            f"{network.name} leaves {end.site.name} open, {options}: a network has no choices"
        )
    layout.line.end(layout.streams, layout.count)
    return layout.line
