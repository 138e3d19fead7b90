"""Which shapes would fit: asked of a bracket backwards, so that few need be tried.

Where what follows a bracket wants a shape, the operator that takes the branches is turned round:
a sum wants it of each branch, a concatenation a part of it, a matrix product its own rows.
"""

from __future__ import annotations

from nas.grammar.frames import Frame
from nas.grammar.nodes import Copied, Join, Operation
from nas.op import Shape, Shapes
from nas.op.stream import Add, Concat, MatMul

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


def factors(x: Shape, y: Shape) -> tuple[Shape, Shape] | tuple[()]:
    """What would do for the first of two streams to be multiplied, and what for the second."""
    if min(len(x.dims), len(y.dims)) < 2:
        return ()
    return (
        Shape(x.kind, (*x.dims[:-1], y.dims[-2])),
        Shape(y.kind, (*x.dims[:-2], x.dims[-1], y.dims[-2])),
    )


def turns_some(operation: Operation) -> bool:
    """Whether an operator makes another shape of any that is probed, or takes none of them."""
    made = [(x, operation.outputs(x)) for x in PROBES]
    return any(y not in (x, None) for x, y in made) or all(y is None for _, y in made)


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
    found = wanted(end)
    if found is not None or end.next is None or end.bracket is None:
        return found
    taker, done = end.next.node, end.bracket.done
    operator = taker.operator if isinstance(taker, Operation) else None
    if isinstance(operator, Concat) and done:
        return (done[:1],)
    if isinstance(operator, MatMul):
        kind, dims = done[0] if done else end.bracket.waiting[0]
        if len(dims) < 2:
            return ()
        if not done:
            return ((Shape(kind, (*dims[:-1], dims[-2])),),)
        return tuple((Shape(kind, (*dims[:-2], dims[-1], size)),) for size in dims[-2:])
    return None


def _wanted(end: Frame) -> Wanted:
    taker = end.next
    if not isinstance(end.node, Join | Copied) or taker is None:
        return None
    node = taker.node
    if not isinstance(node, Operation):
        return None
    after = aims(taker.next)
    done, others = _beside(end)
    if isinstance(node.operator, Add):
        if done:
            return (done[:1],) if after is None or done[:1] in after else ()
        return after
    if after is None:
        return None
    if isinstance(node.operator, Concat):
        at = int(node.args["dim"]) - 1
        return tuple((part,) for (whole,) in after for part in _parts(whole, at, done, others))
    if isinstance(node.operator, MatMul):
        return tuple((x,) for (product,) in after for x in _factors(product, done, others))
    return None


def _beside(end: Frame) -> tuple[Shapes, list[Shapes | int]]:
    """Results of the branches before; and what may come of those after: shapes of theirs, or so
    many times the first's."""
    if isinstance(end.node, Copied):
        return (), [end.node.n - 1]
    assert end.bracket is not None
    done, waiting, twins = end.bracket
    return done, [waiting, len(waiting)] if twins and waiting else [waiting]


def _parts(whole: Shape, at: int, done: Shapes, others: list[Shapes | int]) -> list[Shape]:
    if at >= len(whole.dims):
        return []
    found = []
    for after in others:
        size = whole.dims[at]
        if isinstance(after, int) and not done:
            size = size // (after + 1) if size % (after + 1) == 0 else 0
        else:
            rest = done[:1] * after if isinstance(after, int) else after
            beside = (*done, *rest)
            if any(len(x.dims) != len(whole.dims) for x in beside):
                continue
            size -= sum(x.dims[at] for x in beside)
        if size > 0:
            found.append(Shape(whole.kind, (*whole.dims[:at], size, *whole.dims[at + 1 :])))
    return found


def _factors(product: Shape, done: Shapes, others: list[Shapes | int]) -> list[Shape]:
    rows = product.dims[:-1]
    if done:
        (x,) = done[:1]
        return [Shape(x.kind, (*x.dims[:-2], x.dims[-1], product.dims[-1]))]
    found = [product]
    for after in others:
        if not isinstance(after, int) and after and len(after[0].dims) >= 2:
            found.append(Shape(product.kind, (*rows, after[0].dims[-2])))
    return found
