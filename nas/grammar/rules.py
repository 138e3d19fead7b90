"""A grammar in memory: rules, their alternatives and terms. Everything prints as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from nas.grammar.bounds import REPEATS, VALUE
from nas.op import Value

CAPTURED = ("channels", "height", "width")


@dataclass(frozen=True)
class Where:
    """A place in a grammar's text: 1-based line and column."""

    line: int = 0
    column: int = 0


def plain(value: int | float) -> str:
    """A number as a grammar writes it: in full, never as 1e-05."""
    return f"{value}" if isinstance(value, int) else f"{Decimal(repr(value)):f}"


@dataclass(frozen=True)
class Number:
    value: int | float

    def __str__(self) -> str:
        return plain(self.value)


@dataclass(frozen=True)
class Name:
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Arithmetic:
    sign: str
    left: Expression
    right: Expression
    deep: int = field(default=1, compare=False, repr=False)  # operations within each other

    def __str__(self) -> str:
        return f"({self.left} {self.sign} {self.right})"


@dataclass(frozen=True)
class Function:
    """The smallest or largest of some numbers."""

    name: str
    arguments: tuple[Expression, ...]
    deep: int = field(default=1, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})"


Expression = Number | Name | Arithmetic | Function


@dataclass(frozen=True)
class Elastic:
    """Sizes in braces: a choice; in the bank the largest is kept and the others are slices.
    `weights`: how probable each is beside the others, () where all are alike."""

    values: tuple[Expression, ...]
    weights: tuple[float, ...] = ()

    def __str__(self) -> str:
        return "{" + ", ".join(map(str, self.values)) + _chances(self.weights) + "}"


@dataclass(frozen=True)
class Call:
    """An operator or a rule with its arguments. `child` names it uniquely in its rule's body."""

    name: str
    args: tuple[tuple[str, Expression | Elastic], ...] = ()  # ("", value) where positional
    where: Where = field(default=Where(), compare=False)
    child: str = ""

    def __str__(self) -> str:
        if not self.args:
            return self.name
        words = (f"{name}={value}" if name else f"{value}" for name, value in self.args)
        return f"{self.name}({', '.join(words)})"


@dataclass(frozen=True)
class Repeat:
    """`low` to `high` copies in sequence, each derived by itself. `weights`: how probable each
    number is beside the others, from `low` on; () where all are alike."""

    body: Call | Choice | Streams | Copies
    low: Expression
    high: Expression
    weights: tuple[float, ...] = ()
    child: str = ""

    def __str__(self) -> str:
        times = f"{self.low}" if self.low == self.high else f"{self.low}..{self.high}"
        return f"{_grouped(self.body)}{{{times}{_chances(self.weights)}}}"


@dataclass(frozen=True)
class Streams:
    """A branch for each stream of the tuple."""

    branches: tuple[tuple[Term, ...], ...]
    child: str = ""

    def __str__(self) -> str:
        return "[" + "; ".join(_sequence(branch) for branch in self.branches) + "]"


@dataclass(frozen=True)
class Copies:
    """One derivation on each of `n` streams, with weights of their own."""

    body: tuple[Term, ...]
    n: Expression
    child: str = ""

    def __str__(self) -> str:
        return f"[{_sequence(self.body)} * {self.n}]"


@dataclass(frozen=True)
class Alternative:
    """One right-hand side; `weight` is None where it shares what the given weights leave."""

    terms: tuple[Term, ...]
    weight: float | None = None
    label: str = ""

    def __str__(self) -> str:
        weight = "" if self.weight is None else f"{plain(self.weight)}: "
        return weight + _sequence(self.terms)


@dataclass(frozen=True)
class Choice:
    alternatives: tuple[Alternative, ...]
    child: str = ""

    def __str__(self) -> str:
        return " | ".join(map(str, self.alternatives))


Term = Call | Repeat | Streams | Copies | Choice


def _chances(weights: tuple[float, ...]) -> str:
    return f": {' '.join(map(plain, weights))}" if weights else ""


def _grouped(term: Term) -> str:
    return f"({term})" if isinstance(term, Choice) else f"{term}"


def _sequence(terms: tuple[Term, ...]) -> str:
    return " ".join(map(_grouped, terms))


