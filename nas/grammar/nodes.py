"""A grammar made ready to run: every term with its arguments known becomes one shared node.

The same rule with the same arguments is one node wherever it is called, so what is learned of a
node (what it makes of a shape) is known for all its uses. A part of a sequence carries what it
adds to a place's path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Sequence_
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from nas.grammar.check import INFINITE, least_sizes, sequence_size, term_size
from nas.grammar.grammar import Grammar
from nas.grammar.rules import (
    CAPTURED,
    Call,
    Choice,
    Copies,
    Elastic,
    Env,
    Repeat,
    Rule,
    Streams,
    Term,
    calls_in,
    counts_in,
    evaluate,
    names_in,
    number,
)  # fmt: skip
from nas.op import Args, Operator, ShapeError, Shapes, Value, infer, output_shapes


class Option(NamedTuple):
    """One thing that may be chosen. `weight` is None where it shares what given weights leave."""

    label: str
    weight: float | None = None


class Options(tuple[Option, ...]):
    """What may be chosen at a site."""

    @cached_property
    def cumulative(self) -> tuple[float, ...]:
        """Cumulative probabilities, but for the last option's, which takes what is left."""
        return tuple(accumulate(probabilities(self)))[:-1]


def probabilities(options: Iterable[Option]) -> list[float]:
    """The probability of each option: its given weight, or an equal share of what is left."""
    weights = [option.weight for option in options]
    given = [weight for weight in weights if weight is not None]
    shares = len(weights) - len(given)
    if not shares:
        return [weight / sum(given) for weight in given]
    share = max(0.0, 1.0 - sum(given)) / shares
    return [share if weight is None else weight for weight in weights]


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
        self._prices: dict[Shapes, tuple[int, int]] = {}

    def outputs(self, streams: Shapes) -> Shapes | None:
        """What it makes of streams, None where it cannot take them."""
        try:
            return self._outputs[streams]
        except KeyError:
            found = self._outputs[streams] = self._infer(streams)
            return found

    def _infer(self, streams: Shapes) -> Shapes | None:
        operator, args = self.operator, self.args
        if operator.streams_in is not None and len(streams) != operator.streams_in:
            return None
        if len(streams) > 1 and not operator.accepts(streams, args):
            return None  # the reason need not be written
        try:
            found = operator.outputs(streams, args)
        except ShapeError:
            return None
        if len(_MET) > MOST_MET:
            _MET.clear()
        return _MET.setdefault(found, found) if all(min(x.dims) > 0 for x in found) else None

    def on(self, streams: Shapes) -> Shapes:
        """What it makes of streams; raises ShapeError."""
        found = self.outputs(streams)
        return output_shapes(self.operator, streams, self.args) if found is None else found

    def price(self, streams: Shapes) -> tuple[int, int]:
        """Parameters and FLOPs on streams that it can take."""
        found = self._prices.get(streams)
        if found is None:
            known = infer(self.operator, streams, self.args)
            found = self._prices[streams] = known.params, known.flops
        return found


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
            found: list[Node] = []
            for _, node in self.way(index):
                found += node.parts() if isinstance(node, Sequence) else (node,)
            self._parts[index] = tuple(found)
        return self._parts[index]


class Decision(Compound):
    """A site: one of `options`, each a way that begins with at least `sizes` operators."""

    __slots__ = ("nothing", "numbers", "offers", "options", "rule", "sizes", "suffix")

    def __init__(
        self, suffix: str, rule: str, options: tuple[Option, ...], sizes: tuple[int, ...],
        compile: Callable[[int], Way], neutral: int | None,
    ):  # fmt: skip
        super().__init__(compile, min(sizes), neutral)
        self.suffix, self.rule, self.options, self.sizes = suffix, rule, Options(options), sizes
        self.numbers: dict[str, int] | None = None
        self.offers: dict[tuple[int, ...], Options] = {}
        self.nothing: int | None = None  # the option by which to do nothing, once asked for


    def index(self, label: str) -> int:
        """The number of the option with a label; raises KeyError."""
        if self.numbers is None:
            self.numbers = {option.label: i for i, option in enumerate(self.options)}
        return self.numbers[label]

    def offer(self, offered: Sequence_[int]) -> Options:
        """Those of the options that are offered, in order."""
        if len(offered) == len(self.options):
            return self.options
        key = tuple(offered)
        found = self.offers.get(key)
        if found is None:
            found = self.offers[key] = Options(self.options[i] for i in offered)
        return found


