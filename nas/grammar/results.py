"""What can be made of some streams: shapes, each with a cost and the labels that lead there."""

from __future__ import annotations

from typing import NamedTuple

from nas.grammar.frames import Price
from nas.grammar.nodes import Node
from nas.op import Shapes


class Result(NamedTuple):
    """One thing to make of some streams: what it costs once, and the labels that lead there."""

    cost: Price
    labels: tuple[str, ...]


BLANK = Result(0, ())
Results = dict[Shapes, Result]


class Spare(NamedTuple):
    """A node that can do nothing: with how many labels, and those of all that come later."""

    node: Node
    own: int
    later: tuple[str, ...]


def joined(before: Result, after: Result) -> Result:
    if before is BLANK:
        return after
    return Result(before.cost + after.cost, before.labels + after.labels)
