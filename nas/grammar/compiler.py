"""Every term of a grammar with its arguments known becomes one shared node."""

from __future__ import annotations

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
)  # fmt: skip
from nas.grammar.options import Option
from nas.grammar.rules import (
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
from nas.op import Args, ShapeError, Value


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