@dataclass(frozen=True)
class Rule:
    """`captures`: the body mentions channels, height or width of the stream that enters it.
    `seed`: it is a network of the space, and no rule of it. `source` and `text` are what it was
    read from, for errors."""

    name: str
    params: tuple[tuple[str, Expression | None], ...]
    body: Choice
    where: Where = field(default=Where(), compare=False)
    captures: bool = False
    seed: bool = False
    source: str = field(default="", compare=False)
    text: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        names = (name if value is None else f"{name}={value}" for name, value in self.params)
        head = f"{self.name}({', '.join(names)})" if self.params else self.name
        return f"{'seed ' * self.seed}{head} = {self.body}"


Env = tuple[tuple[str, Value], ...]


def evaluate(expression: Expression, env: Env | Mapping[str, Value]) -> Value:
    """The value of an argument; a name that is no parameter is a word. `/` rounds down.

    Raises ValueError where it has none, or one beyond a thousand million.
    """
    value = _evaluate(expression, env)
    if not isinstance(value, str) and not -VALUE <= value <= VALUE:
        raise ValueError(f"{expression} is {value:.3g}, and numbers are at most {VALUE:,}")
    return value


def _evaluate(expression: Expression, env: Env | Mapping[str, Value]) -> Value:
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Name):
        for name, value in env.items() if isinstance(env, Mapping) else env:
            if name == expression.name:
                return value
        return expression.name
    if isinstance(expression, Function):
        values = [evaluate(argument, env) for argument in expression.arguments]
        numbers = [value for value in values if not isinstance(value, str)]
        if len(numbers) < len(values):
            raise ValueError(f"{expression} takes numbers, and its values are {values}")
        return min(numbers) if expression.name == "min" else max(numbers)
    left, right = evaluate(expression.left, env), evaluate(expression.right, env)
    if isinstance(left, str) or isinstance(right, str):
        word = left if isinstance(left, str) else right
        raise ValueError(f"{word!r} is no number in {expression}")
    if expression.sign == "+":
        return left + right
    if expression.sign == "-":
        return left - right
    if expression.sign == "*":
        return left * right
    if right == 0:
        raise ValueError(f"{expression} divides by zero")
    return left // right


def number(expression: Expression, env: Env) -> int:
    """The value of a count; raises ValueError where it is no whole number."""
    value = evaluate(expression, env)
    if isinstance(value, str) or value != int(value) or value < 0:
        raise ValueError(f"{expression} is {value!r}, and a count is a whole number")
    if value > REPEATS:
        raise ValueError(f"{expression} is {value:,}, and a count is at most {REPEATS}")
    return int(value)


def names_in(expression: Expression | Elastic) -> set[str]:
    if isinstance(expression, Elastic):
        return set().union(*map(names_in, expression.values))
    if isinstance(expression, Name):
        return {expression.name}
    if isinstance(expression, Arithmetic):
        return names_in(expression.left) | names_in(expression.right)
    if isinstance(expression, Function):
        return set().union(*map(names_in, expression.arguments))
    return set()


def counts_in(term: Term) -> list[Expression]:
    """Every expression that says how often: of repetitions and of copies."""
    match term:
        case Repeat():
            return [term.low, term.high, *counts_in(term.body)]
        case Streams(branches=branches):
            return [n for branch in branches for t in branch for n in counts_in(t)]
        case Copies():
            return [term.n, *(n for t in term.body for n in counts_in(t))]
        case Choice(alternatives=alternatives):
            return [n for a in alternatives for t in a.terms for n in counts_in(t)]
    return []


def choice_in(term: Term) -> str:
    """What a term leaves to choose, as it is written; "" where that is nothing."""
    match term:
        case Call(args=args):
            return next((f"{v}" for _, v in args if isinstance(v, Elastic)), "")
        case Repeat(body=body, low=low, high=high):
            return choice_in(body) if low == high else f"{term}"
        case Streams(branches=branches):
            return next(filter(None, (choice_in(t) for branch in branches for t in branch)), "")
        case Copies(body=terms):
            return next(filter(None, map(choice_in, terms)), "")
        case Choice(alternatives=(one,)):
            return next(filter(None, map(choice_in, one.terms)), "")
    return f"{term}"


def calls_in(term: Term) -> list[Call]:
    """Every call in a term, in the order written."""
    calls: list[Call] = []
    todo: list[Term] = [term]
    while todo:
        match todo.pop():
            case Call() as call:
                calls.append(call)
            case Repeat(body=body):
                todo.append(body)
            case Streams(branches=branches):
                todo.extend(t for branch in reversed(branches) for t in reversed(branch))
            case Copies(body=terms):
                todo.extend(reversed(terms))
            case Choice(alternatives=alternatives):
                todo.extend(t for a in reversed(alternatives) for t in reversed(a.terms))
    return calls
