"""A network parsed by the rules of a grammar, whatever they are: recursive, ambiguous, empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nas.grammar.error import GrammarError
from nas.grammar.grammar import Grammar
from nas.grammar.layout import Branches, Line
from nas.grammar.nodes import Capture, Compound, Decision, Fork, Multiple, Node, Operation, Way
from nas.grammar.tokens import called
from nas.grammar.walk import memory_of
from nas.op import Operator, ShapeError

MOST = 1_000_000  # nodes asked for: more only where rules call each other with growing arguments


class _Branch(Node):
    """What a bracket's branch must derive to."""

    __slots__ = ("way",)

    def __init__(self, way: Way):
        super().__init__()
        self.way = way


@dataclass(eq=False, slots=True)
class _Asked:
    """A node asked for at a place: where it can end, as bits, and who waits to be told.

    `since` counts up as ends are found: what an end was made of was found before it."""

    node: Node
    line: Line
    at: int
    ends: int = 0
    since: dict[int, int] = field(default_factory=dict)
    waiting: list[tuple[_Asked, Way, int]] = field(default_factory=list)
    derived: int = 0  # branches of a bracket that are derived whole, one after the other


class Chart:
    """Which nodes of a grammar derive which parts of a network.

    A node asked for at a place has a set of places where it can end, kept as the bits of an integer
    and found once, whatever asks for it: so the work grows with the square of the network's length
    and not with the number of its derivations (Earley 1970; Scott & Johnstone 2010).
    """

    def __init__(self, grammar: Grammar, name: str, line: Line):
        self.grammar, self.name, self.line = grammar, name, line
        self.asked: dict[tuple[Node, Line, int], _Asked] = {}
        self.linked: set[tuple[_Asked, Way, int, int]] = set()
        self.branches: dict[tuple[Node, int], _Branch] = {}
        self.found = 0
        self.furthest: tuple[int, int, Line, int] = (-1, 0, line, 0)
        self.wanted: dict[Operation | str, None] = {}
        self.todo: list[tuple[_Asked, Way | None, int, int]] = []
        root = self.ask(memory_of(grammar).machine.root, line, 0)
        self.root = root
        while self.todo:
            self.step(*self.todo.pop())
            if len(self.asked) > MOST:
                raise GrammarError(f"{grammar.name} takes too many rules to read {name}")

    def ask(self, node: Node, line: Line, at: int) -> _Asked:
        key = (node, line, at)
        if key not in self.asked:
            self.asked[key] = asked = _Asked(node, line, at)
            self.todo.append((asked, None, 0, 0))
        return self.asked[key]

    def step(self, asked: _Asked, way: Way | None, t: int, ends: int) -> None:
        """Derive a node that is newly asked for; or go on with a way whose part `t` ends there."""
        if way is None:
            self.expand(asked)
        elif isinstance(asked.node, Fork | Multiple):
            if ends >> t & 1:  # a branch of `t` items is derived whole
                asked.derived += 1
                self.go_on(asked, asked.node)
        elif t + 1 == len(way):
            self.gain(asked, ends)
        else:
            for at in _bits(ends):
                self.link(asked, way, t + 1, at)

    def link(self, asked: _Asked, way: Way, t: int, at: int) -> None:
        key = (asked, way, t, at)
        if key not in self.linked:
            self.linked.add(key)
            part = self.ask(way[t][1], asked.line, at)
            part.waiting.append((asked, way, t))
            if part.ends:
                self.todo.append((asked, way, t, part.ends))

    def gain(self, asked: _Asked, ends: int) -> None:
        new = ends & ~asked.ends
        if not new:
            return
        asked.ends |= new
        self.found += 1
        for end in _bits(new):
            asked.since[end] = self.found
        for owner, way, t in asked.waiting:
            self.todo.append((owner, way, t, new))
        if isinstance(asked.node, _Branch) or asked is self.root:
            for end in _bits(new):
                if end < len(asked.line.items):
                    self.miss(asked.line, end, "nothing more")

    def expand(self, asked: _Asked) -> None:
        node, line, at = asked.node, asked.line, asked.at
        if isinstance(node, Operation):
            item = line.items[at] if at < len(line.items) else None
            if isinstance(item, Operation) and (item.operator, item.args) == (
                node.operator,
                node.args,
            ):
                self.gain(asked, 1 << (at + 1))
            elif node.outputs(line.streams[at]) is not None:
                self.miss(line, at, node)
        elif isinstance(node, Fork | Multiple):
            self.bracket(asked, node)
        else:
            for way in self.ways(asked):
                if way:
                    self.link(asked, way, 0, at)
                else:
                    self.gain(asked, 1 << at)

    def ways(self, asked: _Asked) -> list[Way]:
        node = asked.node
        if isinstance(node, _Branch):
            return [node.way]
        if isinstance(node, Decision):
            return [node.way(i) for i in range(len(node.options))]
        if isinstance(node, Capture):
            try:
                return [(("", node.on(asked.line.streams[asked.at])),)]
            except ShapeError:
                return []
        return [node.way()] if isinstance(node, Compound) else []

    def bracket(self, asked: _Asked, node: Fork | Multiple) -> None:
        line, at = asked.line, asked.at
        item = line.items[at] if at < len(line.items) else None
        if not isinstance(item, Branches) or len(item.branches) != node.width:
            self.miss(line, at, f"a bracket of {node.width} branches")
        elif isinstance(node, Multiple) and len({branch.text for branch in item.branches}) > 1:
            self.miss(line, at, f"a bracket of {node.width} equal branches")
        else:
            self.go_on(asked, node)

    def go_on(self, asked: _Asked, node: Fork | Multiple) -> None:
        """Derive a bracket's next branch, or end it: so what is missed furthest is in the first
        branch that does not fit."""
        item = asked.line.items[asked.at]
        assert isinstance(item, Branches)
        if asked.derived == (1 if isinstance(node, Multiple) else node.width):
            self.gain(asked, 1 << (asked.at + 1))
            return
        branch = item.branches[asked.derived]
        part = self.ask(self.branch(node, asked.derived), branch, 0)
        part.waiting.append((asked, (), len(branch.items)))
        if part.ends:
            self.todo.append((asked, (), len(branch.items), part.ends))

    def branch(self, node: Fork | Multiple, index: int) -> _Branch:
        key = (node, index)
        if key not in self.branches:
            self.branches[key] = _Branch(node.way(index))
        return self.branches[key]

    def miss(self, line: Line, at: int, wanted: Operation | str) -> None:
        """Remember what would have fitted at the furthest place that was reached."""
        item = line.items[at] if at < len(line.items) else None
        place = (line.numbers[at], 0 if item is None else 1 + isinstance(item, Operation))
        if place > self.furthest[:2]:
            self.furthest, self.wanted = (*place, line, at), {}
        if place == self.furthest[:2]:
            self.wanted[wanted] = None

    def labels(self) -> dict[str, str]:
        """What is chosen at every site, by the site's name; raises GrammarError."""
        if not self.root.ends >> len(self.line.items) & 1:
            raise self.refusal()
        chosen: dict[str, str] = {}
        todo = [(self.root, len(self.line.items), "")]
        while todo:
            asked, end, path = todo.pop()
            if isinstance(asked.node, Fork | Multiple):
                todo += self.within(asked, asked.node, path)
            elif not isinstance(asked.node, Operation):
                index, way, ends = self.best(asked, end)
                if isinstance(asked.node, Decision):
                    name = f"{path}{asked.node.suffix}".lstrip(":/")
                    chosen[name] = asked.node.options[index].label
                for (child, node), at, stop in zip(way, (asked.at, *ends), ends, strict=False):
                    below = f"{path}/{child}" if child else path
                    todo.append((self.asked[node, asked.line, at], stop, below))
        return chosen

    def within(
        self, asked: _Asked, node: Fork | Multiple, path: str
    ) -> Iterator[tuple[_Asked, int, str]]:
        """The branches of a bracket, each derived to its end, and their paths."""
        item = asked.line.items[asked.at]
        assert isinstance(item, Branches)
        for index in range(node.width if isinstance(node, Fork) else 1):
            line = item.branches[index]
            part = self.asked[self.branch(node, index), line, 0]
            below = f"{path}/{node.child}" if isinstance(node, Multiple) else path
            yield part, len(line.items), below

    def best(self, asked: _Asked, end: int) -> tuple[int, Way, list[int]]:
        """The way whose longest part is shortest, and where its parts end."""
        splits = [
            (*split, index, way)
            for index, way in enumerate(self.ways(asked))
            if (split := self.split(asked, way, end)) is not None
        ]
        _, ends, index, way = min(splits, key=lambda candidate: (candidate[0], candidate[2]))
        return index, way, ends

    def split(self, asked: _Asked, way: Way, end: int) -> tuple[int, list[int]] | None:
        """Where a way's parts end so that the longest is shortest, and its length; None where
        the way does not end at `end`."""
        line = asked.line
        begins = [1 << asked.at]
        for _, node in way:
            reached = 0
            for at in _bits(begins[-1]):
                if (part := self.asked.get((node, line, at))) is not None:
                    reached |= part.ends
            begins.append(reached & ((2 << end) - 1))
        best: dict[int, tuple[int, list[int]]] = {end: (0, [])}
        for t in range(len(way) - 1, -1, -1):
            now: dict[int, tuple[int, list[int]]] = {}
            for at in _bits(begins[t]):
                part = self.asked.get((way[t][1], line, at))
                for stop in _bits(part.ends) if part is not None else ():
                    if stop not in best or not self.before(part, stop, asked, end):
                        continue
                    length = 0 if isinstance(way[t][1], Operation) else stop - at
                    longest = max(length, best[stop][0])
                    if at not in now or longest < now[at][0]:
                        now[at] = (longest, [stop, *best[stop][1]])
            best = now
        return best.get(asked.at)

    def before(self, part: _Asked | None, stop: int, asked: _Asked, end: int) -> bool:
        """Whether a part may be in what it is a part of: it is shorter, or was found before."""
        assert part is not None
        whole = (part.at, stop) == (asked.at, end)
        return not whole or part.since[stop] < asked.since[end]

    def refusal(self) -> GrammarError:
        number, _, line, at = self.furthest
        on = " ".join(map(str, line.streams[at]))
        item = line.items[at] if at < len(line.items) else None
        if item is None:
            place, same = f"the end of a branch after operator {number}, with {on}", None
            if line is self.line:
                place = f"its end after operator {number}, with {on}"
        elif isinstance(item, Branches):
            place, same = f"the bracket after operator {number}, on {on}", None
        else:
            text, same = called(item.operator, item.args), item.operator
            place = f"operator {number + 1}, {text}, on {on}"
        return GrammarError(
            f"no rule of {self.grammar.name} fits {self.name} at {place}; "
            f"there it takes {_listed(self.wanted, same)}"
        )


def _listed(wanted: Iterable[Operation | str], same: Operator | None) -> str:
    """What is taken somewhere, by name, and with its arguments where the operator is the same."""
    words = {
        taken
        if isinstance(taken, str)
        else called(taken.operator, taken.args)
        if taken.operator == same
        else taken.operator.name
        for taken in wanted
    }
    return ", ".join(sorted(words))


def _bits(mask: int) -> Iterator[int]:
    """The places of the bits that are set, from the lowest."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
