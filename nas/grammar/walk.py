"""A walk through a grammar: what has been made so far, and what is offered next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nas.grammar.error import GrammarError
from nas.grammar.fold import fold
from nas.grammar.frames import Cost, Price, Site, State, Waiting
from nas.grammar.grammar import Grammar
from nas.grammar.labels import Labels, next_label
from nas.grammar.limits import UNLIMITED, Limits
from nas.grammar.machine import Machine
from nas.grammar.nodes import Decision
from nas.grammar.options import Option
from nas.grammar.sizes import Interval, Sizes
from nas.grammar.tokens import nested
from nas.grammar.trace import Derived, Trace
from nas.grammar.ways import Ways
from nas.grammar.witness import HERE, IDLE, NEAR, Witnesses
from nas.op import ShapeError, Shapes

Choose = Callable[[Site, Sequence[Option]], int]
KEPT = 300_000
DETOURS = 12  # sites of one derivation at which ways are searched to turn a shape so that it fits


class Memory:
    """What is known of a grammar for good, with rules nested as deep as `depth` at most: its
    machine, and completions within some limits."""

    def __init__(self, grammar: Grammar, depth: int | None):
        self.machine = Machine(grammar, depth)
        if depth is not None:
            least = self.machine.compiler.least_depth(grammar.start)
            if least > depth:
                raise GrammarError(
                    f"{grammar.name} cannot be derived with depth at most {depth}: its rules nest "
                    f"{least} deep at least"
                )
        self.completions: dict[Limits, dict[Any, Any]] = {}
        self.witnesses: dict[Limits, Witnesses] = {}
        self.offers: dict[int, list[int]] = {}
        self.sizes: dict[int, Sizes] = {}
        self.tracks: dict[Any, Any] = {}  # of derivations that children resume

    @property
    def kept(self) -> int:
        return self.machine.compiler.kept + sum(w.kept for w in self.witnesses.values())


def memory_of(grammar: Grammar, depth: int | None = None) -> Memory:
    """What is known of a grammar; forgotten where shapes without end have filled it."""
    key = "derive" if depth is None else f"derive {depth}"
    known = grammar.memory.get(key)
    if known is None or (not grammar.finite and known.kept > KEPT):
        grammar.memory[key] = Memory(grammar, depth)
    return grammar.memory[key]  # type: ignore[no-any-return]


class Walk:
    """One derivation in the making. `limits` None offers every option: a replay."""

    def __init__(
        self,
        grammar: Grammar,
        streams: Shapes,
        limits: Limits | None,
        sizing: tuple[Sizes, Interval] | None = None,
    ):
        self.grammar, self.streams, self.limits, self.sizing = grammar, streams, limits, sizing
        memory = memory_of(grammar, limits.depth if limits else None)
        self.machine, self.offers = memory.machine, memory.offers
        self.machine.spent = 0
        self.memo = memory.completions.setdefault(limits or UNLIMITED, {})
        self.trace = Trace()
        self.cheapest: Cost | None = None

    def run(self, choose: Choose) -> Derived:
        state: State = (self.streams, self.machine.start())
        while True:
            try:
                waiting = self.machine.advance(*state, self.trace)
            except ShapeError as error:
                raise self._impossible(str(error)) from None
            if not isinstance(waiting, Waiting):
                break
            state = self._choose(waiting, choose)
        if self.limits is not None and not self.limits.allow(self.trace.spent):
            raise self._impossible(f"the only derivation costs {Cost.of(self.trace.spent)}")
        return self._derived()

    def _choose(self, waiting: Waiting, choose: Choose) -> State:
        """Where the option leads that is chosen."""
        offered = self._offered(waiting)
        if not offered:
            raise self._impossible(self._refusal(waiting))
        site, options = waiting.site, waiting.decision.offer(offered)
        if self.sizing:
            sizes, wanted = self.sizing
            options = sizes.condition(waiting, offered, self.trace.size, wanted)
        index = choose(site, options)
        if not 0 <= index < len(options):
            raise IndexError(f"choose gave {index} at {site.name} of {len(options)}")
        self.trace.chose(waiting, options, index)
        self._took(waiting, offered[index])
        return waiting.state(offered[index])

    def _derived(self) -> Derived:
        return Derived(tuple(self.trace.choices), nested(self.trace.tokens))

    def _took(self, waiting: Waiting, index: int) -> None:
        """Told of every choice made."""

    def _refusal(self, waiting: Waiting) -> str:
        """Why no option of a site can be completed, as far as is known."""
        if self.cheapest is not None:
            return f"the least completion found at {waiting.site.name} costs {self.cheapest}"
        return f"no option of {waiting.site.name} fits; {self.machine.refusal}"

    def _impossible(self, reason: str) -> GrammarError:
        limits = f" with {self.limits}" if self.limits not in (None, UNLIMITED) else ""
        return GrammarError(
            f"{self.grammar.name} cannot be derived for an input of "
            f"{' '.join(map(str, self.streams))}{limits}: {reason}"
        )

    def _allows(self, cost: Price) -> bool:
        assert self.limits is not None
        if self.limits.allow(cost):
            return True
        if self.cheapest is None or self.limits.scale(cost) < self.limits.scale(self.cheapest):
            self.cheapest = Cost.of(cost)
        return False

    def _offered(self, waiting: Waiting) -> Sequence[int]:
        everything = range(len(waiting.decision.options))
        if self.limits is None:
            return everything
        if self.limits == UNLIMITED:
            if id(waiting) not in self.offers:
                self.offers[id(waiting)] = [
                    i for i in everything if self._completes(waiting.state(i))
                ]
            return self.offers[id(waiting)]
        return [i for i in everything if self._completes(waiting.state(i))]

    def _completes(self, state: State) -> bool:
        assert self.limits is not None
        limits = self.limits
        best = fold(
            self.machine,
            self.memo,
            state,
            at_end=lambda streams, cost: cost,
            combine=lambda site, answers: min(
                (site.cost + cost for _, cost in answers), key=limits.scale
            ),
            order=lambda site: range(len(site.options)),
            enough=limits == UNLIMITED,
        )
        return best is not None and self._allows(self.trace.spent + best)


class OpenWalk(Walk):
    """A derivation of a recursive grammar: every option offered has a witness."""

    def __init__(
        self,
        grammar: Grammar,
        streams: Shapes,
        limits: Limits,
        sizing: tuple[Sizes, Interval] | None = None,
        path: tuple[str, ...] = (),
    ):
        super().__init__(grammar, streams, limits, sizing)
        memory = memory_of(grammar, limits.depth)
        if limits not in memory.witnesses:
            memory.witnesses[limits] = Witnesses(
                limits.scale, priced=limits.priced, spend=self.machine.spend
            )
        self.witnesses = memory.witnesses[limits]
        witnesses = self.witnesses
        self.trace = Trace(lambda f, streams: witnesses.finish(f, streams, HERE), limits.priced)
        self.found: dict[int, Labels] = {}
        self.detours = DETOURS
        self.labels: Labels = None  # of the witness for where the walk is
        self.path = path  # labels of a derivation within the limits, as long as it is followed

    def _took(self, waiting: Waiting, index: int) -> None:
        self.labels = self.found[index]
        label = waiting.decision.options[index].label
        if self.path and label != self.path[self.trace.count - 1]:
            self.path = ()

    def _offered(self, waiting: Waiting) -> Sequence[int]:
        offered = self._completed(waiting)
        if self.path:
            at = self.trace.count
            index = waiting.decision.find(self.path[at])
            if index is None:  # it nests rules deeper than the limits allow
                self.path = ()
            elif index not in self.found:
                self.found = {**self.found, index: (self.path[at + 1 :], None)}
                return sorted(self.found)
        return offered

    def _completed(self, waiting: Waiting) -> Sequence[int]:
        """The options for which a completion is known or found."""
        ways = self.witnesses.ways_at(waiting)
        if self._known(waiting, ways):
            return list(self.found)
        self.found = {}
        self._try(waiting, ways, HERE if self.detours else IDLE)
        self.detours = max(0, self.detours - 1)
        self._follow(waiting.decision)
        self._keep(waiting.decision)
        if not self.found:
            self._try(waiting, ways, NEAR)
        return sorted(self.found)

    def _known(self, waiting: Waiting, ways: Ways) -> bool:
        """Whether every option fits that can be taken at all, and is found."""
        after = waiting.frame.next
        if after is not None and (after.axes is None or ways.axes < after.axes):
            return False
        most = ways.terms.most * waiting.frame.copies + self.trace.spent
        if after is not None:
            most += after.ending
            if ways.elements:
                most += Cost(0, 0, 0, after.writes * ways.elements)
        if not self.limits.allow(most):  # type: ignore[union-attr]
            return False
        self.found = ways.terms.labels
        return True

    def _try(self, waiting: Waiting, ways: Ways, effort: int) -> None:
        """Offer the options that can be completed with some effort."""
        for cost, labels in self.witnesses.completions(waiting, ways, effort):
            if self._allows(self.trace.spent + cost):
                self.found.update(labels)

    def _follow(self, decision: Decision) -> None:
        """Offer what goes on as an earlier branch did."""
        for label, bracket in self.trace.following():
            index = decision.find(label)
            if index is not None and self._allows(bracket.total):
                assert bracket.labels is not None
                self.found.setdefault(index, (bracket.labels[bracket.at + 1 :], bracket.rest))

    def _keep(self, decision: Decision) -> None:
        """Offer the next step of the witness that the last choice was offered with."""
        label, rest = next_label(self.labels, self.trace.repeated)
        index = decision.find(label)
        if index is not None:
            self.found.setdefault(index, rest)