class Sequence(Compound):
    """A rule with nothing to choose."""

    __slots__ = ()


class Capture(Node):
    """A rule whose body mentions the sizes of the stream that enters it."""

    __slots__ = ("_compile", "name")

    def __init__(
        self, name: str, compile: Callable[[Env], Node], least: int, neutral: int | None
    ):
        super().__init__(least, neutral)
        self.name, self._compile = name, compile

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
        self, term: Copies, n: int, compile: Callable[[int], Way], least: int,
        neutral: int | None,
    ):  # fmt: skip
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


class Compiler:
    """The nodes of one grammar; each is made once, when it is first asked for."""

    def __init__(self, grammar: Grammar):
        self.rules, self.operators, self.least = grammar.rules, grammar.operators, grammar.least
        idle = {name: 1 if o.role == "pass" else INFINITE for name, o in self.operators.items()}
        self.idle = least_sizes(self.rules, idle)
        self._nodes: dict[Any, Node] = {}
        self._names: dict[int, frozenset[str]] = {}
        self._options: dict[int, tuple[tuple[Option, ...], tuple[int, ...]]] = {}

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return len(self._nodes)

    def node(self, term: Term, env: Env, rule: str) -> Node:
        """The node of a term, where the rule's parameters and captured sizes are `env`."""
        if env:  # a node is shared by all that differ in names it does not mention
            names = self._mentioned(term)
            env = tuple(pair for pair in env if pair[0] in names)
        key = (id(term), env, rule)
        node = self._nodes.get(key)
        if node is None:
            try:
                node = self._node(term, env, rule)
            except ValueError as error:
                node = Fault(str(error))
            self._nodes[key] = node
        return node

    def _mentioned(self, term: Term) -> frozenset[str]:
        """Parameters and captured sizes that a term reads; kept, as a rule keeps its terms."""
        names = self._names.get(id(term))
        if names is None:
            read = [value for call in calls_in(term) for _, value in call.args] + counts_in(term)
            names = self._names[id(term)] = frozenset().union(*map(names_in, read))
        return names

    def _node(self, term: Term, env: Env, rule: str) -> Node:
        least = term_size(term, self.least)
        match term:
            case Call():
                return self._call(term, (), env, rule)
            case Choice():
                return self._choice(term, env, rule)
            case Repeat():
                return self._repeat(term, env, rule)
            case Streams():
                neutral = self._neutral(term)
                return Fork(term, lambda i: self._way(term.branches[i], env, rule), least, neutral)
            case Copies():
                n = number(term.n, env)
                neutral = self._neutral(*term.body)
                neutral = n * neutral if neutral is not None else None
                return Multiple(term, n, lambda _: self._way(term.body, env, rule), least, neutral)

    def _way(self, terms: tuple[Term, ...], env: Env, rule: str) -> Way:
        return tuple(
            (term.child if isinstance(term, Call) else "", self.node(term, env, rule))
            for term in terms
        )

    def _neutral(self, *terms: Term) -> int | None:
        size = sequence_size(terms, self.idle)
        return size if size < INFINITE else None

    def _choice(self, choice: Choice, env: Env, rule: str) -> Node:
        if len(choice.alternatives) == 1:
            terms = choice.alternatives[0].terms
            least = sequence_size(terms, self.least)
            return Sequence(lambda _: self._way(terms, env, rule), least, self._neutral(choice))
        if id(choice) not in self._options:
            self._options[id(choice)] = (
                tuple(Option(a.label, a.weight) for a in choice.alternatives),
                tuple(sequence_size(a.terms, self.least) for a in choice.alternatives),
            )
        return Decision(
            f":{choice.child or rule}", rule, *self._options[id(choice)],
            lambda i: self._way(choice.alternatives[i].terms, env, rule), self._neutral(choice),
        )  # fmt: skip

    def _repeat(self, term: Repeat, env: Env, rule: str) -> Node:
        low, high = number(term.low, env), number(term.high, env)
        if low > high:
            raise ShapeError(f"{term} repeats {low} to {high} times")
        least = term_size(term.body, self.least)
        once = self._neutral(term.body)
        neutral = low * once if once is not None else None if low else 0

        def times(n: int) -> Way:
            node = self.node(term.body, env, rule)
            return tuple((f"{term.body.child}.{i}", node) for i in range(n))

        if low == high:
            return Sequence(lambda _: times(low), low * least, neutral)
        counts = range(low, high + 1)
        return Decision(
            f"/{term.child}:repeat", rule, tuple(Option(f"x{n}") for n in counts),
            tuple(n * least for n in counts), lambda i: times(low + i), neutral,
        )  # fmt: skip

    def _call(self, call: Call, values: tuple[Value, ...], env: Env, rule: str) -> Node:
        while len(values) < len(call.args):
            value = call.args[len(values)][1]
            if isinstance(value, Elastic):
                return self._elastic(call, values, env, rule, value)
            values = (*values, evaluate(value, env))
        named = {name: v for (name, _), v in zip(call.args, values, strict=True) if name}
        positional = values[: len(values) - len(named)]
        if call.name in self.rules:
            return self._rule(self.rules[call.name], positional, named)
        operator = self.operators[call.name]
        args = operator.bind(positional, named)
        key = (call.name, tuple(args.items()))
        if key not in self._nodes:
            self._nodes[key] = Operation(operator, args)
        return self._nodes[key]

    def _elastic(
        self, call: Call, values: tuple[Value, ...], env: Env, rule: str, elastic: Elastic
    ) -> Node:
        """The site of an elastic argument; sizes that come out equal are one option."""
        name, callee = call.args[len(values)][0], self.rules.get(call.name)
        if not name:
            at = len(values)
            name = callee.params[at][0] if callee else self.operators[call.name].args[at].name
        sizes = tuple(dict.fromkeys(evaluate(v, env) for v in elastic.values))
        least = self.least.get(call.name, 1)

        def chosen(index: int) -> Way:
            key = (id(call), env, rule, values, sizes[index])
            if key not in self._nodes:
                try:
                    self._nodes[key] = self._call(call, (*values, sizes[index]), env, rule)
                except ValueError as error:
                    self._nodes[key] = Fault(str(error))
            return (("", self._nodes[key]),)

        return Decision(
            f":{name}", rule, tuple(Option(f"{name}={v}") for v in sizes),
            (least,) * len(sizes), chosen, self._neutral(call),
        )  # fmt: skip

    def _rule(self, rule: Rule, positional: tuple[Value, ...], named: Args) -> Node:
        given = dict(zip((name for name, _ in rule.params), positional, strict=False)) | dict(named)
        env: Env = ()
        for name, default in rule.params:
            if name not in given:
                assert default is not None
                given[name] = evaluate(default, env)
            env = (*env, (name, given[name]))
        if not rule.captures:
            return self.node(rule.body, env, rule.name)
        key = (rule.name, env)
        if key not in self._nodes:
            self._nodes[key] = Capture(
                rule.name,
                lambda captured: self.node(rule.body, (*env, *captured), rule.name),
                self.least[rule.name], self._neutral(rule.body),
            )  # fmt: skip
        return self._nodes[key]


