"""Deriving anew from one choice of a derivation on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nas.grammar.derivation import Chosen, Derivation
from nas.grammar.frames import Site, State, Waiting, same_frames
from nas.grammar.limits import OPEN_GRAMMAR_TERMINALS, Limits
from nas.grammar.trace import Derived, Mark
from nas.grammar.walk import Choose, OpenWalk, memory_of
from nas.grammar.witness import HERE

TRACKS = 16  # derivations whose tracks are kept: parents are asked for children again


class Track(NamedTuple):
    """A derivation walked again: where it waited for each choice, what had been made until then,
    and all that was made; and the number of the choice at each site."""

    waits: list[Waiting]
    marks: list[Mark]
    tokens: list[Any]
    choices: list[Any]
    number: dict[str, int]


def rederive(
    parent: Derivation,
    start: int,
    led: Callable[[Site], Chosen | None],
    choose: Choose,
    limits: Limits | None,
) -> Derivation | None:
    """As `derive` with the parent's choices before the one numbered `start`, and then those that
    `led` gives wherever they can be completed; from where all that is left is as it was in the
    parent, its choices follow as they were. Choices taken over keep the options that they had.

    None where the parent's choices exceed the limits.
    """
    limits = Limits(OPEN_GRAMMAR_TERMINALS) if limits is None else limits
    if limits.depth is not None:
        return None  # the parent's choices may be none of a shallower grammar's
    resumed = _Resumed(parent, limits).resume(start, led, choose)
    return None if resumed is None else Derivation(parent.grammar, parent.input, *resumed)


class _Resumed(OpenWalk):
    """A derivation that differs from another from one choice on."""

    def __init__(self, parent: Derivation, limits: Limits):
        super().__init__(parent.grammar, (parent.input,), limits)
        self.parent, self.most, self.at = parent, limits, 0
        tracks = memory_of(parent.grammar).tracks
        if (limits, parent) not in tracks:
            if len(tracks) == TRACKS:
                del tracks[next(iter(tracks))]
            tracks[limits, parent] = self._walked()
        self.track: Track = tracks[limits, parent]

    def _walked(self) -> Track:
        state: State = (self.streams, self.machine.start())
        waits, marks = list[Waiting](), list[Mark]()
        for chosen in self.parent.choices:
            waiting = self.machine.advance(*state, self.trace)
            assert isinstance(waiting, Waiting)
            waits.append(waiting)
            marks.append(self.trace.mark())
            self.trace.chose(waiting, chosen.options, chosen.index)
            index = waiting.decision.find(chosen.label)
            assert index is not None
            state = waiting.state(index)
        self.machine.advance(*state, self.trace)
        number = {name: i for i, name in enumerate(self.parent.by_site)}
        return Track(waits, marks, self.trace.tokens, self.trace.choices, number)

    def resume(
        self, start: int, led: Callable[[Site], Chosen | None], choose: Choose
    ) -> Derived | None:
        track = self.track
        self.trace.back(track.marks[start], track.tokens, track.choices[: 4 * start])
        self.labels, self.at = (self.parent.labels[start:], None), start
        waiting = track.waits[start]
        while True:
            wanted = led(waiting.site)
            followed = None if wanted is None else self._led(waiting, wanted)
            state = self._choose(waiting, choose) if followed is None else followed
            reached = self.machine.advance(*state, self.trace)
            if not isinstance(reached, Waiting):
                return self._derived() if self.most.allow(self.trace.spent) else None
            waiting = reached
            if self._same(waiting):
                return self._copied()

    def _led(self, waiting: Waiting, wanted: Chosen) -> State | None:
        """Where a choice made elsewhere leads if it can be completed here."""
        index = waiting.decision.find(wanted.label)
        if index is None:
            return None
        ways = self.witnesses.ways_at(waiting)
        if not self._known(waiting, ways):
            self.found = {}
            completed = self.witnesses.completion(waiting, ways, index, HERE)
            if completed is not None and self._allows(self.trace.spent + completed.cost):
                self.found[index] = completed.labels
            else:
                self._keep(waiting.decision)
        if index not in self.found:
            return None
        self.trace.chose(waiting, wanted.options, wanted.index)
        self._took(waiting, index)
        return waiting.state(index)

    def _copied(self) -> Derived | None:
        """The rest as in the parent."""
        self.trace.choices += self.track.choices[4 * self.at :]
        self.trace.tokens += self.track.tokens[self.track.marks[self.at].tokens :]
        walked, most = self._derived(), self.most
        child = Derivation(self.grammar, self.parent.input, *walked)
        fits = most.allow(child.cost) if most.priced else child.size <= (most.terminals or 0)
        return walked if fits else None

    def _same(self, waiting: Waiting) -> bool:
        """Whether all that is left was so at a choice of the parent, no earlier than any met."""
        number = self.track.number.get(waiting.site.name, -1)
        if number < self.at or number < 0:
            return False
        self.at, theirs = number, self.track.waits[number]
        return (
            theirs.streams == waiting.streams
            and theirs.decision is waiting.decision
            and same_frames(theirs.frame, waiting.frame)
            and same_frames(theirs.fork, waiting.fork)
        )
