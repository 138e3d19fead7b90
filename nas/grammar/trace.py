"""What a walk through a grammar has made so far, and what an open bracket still allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from nas.grammar.frames import NOTHING, Cost, Frame, Place, Price, Waiting
from nas.grammar.labels import FirstAgain, Labels, Witness, repeats
from nas.grammar.nodes import Operation
from nas.grammar.options import Option
from nas.grammar.tokens import CLOSE, NEXT, OPEN, CopiedBranch, labels_of
from nas.op import Shapes


class Derived(NamedTuple):
    """What a walk came to: of each choice its place, suffix and rule, what was offered and the
    index; and the tokens, copies nested."""

    choices: tuple[Any, ...]
    tokens: tuple[Any, ...]


class OpenBracket(NamedTuple):
    """An open bracket. While the first of `twins` equal branches is derived, each operator is
    charged for all of them; a later one gets its share back and is charged for what it is.

    `labels` are those of the first branch; a later one that has repeated the first `at` of them
    may go on so, at `total` in all, and then `rest` completes the derivation.
    """

    twins: int
    choice: int
    spent: Price
    share: Price = 0
    labels: tuple[str, ...] | None = None
    at: int = -1
    total: Price = 0
    rest: Labels = None
    join: Frame | None = None
    finished: int = 0


class Mark(NamedTuple):
    """What a walk has made at one point: how many tokens, and all but those and the choices."""

    tokens: int
    spent: Price
    size: int
    ahead: int
    brackets: tuple[OpenBracket, ...]


class Trace:
    """What a walk has made so far: tokens, choices, spending, and the brackets still open. A
    branch that is copied ends in Copies without a body until tokens are `nested`."""

    def __init__(
        self,
        finish: Callable[[Frame | None, Shapes], Witness | None] | None = None,
        priced: bool = True,
    ):
        self.finish, self.priced = finish, priced
        self.tokens: list[Any] = []
        self.spent: Price = NOTHING if priced else 0
        self.size = 0  # operators instantiated, and none ahead of time
        self.ahead = 1  # how often an operator here is charged for what may repeat it
        self.choices: list[Any] = []  # choices, as a derivation holds them
        self.brackets: list[OpenBracket] = []

    def apply(self, node: Operation, place: Place, copies: int, streams: Shapes) -> None:
        self.tokens.append((node, place))
        if self.priced:
            self.spent += Cost(1, *node.price(streams)) * copies
        else:
            self.spent += copies
        self.size += copies // self.ahead

    def open(self, twins: int) -> None:
        self.tokens.append(OPEN)
        self.ahead *= twins or 1
        self.brackets.append(OpenBracket(twins, len(self.choices), self.spent))

    def branch(self, finished: int, join: Frame, done: Shapes) -> None:
        self.tokens.append(NEXT)
        bracket = self.brackets[-1]._replace(at=-1, finished=finished, join=join)
        if finished == 1:
            self.ahead //= bracket.twins or 1
        if bracket.twins and finished < bracket.twins and self.finish is not None:
            if bracket.labels is None:
                labels = labels_of(self.choices[bracket.choice :])
                share = (self.spent + bracket.spent * -1) // bracket.twins
                bracket = bracket._replace(labels=labels, share=share)
            first, later = done[: len(done) // finished], bracket.twins - finished
            rest = self.finish(join.next, done + first * later)
            if rest is not None:
                again = repeats(join, rest.labels, but=1)  # the one that now begins
                bracket = bracket._replace(at=0, total=self.spent + rest.cost, rest=again)
            self.spent += bracket.share * -1
        self.brackets[-1] = bracket

    def close(self) -> None:
        self.tokens[-1] = CLOSE
        self.brackets.pop()

    def copy(self, n: int, place: Place) -> None:
        self.tokens.append(CopiedBranch(n, place, ()))
        self.brackets.pop()

    def mark(self) -> Mark:
        """Where the walk is, to come back to."""
        return Mark(len(self.tokens), self.spent, self.size, self.ahead, tuple(self.brackets))

    def back(self, mark: Mark, tokens: list[Any], choices: Sequence[Any]) -> None:
        """Come back to a mark on the way to some tokens."""
        size, self.spent, self.size, self.ahead, brackets = mark
        self.tokens, self.choices = tokens[:size], list(choices)
        self.brackets = list(brackets)

    def chose(self, waiting: Waiting, options: Sequence[Option], index: int) -> None:
        self.choices += (waiting.frame.place, waiting.decision.ending, options, index)
        for depth, bracket in enumerate(self.brackets):
            if bracket.at >= 0:
                assert bracket.labels is not None
                follows = bracket.labels[bracket.at : bracket.at + 1] == (options[index].label,)
                self.brackets[depth] = bracket._replace(at=bracket.at + 1 if follows else -1)

    @property
    def count(self) -> int:
        """The number of choices made."""
        return len(self.choices) // 4

    def following(self) -> Iterator[tuple[str, OpenBracket]]:
        """Labels with which an open bracket's branch goes on as the first of its twins did."""
        for bracket in self.brackets:
            if bracket.at >= 0 and bracket.labels and bracket.at < len(bracket.labels):
                yield bracket.labels[bracket.at], bracket

    def repeated(self, again: FirstAgain) -> tuple[str, ...]:
        """The labels with which a branch now begun repeats its first; none where it is over."""
        for bracket in reversed(self.brackets):
            if bracket.labels and bracket.join and bracket.join.next is again.next:
                return bracket.labels if bracket.finished + 1 == again.number else ()
        return ()


def cost_of(tokens: Iterable[Any], streams: Shapes) -> tuple[Shapes, Cost]:
    """What some tokens make of some streams, and what they instantiate."""
    operators = params = flops = written = 0
    brackets: list[tuple[Shapes, Shapes]] = []
    for token in tokens:
        if isinstance(token, str):
            if token == OPEN:
                brackets.append((streams[1:], ()))
                streams = streams[:1]
            else:
                waiting, done = brackets.pop()
                done, streams = done + streams, waiting[:1]
                if token == CLOSE:
                    streams = done
                else:
                    brackets.append((waiting[1:], done))
            continue
        if isinstance(token, CopiedBranch):
            results, more = cost_of(token.body, streams[:1])
            streams, (once, trained, work, writes) = results * token.n, more * token.n
        else:
            once, (trained, work, writes) = 1, token[0].price(streams)
            streams = token[0].on(streams)
        operators, params = operators + once, params + trained
        flops, written = flops + work, written + writes
    return streams, Cost(operators, params, flops, written)
