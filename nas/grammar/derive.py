"""`derive`: one walk through a grammar, led by one function `choose(site, options) -> index`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nas.grammar.derivation import CLOSE, NEXT, OPEN, Apply, Chosen, Derivation, Token
from nas.grammar.fold import fold
from nas.grammar.frames import Cost, Option, Site, State, Waiting
from nas.grammar.grammar import Grammar
from nas.grammar.machine import Machine
from nas.grammar.parser import GrammarError
from nas.op import Args, Operator, Shape, ShapeError, Shapes

Choose = Callable[[Site, Sequence[Option]], int]
Input = tuple[int, ...] | Shape

OPEN_GRAMMAR_TERMINALS = 256
# States a recursive grammar is searched for a completion: of one option, and of all of them.
# What a first option found is known for good, so where these end, less is offered, never nothing.
FUEL, MOST = 200, 10_000


@dataclass(frozen=True)
class Limits:
    """The most a derivation may instantiate, copies counted; None is no limit.

    terminals: operators; params: trained numbers; flops: FLOPs for a batch of one.
    """

    terminals: int | None = None
    params: int | None = None
    flops: int | None = None

    def allow(self, cost: Cost) -> bool:
        return all(most is None or cost[i] <= most for i, most in enumerate(self._most))

    @property
    def _most(self) -> tuple[int | None, int | None, int | None]:
        return (self.terminals, self.params, self.flops)

    def scale(self, cost: Cost) -> float:
        """The share of the limits that a cost takes, summed: what a completion should keep low."""
        return sum(cost[i] / max(most, 1) for i, most in enumerate(self._most) if most is not None)


UNLIMITED = Limits()
NOTHING = Cost()


def derive(
    grammar: Grammar, choose: Choose, /, *, input: Input, limits: Limits | None = None
) -> Derivation:
    """The derivation that `choose` leads to.

    At every site only options are offered from which the derivation can be completed within
    `limits`. A grammar that can recurse without end has a limit of 256 operators by default.
    Raises GrammarError when nothing can be derived for the input at all.
    """
    if limits is None:
        limits = UNLIMITED if grammar.finite else Limits(OPEN_GRAMMAR_TERMINALS)
    return _Walk(grammar, (Shape.of(input),), limits).run(choose)


def derive_fixed(grammar: Grammar, streams: Shapes) -> tuple[Token, ...]:
    """The operators of a grammar without choices, for any number of streams: a task's head.

    Raises GrammarError where something is left to choose or a shape does not fit.
    """

    def choose(site: Site, options: Sequence[Option]) -> int:
        raise GrammarError(f"{grammar.name} leaves {site.name} to choose, and nothing may be")

    return _Walk(grammar, streams, None).run(choose).terms


def sample(
    grammar: Grammar, rng: random.Random, /, *, input: Input, limits: Limits | None = None
) -> Derivation:
    """A random derivation: given weights are kept and the others share what they leave."""
    return derive(grammar, choose_at_random(rng), input=input, limits=limits)


def choose_at_random(rng: random.Random) -> Choose:
    def choose(site: Site, options: Sequence[Option]) -> int:
        return rng.choices(range(len(options)), probabilities(options))[0]

    return choose


def probabilities(options: Sequence[Option]) -> list[float]:
    """The probability of each option: its given weight, or an equal share of what is left."""
    given = [option.weight for option in options if option.weight is not None]
    shares = len(options) - len(given)
    if not shares:
        return [float(w or 0) / sum(given) for w in (option.weight for option in options)]
    share = max(0.0, 1.0 - sum(given)) / shares
    return [share if option.weight is None else option.weight for option in options]


def replay(grammar: Grammar, labels: Iterable[str], /, *, input: Input) -> Derivation:
    """The derivation whose chosen labels are `labels`; only that every shape fits is checked.

    Raises GrammarError naming the site where a label is none of the options.
    """
    left = iter(labels)

    def choose(site: Site, options: Sequence[Option]) -> int:
        label = next(left, None)
        names = [option.label for option in options]
        if label not in names:
            said = "the labels end" if label is None else f"{label!r} is no option"
            raise GrammarError(f"{said} at {site.name}; there are {', '.join(names)}")
        return names.index(label)

    derivation = _Walk(grammar, (Shape.of(input),), None).run(choose)
    rest = list(left)
    if rest:
        raise GrammarError(f"{len(rest)} labels are left over, from {rest[0]!r} on")
    return derivation


@dataclass
class _Bracket:
    """An open bracket. While the first of `twins` equal branches is derived, each operator is
    charged for all of them; a later one gets its share back and is charged for what it is.
    `copied` is the state, and the spending, after all branches left repeat the first."""

    token: int
    twins: int
    choice: int
    spent: Cost
    share: Cost = NOTHING
    witness: tuple[str, ...] | None = None
    copied: tuple[State, Cost] | None = None


class _Trace:
    """What a walk has made so far: tokens, choices, spending, and the brackets still open."""

    def __init__(self) -> None:
        self.terms: list[Token] = []
        self.spent = Cost()
        self.choices: list[Chosen] = []
        self.brackets: list[_Bracket] = []

    def apply(
        self, operator: Operator, args: Args, path: str, cost: Cost, streams: Shapes
    ) -> None:
        self.terms.append(Apply(operator, args, path))
        self.spent = self.spent.plus(cost)

    def open(self, twins: int) -> None:
        self.terms.append(OPEN)
        self.brackets.append(_Bracket(len(self.terms), twins, len(self.choices), self.spent))

    def branch(self, finished: int, copied: State | None) -> None:
        self.terms.append(NEXT)
        bracket = self.brackets[-1]
        bracket.copied = (copied, self.spent) if copied else None
        if not bracket.twins or finished == bracket.twins:
            return
        if bracket.witness is None:
            bracket.witness = tuple(choice.label for choice in self.choices[bracket.choice :])
            bracket.share = self.spent.plus(bracket.spent.times(-1)).over(bracket.twins)
        self.spent = self.spent.plus(bracket.share.times(-1))
        bracket.choice = len(self.choices)

    def close(self) -> None:
        self.terms[-1] = CLOSE
        self.brackets.pop()

    def copy(self, n: int, path: str) -> None:
        start = self.brackets.pop().token
        body = self.terms[start:]
        del self.terms[start:]
        for i in range(n):
            self.terms.extend(
                t if isinstance(t, str) else t._replace(path=f"{path}.{i}{t.path[len(path) :]}")
                for t in body
            )
            self.terms.append(NEXT if i + 1 < n else CLOSE)

    def repeated(self) -> list[tuple[str, _Bracket]]:
        """Labels with which an open bracket's branch goes on as the first of its twins did."""
        found = []
        for bracket in self.brackets:
            if bracket.witness is None or bracket.copied is None:
                continue
            made = tuple(choice.label for choice in self.choices[bracket.choice :])
            done = len(made)
            if done < len(bracket.witness) and made == bracket.witness[:done]:
                found.append((bracket.witness[done], bracket))
        return found


