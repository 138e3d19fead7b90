"""Which shapes would fit: asked of a bracket backwards, so that few need be tried.

Where what follows a bracket wants a shape, the operator that takes the branches says what it wants
of each: a sum all of it, a concatenation a part, a matrix product its own rows.
"""

from __future__ import annotations

from typing import cast

from nas.grammar.frames import Frame
from nas.grammar.nodes import Copied, Join, Operation
from nas.grammar.results import Results
from nas.op import Shape, Shapes

Wanted = tuple[Shapes, ...] | None
PROBES = tuple(
    (Shape(kind, dims),)  # type: ignore[arg-type]
    for kind, dims in (
        ("image", (6, 8)),
        ("image", (6, 8, 10)),
        ("image", (6, 8, 10, 12)),
        ("vector", (6,)),
        ("sequence", (6, 8)),
        ("sequence", (4, 8)),
        ("sequence", (6, 8, 10)),
    )
)


def turns_some(operation: Operation) -> bool:
    """Whether an operator makes another shape of any that is probed, or takes none of them."""
    pairs = [(x, operation.outputs(x)) for x in PROBES]
    return any(y not in (x, None) for x, y in pairs) or all(y is None for _, y in pairs)


def wanted(frame: Frame | None) -> Wanted:
    """All single streams with which the frames may be completed where what can do nothing does so
    and branches still to come do nothing or repeat the first; None where that cannot be told."""
    end = None if frame is None else frame.jump
    if end is None:
        return None
    try:
        return end.wanted
    except AttributeError:
        end.wanted = _wanted(end)
        return end.wanted


def aims(frame: Frame | None) -> Wanted:
    """Shapes to aim at: those wanted, or where many would do, a few that are like those beside."""
    end = None if frame is None else frame.jump
    if end is None:
        return None
    try:
        return end.aims
    except AttributeError:
        end.aims = _aims(end)
        return end.aims


def _aims(end: Frame) -> Wanted:
    exact = wanted(end)
    if exact is not None or end.next is None or end.bracket is None:
        return exact
    taker, bracket = end.next.node, end.bracket
    if not isinstance(taker, Operation):
        return None
    tries = taker.operator.tries(bracket.done, bracket.waiting, taker.args)
    return None if tries is None else tuple((shape,) for shape in tries)


def _wanted(end: Frame) -> Wanted:
    taker = end.next
    if not isinstance(end.node, Join | Copied) or taker is None:
        return None
    node = taker.node
    if not isinstance(node, Operation):
        return None
    after = aims(taker.next)
    wholes = (None,) if after is None else [whole for (whole,) in after]
    done, others = _beside(end)
    fitting: dict[Shapes, None] = {}
    for whole in wholes:
        for rest in others:
            shapes = node.operator.joins(done, rest, whole, node.args)
            if shapes is None:
                return None
            fitting |= dict.fromkeys((shape,) for shape in shapes)
    return tuple(fitting)


def _beside(end: Frame) -> tuple[Shapes, list[Shapes | int]]:
    """Results of the branches before; and what may come of those after: shapes of theirs, or so
    many like the first's."""
    if isinstance(end.node, Copied):
        return (), [end.node.n - 1]
    assert end.bracket is not None
    done, waiting, twins = end.bracket
    return done, [waiting, len(waiting)] if twins and waiting else [waiting]


def fitting(results: Results, after: Frame | None) -> Results:
    """Those of some results that what takes them next can take, if only doing nothing is between;
    all where that cannot be told."""
    if not results:
        return results
    taker, done = after, cast(Shapes, ())
    first = next(iter(results))
    if after is not None and len(first) == 1:
        join = after.jump
        if join is None or join.bracket is None or join.bracket.waiting:
            return results
        taker, done = join.next, join.bracket.done
    if taker is None or not isinstance(taker.node, Operation):
        return results
    node = taker.node
    return {
        z: outcome for z, outcome in results.items() if node.operator.makes(done + z, node.args)
    }
