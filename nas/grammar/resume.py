"""Deriving anew from one choice of a derivation on."""

from __future__ import annotations

from collections.abc import Callable

from nas.grammar.derivation import Chosen, Derivation
from nas.grammar.frames import Site, State, Waiting, same_frames
from nas.grammar.limits import OPEN_GRAMMAR_TERMINALS, Limits
from nas.grammar.walk import Choose, OpenWalk
from nas.grammar.witness import HERE


def rederive(
    parent: Derivation, start: int, led: Callable[[Site], Chosen | None], choose: Choose,
    limits: Limits | None,
) -> Derivation | None:  # fmt: skip
    """As `derive` with the parent's choices before the one numbered `start`, and then those that
    `led` gives wherever they can be completed; from where all that is left is as it was in the
    parent, its choices follow as they were. Choices taken over keep the options that they had.

    None where the parent's choices exceed the limits.
    """
    limits = Limits(OPEN_GRAMMAR_TERMINALS) if limits is None else limits
    return _Resumed(parent, limits).resume(start, led, choose)


class _Resumed(OpenWalk):
    """A derivation that differs from another from one choice on."""

    def __init__(self, parent: Derivation, limits: Limits):
        super().__init__(parent.grammar, (parent.input,), limits)
        self.parent = parent
        self.number = {name: i for i, name in enumerate(parent.by_site)}

    def resume(
        self, start: int, led: Callable[[Site], Chosen | None], choose: Choose
    ) -> Derivation | None:
        state: State = (self.streams, self.machine.start())
        if self.limits is not None and self.limits.depth is not None:
            return None  # the parent's choices may be none of a shallower grammar's
        for chosen in self.parent.choices[:start]:
            state = self._again(state, chosen)
        self.labels = (self.parent.labels[start:], None)
        self.theirs, self.at = self.machine.advance(*state), start
        first = True
        while isinstance(waiting := self.machine.advance(*state, self.trace), Waiting):
            same = None if first else self._same(waiting)
            if same is not None:
                return self._copied(waiting, same)
            wanted, first = led(waiting.site), False
            followed = None if wanted is None else self._led(waiting, wanted)
            state = self._choose(waiting, choose) if followed is None else followed
        return self._made() if self.limits.allow(self.trace.spent) else None  # type: ignore[union-attr]

    def _led(self, waiting: Waiting, wanted: Chosen) -> State | None:
        """Where a choice made elsewhere leads if it can be completed here."""
        try:
            index = waiting.decision.index(wanted.label)
        except KeyError:
            return None
        if not self._known(waiting):
            self.found = {}
            found = self.witnesses.completion(waiting, index, HERE)
            if found is not None and self._allows(self.trace.spent.plus(found.cost)):
                self.found[index] = found.labels
            else:
                self._keep(waiting.decision.options)
        if index not in self.found:
            return None
        self.trace.chose(wanted._replace(site=waiting.site))
        self._took(index)
        return waiting.state(index)

    def _copied(self, waiting: Waiting, start: int) -> Derivation | None:
        """The rest as in the parent."""
        first, *others = self.parent.choices[start:]
        state = self._take(waiting, first)
        for chosen in others:
            state = self._again(state, chosen)
        self.machine.advance(*state, self.trace)
        return self._made() if self.limits.allow(self.trace.spent) else None  # type: ignore[union-attr]

    def _again(self, state: State, chosen: Chosen) -> State:
        waiting = self.machine.advance(*state, self.trace)
        assert isinstance(waiting, Waiting)
        return self._take(waiting, chosen)

    def _take(self, waiting: Waiting, chosen: Chosen) -> State:
        self.trace.chose(chosen)
        return waiting.state(waiting.decision.index(chosen.label))

    def _same(self, waiting: Waiting) -> int | None:
        """The number of the parent's choice from which all that is left was what it is here."""
        number = self.number.get(waiting.site.name, -1)
        while number > self.at and isinstance(self.theirs, Waiting):
            index = self.theirs.decision.index(self.parent.choices[self.at].label)
            self.theirs, self.at = self.machine.advance(*self.theirs.state(index)), self.at + 1
        theirs = self.theirs
        alike = (
            number == self.at and isinstance(theirs, Waiting)
            and theirs.streams == waiting.streams and theirs.decision is waiting.decision
            and same_frames(theirs.frame, waiting.frame) and same_frames(theirs.fork, waiting.fork)
        )  # fmt: skip
        return number if alike else None
