"""A grammar made ready to run: every term with its arguments known becomes one shared node.

The same rule with the same arguments is one node wherever it is called, so what is learned of a
node (what it makes of a shape) is known for all its uses. A part of a sequence carries what it
adds to a place's path.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Sequence_
from math import prod

from nas.grammar.options import Option as Option
from nas.grammar.options import Options
from nas.grammar.rules import CAPTURED, Copies, Env, Streams
from nas.op import LARGEST, Args, Operator, ShapeError, Shapes, output_shapes


class Node:
    """Something to derive. `neutral` is the fewest operators with which it can leave any streams
    as they are, None where that is not known, and `passes` the same of one that takes no bracket;
    `least` the fewest operators it can end in."""

    __slots__ = ("least", "neutral", "passes")

    def __init__(self, least: int = 0, neutral: int | None = None):
        self.least, self.neutral, self.passes = least, neutral, neutral


MOST_MET = 1 << 17
_MET: dict[Shapes, Shapes] = {}  # shapes met are one object each: there are far more uses of them

Way = tuple[tuple[str, Node], ...]  # parts in sequence, each with what it adds to the path
Parts = tuple[Node, ...]


class Operation(Node):
    """An operator with its arguments."""

    __slots__ = ("_outputs", "_prices", "args", "operator")

    def __init__(self, operator: Operator, args: Args):
        super().__init__(1, 1 if operator.role == "pass" else None)
        self.operator, self.args = operator, args
        self._outputs: dict[Shapes, Shapes | None] = {}
        self._prices: dict[Shapes, tuple[int, int, int]] = {}

    def outputs(self, streams: Shapes) -> Shapes | None:
        """What it makes of streams, None where it cannot take them. Not kept of several, which
        are told quickly and seldom met again."""
        if len(streams) != 1:
            return self._infer(streams)
        try:
            return self._outputs[streams]
        except KeyError:
            kept = self._outputs[streams] = self._infer(streams)
            return kept

    def _infer(self, streams: Shapes) -> Shapes | None:
        operator = self.operator
        if operator.streams_in is not None and len(streams) != operator.streams_in:
            return None
        outputs = operator.makes(streams, self.args)
        if outputs is None or outputs is streams:
            return outputs
        for _, dims in outputs:
            if min(dims) < 1 or max(dims) > LARGEST:
                return None
        if len(_MET) > MOST_MET:
            _MET.clear()
        return _MET.setdefault(outputs, outputs)

    def on(self, streams: Shapes) -> Shapes:
        """What it makes of streams; raises ShapeError."""
        results = self.outputs(streams)
        return output_shapes(self.operator, streams, self.args) if results is None else results

    def price(self, streams: Shapes) -> tuple[int, int, int]:
        """Parameters, FLOPs and activations on streams that it can take."""
        known = self._prices.get(streams)
        if known is None:
            operator, args = self.operator, self.args
            params = sum([prod(p.shape) for p in operator.params(streams, args)])
            known = params, operator.flops(streams, args), operator.activations(streams, args)
            self._prices[streams] = known
        return known


class Compound(Node):
    """A node of ways, each compiled when it is first asked for."""

    __slots__ = ("_compile", "_parts", "_ways")

    def __init__(self, compile: Callable[[int], Way], least: int, neutral: int | None):
        super().__init__(least, neutral)
        self._compile = compile
        self._ways: dict[int, Way] = {}
        self._parts: dict[int, Parts] = {}

    def way(self, index: int = 0) -> Way:
        if index not in self._ways:
            self._ways[index] = self._compile(index)
        return self._ways[index]

    def parts(self, index: int = 0) -> Parts:
        """The nodes of a way, rules with nothing to choose written out."""
        if index not in self._parts:
            nodes: list[Node] = []
            for _, node in self.way(index):
                nodes += node.parts() if isinstance(node, Sequence) else (node,)
            self._parts[index] = tuple(nodes)
        return self._parts[index]


class Decision(Compound):
    """A site: one of `options`, each a way that begins with at least `sizes` operators."""

    __slots__ = ("ending", "nothing", "numbers", "offers", "options", "rule", "sizes", "suffix")

    def __init__(
        self,
        suffix: str,
        rule: str,
        options: tuple[Option, ...],
        sizes: tuple[int, ...],
        compile: Callable[[int], Way],
        neutral: int | None,
    ):
        super().__init__(compile, min(sizes), neutral)
        self.suffix, self.rule, self.options, self.sizes = suffix, rule, Options(options), sizes
        self.ending = suffix, rule  # of its sites, after their places
        self.numbers: dict[str, int] | None = None
        self.offers: dict[tuple[int, ...], Options] = {}
        self.nothing: int | None = None  # the option by which to do nothing, once asked for

    def find(self, label: str) -> int | None:
        """The number of the option with a label, None where there is none."""
        if self.numbers is None:
            self.numbers = {option.label: i for i, option in enumerate(self.options)}
        return self.numbers.get(label)

    def offer(self, offered: Sequence_[int]) -> Options:
        """Those of the options that are offered, in order."""
        if len(offered) == len(self.options):
            return self.options
        key = tuple(offered)
        offer_of = self.offers.get(key)
        if offer_of is None:
            offer_of = self.offers[key] = Options(self.options[i] for i in offered)
        return offer_of


class Sequence(Compound):
    """A rule with nothing to choose."""

    __slots__ = ()


class Capture(Node):
    """A rule whose body mentions the sizes of the stream that enters it; `first` is the operator
    that it begins with, where that hangs on no size."""

    __slots__ = ("_compile", "first", "name")

    def __init__(
        self,
        name: str,
        compile: Callable[[Env], Node],
        first: Operation | None,
        least: int,
        neutral: int | None,
    ):
        super().__init__(least, neutral)
        self.name, self._compile, self.first = name, compile, first

    def refuses(self, streams: Shapes) -> bool:
        """Whether it surely cannot take some streams."""
        return self.first is not None and self.first.outputs(streams) is None

    def on(self, streams: Shapes) -> Node:
        if len(streams) != 1:
            raise ShapeError(f"{self.name} asks the size of one stream, {len(streams)} arrive")
        space = streams[0].space
        first, last = space[0] if space else 1, space[-1] if len(space) > 1 else 1
        return self.sized((streams[0].channels, first, last))

    def sized(self, sizes: tuple[int, int, int]) -> Node:
        """The rule for so many channels, height and width."""
        return self._compile(tuple(zip(CAPTURED, sizes, strict=True)))


class Fork(Compound):
    """A branch for each stream; `alike` where all are written alike."""

    __slots__ = ("alike", "text", "width")

    def __init__(
        self, term: Streams, compile: Callable[[int], Way], least: int, neutral: int | None
    ):
        super().__init__(compile, least, neutral)
        self.passes = None
        self.text, self.width = f"{term}", len(term.branches)
        self.alike = len({" ".join(map(str, branch)) for branch in term.branches}) == 1


class Join(Node):
    """The end of a fork's branch."""

    __slots__ = ("fork",)

    def __init__(self, fork: Fork):
        super().__init__()
        self.fork = fork


class Multiple(Compound):
    """One derivation on each of `width` streams, with weights of their own."""

    __slots__ = ("child", "text", "width")

    def __init__(
        self, term: Copies, n: int, compile: Callable[[int], Way], least: int, neutral: int | None
    ):
        super().__init__(compile, least, neutral)
        self.passes = None
        self.text, self.width, self.child = f"{term}", n, term.child


class Copied(Node):
    """The end of the derivation that is copied."""

    __slots__ = ("n",)

    def __init__(self, n: int):
        super().__init__()
        self.n = n


class Fault(Node):
    """A term that no arguments at hand can make; the reason is told when it is entered."""

    __slots__ = ("reason",)

    def __init__(self, reason: str):
        super().__init__()
        self.reason = reason