class _Memory:
    """What is known of a finite grammar for good: its machine, completions, and full offers."""

    def __init__(self, grammar: Grammar):
        self.machine = Machine(grammar)
        self.completions: dict[Limits, dict[Any, Any]] = {}
        self.offers: dict[int, list[int]] = {}


def _memory(grammar: Grammar) -> _Memory:
    if not grammar.finite:
        return _Memory(grammar)
    if "derive" not in grammar.memory:
        grammar.memory["derive"] = _Memory(grammar)
    return grammar.memory["derive"]  # type: ignore[no-any-return]


class _Walk:
    """One derivation in the making. `limits` None offers every option: a replay."""

    def __init__(self, grammar: Grammar, streams: Shapes, limits: Limits | None):
        self.grammar, self.streams, self.limits = grammar, streams, limits
        memory = _memory(grammar)
        self.machine, self.offers = memory.machine, memory.offers
        self.memo = memory.completions.setdefault(limits or UNLIMITED, {})
        self.trace = _Trace()
        self.cheapest: Cost | None = None

    def run(self, choose: Choose) -> Derivation:
        state: State = (self.streams, 1, self.machine.start())
        while True:
            try:
                waiting = self.machine.advance(*state, self.trace)
            except (ShapeError, ValueError) as error:
                raise self._impossible(str(error)) from None
            if not isinstance(waiting, Waiting):
                break
            offered = self._offered(waiting)
            if not offered:
                raise self._impossible(self._refusal(waiting))
            options = tuple(waiting.options[i] for i in offered)
            index = choose(waiting.site, options)
            if not 0 <= index < len(options):
                raise IndexError(f"choose gave {index} at {waiting.site.name} of {len(options)}")
            self.trace.choices.append(Chosen(waiting.site, options, index))
            state = waiting.state(offered[index])
        if self.limits is not None and not self.limits.allow(self.trace.spent):
            raise self._impossible(f"the only derivation costs {self.trace.spent}")
        return Derivation(
            self.grammar, self.streams[0], tuple(self.trace.choices), tuple(self.trace.terms)
        )

    def _refusal(self, waiting: Waiting) -> str:
        """Why no option of a site can be completed, as far as is known."""
        if self.cheapest is not None:
            return f"the least completion found at {waiting.site.name} costs {self.cheapest}"
        return f"no option of {waiting.site.name} fits; {self.machine.refusal}"

    def _impossible(self, reason: str) -> GrammarError:
        limits = "" if self.limits in (None, UNLIMITED) else f" within {self.limits}"
        return GrammarError(
            f"{self.grammar.name} cannot be derived for an input of "
            f"{' '.join(map(str, self.streams))}{limits}: {reason}"
        )

    def _offered(self, waiting: Waiting) -> list[int]:
        everything = list(range(len(waiting.options)))
        if self.limits is None:
            return everything
        if self.grammar.finite and self.limits == UNLIMITED:
            if id(waiting) not in self.offers:
                self.offers[id(waiting)] = [
                    i for i in everything if self._completes(waiting.state(i), NOTHING)
                ]
            return self.offers[id(waiting)]
        known = {label for label, bracket in self.trace.repeated() if self._repeats(bracket)}
        return [
            i for i in everything
            if waiting.options[i].label in known
            or self._completes(waiting.state(i), self.trace.spent)
        ]  # fmt: skip

    def _repeats(self, bracket: _Bracket) -> bool:
        """Whether what follows a bracket of equal branches can be completed."""
        if bracket.copied is None:
            return False
        if not self._completes(*bracket.copied):
            bracket.copied = None
        return bracket.copied is not None

    def _completes(self, state: State, spent: Cost) -> bool:
        assert self.limits is not None
        limits = self.limits
        exhaustive = self.grammar.finite and limits != UNLIMITED
        best = fold(
            self.machine, self.memo, state,
            at_end=lambda streams, cost: cost,
            combine=lambda site, found: min(
                (site.cost.plus(cost) for _, cost in found), key=limits.scale
            ),
            order=self._order, enough=not exhaustive,
            fuel=None if self.grammar.finite else max(1, min(FUEL, MOST - len(self.memo))),
        )  # fmt: skip
        if best is None:
            return False
        total = spent.plus(best)
        if self.cheapest is None or limits.scale(total) < limits.scale(self.cheapest):
            self.cheapest = total
        return limits.allow(total)

    def _order(self, waiting: Waiting) -> Sequence[int]:
        """Options worth trying for a completion: all, or the shortest of a recursive grammar."""
        if self.grammar.finite:
            return range(len(waiting.options))
        sizes = waiting.head.sizes
        least = min(sizes)
        return [i for i, size in enumerate(sizes) if size == least]

