"""Every term of a grammar with its arguments known becomes one shared node."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

from nas.grammar.check import INFINITE, least_sizes, sequence_size, term_size
from nas.grammar.grammar import Grammar
from nas.grammar.nodes import (
    Capture,
    Decision,
    Fault,
    Fork,
    Multiple,
    Node,
    Operation,
    Sequence,
    Way,
)
from nas.grammar.options import Option
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
)
from nas.op import Args, ShapeError, Value

ENDLESS = math.inf
SizeBounds = tuple[dict[str, int], dict[str, int]]
Ways = tuple[tuple[Term, ...], ...]


class Compiler:
    """The nodes of one grammar; each is made once, when it is first asked for.

    `left` is how deep rules may still be nested below a term, and a node is known by it: a choice
    has no option that needs more. So whatever is asked of nodes holds within a limit on depth.
    """

    def __init__(self, grammar: Grammar):
        self.rules, self.operators = grammar.rules, grammar.operators
        idle = {name: 1 if o.role == "pass" else INFINITE for name, o in self.operators.items()}
        self._sizes: dict[float, SizeBounds] = {
            ENDLESS: (grammar.least, least_sizes(self.rules, idle)),
            0: (
                dict.fromkeys(self.operators, 1) | dict.fromkeys(self.rules, INFINITE),
                idle | dict.fromkeys(self.rules, INFINITE),
            ),
        }
        self._nodes: dict[Any, Node] = {}
        self._names: dict[int, frozenset[str]] = {}
        self._options: dict[Any, tuple[tuple[Option, ...], tuple[int, ...], Ways]] = {}

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return len(self._nodes)

    def sizes(self, left: float) -> SizeBounds:
        """The fewest operators in which each rule can end, and with which it can do nothing."""
        if left not in self._sizes:
            for n in range(len(self._sizes) - 1, int(left) + 1):
                self._sizes[n] = tuple(
                    some | {name: term_size(rule.body, some) for name, rule in self.rules.items()}
                    for some in self._sizes[n - 1]
                )  # type: ignore[assignment]
        return self._sizes[left]

    def least_depth(self, rule: str) -> int:
        """How deep rules are nested at least from a rule on, itself counted."""
        return next(n for n in count(1) if self.sizes(n)[0][rule] < INFINITE)

    def node(self, term: Term, env: Env, rule: str, left: float = ENDLESS) -> Node:
        """The node of a term, where the rule's parameters and captured sizes are `env`."""
        if env:  # a node is shared by all that differ in names it does not mention
            names = self._mentioned(term)
            env = tuple(pair for pair in env if pair[0] in names)
        key = (id(term), env, rule, left)
        node = self._nodes.get(key)
        if node is None:
            try:
                node = self._node(term, env, rule, left)
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

    def _node(self, term: Term, env: Env, rule: str, left: float) -> Node:
        least = term_size(term, self.sizes(left)[0])
        match term:
            case Call():
                return self._call(term, (), env, rule, left)
            case Choice():
                return self._choice(term, env, rule, left)
            case Repeat():
                return self._repeat(term, env, rule, left)
            case Streams():
                neutral = self._neutral(left, term)
                return Fork(
                    term, lambda i: self._way(term.branches[i], env, rule, left), least, neutral
                )
            case Copies():
                n = number(term.n, env)
                neutral = self._neutral(left, *term.body)
                neutral = n * neutral if neutral is not None else None
                return Multiple(
                    term, n, lambda _: self._way(term.body, env, rule, left), least, neutral
                )

    def _way(self, terms: tuple[Term, ...], env: Env, rule: str, left: float) -> Way:
        return tuple(
            (term.child if isinstance(term, Call) else "", self.node(term, env, rule, left))
            for term in terms
        )

    def _neutral(self, left: float, *terms: Term) -> int | None:
        size = sequence_size(terms, self.sizes(left)[1])
        return size if size < INFINITE else None

    def _choice(self, choice: Choice, env: Env, rule: str, left: float) -> Node:
        sizes, neutral = self.sizes(left)[0], self._neutral(left, choice)
        if len(choice.alternatives) == 1:
            terms = choice.alternatives[0].terms
            least = sequence_size(terms, sizes)
            return Sequence(lambda _: self._way(terms, env, rule, left), least, neutral)
        key = (id(choice), left)
        if key not in self._options:
            sized = [(a, sequence_size(a.terms, sizes)) for a in choice.alternatives]
            able = [(a, size) for a, size in sized if size < INFINITE]
            self._options[key] = (
                tuple(Option(a.label, a.weight) for a, _ in able),
                tuple(n for _, n in able),
                tuple(a.terms for a, _ in able),
            )
        options, least_of, ways = self._options[key]
        return Decision(
            f":{choice.child or rule}",
            rule,
            options,
            least_of,
            lambda i: self._way(ways[i], env, rule, left),
            neutral,
        )

    def _repeat(self, term: Repeat, env: Env, rule: str, left: float) -> Node:
        low, high = number(term.low, env), number(term.high, env)
        if low > high:
            raise ShapeError(f"{term} repeats {low} to {high} times")
        least = term_size(term.body, self.sizes(left)[0])
        once = self._neutral(left, term.body)
        neutral = low * once if once is not None else None if low else 0

        def times(n: int) -> Way:
            node = self.node(term.body, env, rule, left)
            return tuple((f"{term.body.child}.{i}", node) for i in range(n))

        if low == high:
            return Sequence(lambda _: times(low), low * least, neutral)
        counts = [n for n in range(low, high + 1) if n * least < INFINITE]
        options = [Option(f"x{n}", term.weights[n - low] if term.weights else None) for n in counts]
        return Decision(
            f"/{term.child}:repeat",
            rule,
            tuple(options),
            tuple(n * least for n in counts),
            lambda i: times(counts[i]),
            neutral,
        )

    def _call(
        self, call: Call, values: tuple[Value, ...], env: Env, rule: str, left: float
    ) -> Node:
        while len(values) < len(call.args):
            value = call.args[len(values)][1]
            if isinstance(value, Elastic):
                return self._elastic(call, values, env, rule, value, left)
            values = (*values, evaluate(value, env))
        named = {name: v for (name, _), v in zip(call.args, values, strict=True) if name}
        positional = values[: len(values) - len(named)]
        if call.name in self.rules:
            return self._rule(self.rules[call.name], positional, named, left - 1)
        operator = self.operators[call.name]
        args = operator.bind(positional, named)
        key = (call.name, tuple(args.items()))
        if key not in self._nodes:
            self._nodes[key] = Operation(operator, args)
        return self._nodes[key]

    def _elastic(
        self,
        call: Call,
        values: tuple[Value, ...],
        env: Env,
        rule: str,
        elastic: Elastic,
        left: float,
    ) -> Node:
        """The site of an elastic argument; sizes that come out equal are one option, and one size
        is nothing to choose."""
        weights = dict[Value, float]()
        given = elastic.weights or (0.0,) * len(elastic.values)
        for value, weight in zip(elastic.values, given, strict=True):
            size = evaluate(value, env)
            weights[size] = weights.get(size, 0.0) + weight
        sizes = tuple(weights)
        if len(sizes) == 1:
            return self._call(call, (*values, *sizes), env, rule, left)
        name, callee = call.args[len(values)][0], self.rules.get(call.name)
        if not name:
            at = len(values)
            name = callee.params[at][0] if callee else self.operators[call.name].args[at].name
        least = self.sizes(left)[0].get(call.name, 1)

        def chosen(index: int) -> Way:
            key = (id(call), env, rule, values, sizes[index], left)
            if key not in self._nodes:
                try:
                    self._nodes[key] = self._call(call, (*values, sizes[index]), env, rule, left)
                except ValueError as error:
                    self._nodes[key] = Fault(str(error))
            return (("", self._nodes[key]),)

        return Decision(
            f":{name}",
            rule,
            tuple(Option(f"{name}={v}", weight or None) for v, weight in weights.items()),
            (least,) * len(sizes),
            chosen,
            self._neutral(left, call),
        )

    def _rule(self, rule: Rule, positional: tuple[Value, ...], named: Args, left: float) -> Node:
        given = dict(zip((name for name, _ in rule.params), positional, strict=False)) | dict(named)
        env: Env = ()
        for name, default in rule.params:
            if name not in given:
                assert default is not None
                given[name] = evaluate(default, env)
            env = (*env, (name, given[name]))
        if not rule.captures:
            return self.node(rule.body, env, rule.name, left)
        key = (rule.name, env, left)
        if key not in self._nodes:
            self._nodes[key] = Capture(
                rule.name,
                lambda captured: self.node(rule.body, (*env, *captured), rule.name, left),
                self._first(rule, env, left),
                term_size(rule.body, self.sizes(left)[0]),
                self._neutral(left, rule.body),
            )
        return self._nodes[key]

    def _first(self, rule: Rule, env: Env, left: float) -> Operation | None:
        """The operator that a rule begins with whatever sizes enter it, if there is one."""
        ways = rule.body.alternatives
        term = ways[0].terms[0] if len(ways) == 1 and ways[0].terms else None
        if not isinstance(term, Call) or term.name in self.rules:
            return None
        if not self._mentioned(term).isdisjoint(CAPTURED):
            return None
        first = self.node(term, env, rule.name, left)
        return first if isinstance(first, Operation) else None
