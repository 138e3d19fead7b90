"""Completions written briefly: labels to choose, most of them worked out when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from nas.grammar.frames import Frame, Price
from nas.grammar.moves import idle_labels
from nas.grammar.nodes import Join
from nas.op import Shapes


class FirstAgain(NamedTuple):
    """The labels of the first branch once more, in the branch of that number before `next`."""

    next: Frame | None
    number: int


class Idle(NamedTuple):
    """Every frame from one until another left to do nothing."""

    frame: Frame | None
    until: Frame | None
    streams: Shapes


Labels = Any  # None, or (a tuple of labels, a Repeat or an Idle, and the Labels after it)


class Witness(NamedTuple):
    """A known completion: what it costs in all, and its labels in order."""

    cost: Price
    labels: Labels


DONE = Witness(0, None)
idle = partial(tuple.__new__, Idle)  # of their parts together, in a third of the time
witness = partial(tuple.__new__, Witness)


def repeats(join: Frame, labels: Labels, but: int = 0) -> Labels:
    """All branches left repeat the first, `but` so many, and then come some labels."""
    assert join.bracket is not None
    assert isinstance(join.node, Join)
    width = join.node.fork.width
    for number in range(width, width - len(join.bracket.waiting) + but, -1):
        labels = (FirstAgain(join.next, number), labels)
    return labels


def next_label(
    labels: Labels, repeated: Callable[[FirstAgain], tuple[str, ...]]
) -> tuple[str, Labels]:
    """The first of some labels, "" where there is none, and those after it."""
    while labels is not None:
        piece, rest = labels
        if isinstance(piece, Idle):
            frame, until, streams = piece
            if frame is None or frame is until:
                labels = rest
                continue
            rest = (Idle(frame.next, until, streams), rest)
            if frame.bracket is not None:
                rest = repeats(frame, rest)
            piece = idle_labels(frame.node, streams)
        elif isinstance(piece, FirstAgain):
            piece = repeated(piece)
        if piece:
            return piece[0], (piece[1:], rest)
        labels = rest
    return "", None
