"""`fold`: what holds of all completions of a state, computed from its options' answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nas.grammar.error import TooLarge
from nas.grammar.frames import Cost, State, Waiting
from nas.grammar.machine import Machine
from nas.op import ShapeError, Shapes

T = TypeVar("T")


def key_of(state: State) -> tuple[Shapes, int]:
    """Equal for states with equal futures."""
    streams, frame = state
    return streams, frame.key if frame else -1


def fold(
    machine: Machine,
    memo: dict[Any, T | None],
    state: State,
    at_end: Callable[[Shapes, Cost], T | None],
    combine: Callable[[Waiting, list[tuple[int, T]]], T | None],
    order: Callable[[Waiting], Sequence[int]],
    enough: bool = False,
) -> T | None:
    """The answer for a state, post-order, kept in `memo`; None where there is no completion.

    With `enough`, the first option that has a completion decides. Never recurses.
    """
    result: T | None = None
    stack: list[tuple[Any, Waiting, list[int], list[tuple[int, T]]]] = []
    pending: State | None = state
    while True:
        if pending is not None:
            key, result = key_of(pending), None
            if key in memo:
                result = memo[key]
            else:
                reached = _reached(machine, pending)
                if isinstance(reached, Waiting):
                    left = list(order(reached))[::-1]
                    stack.append((key, reached, left, []))
                    pending = reached.state(left[-1])
                    continue
                result = memo[key] = at_end(*reached) if reached else None
        if not stack:
            return result
        key, waiting, left, answers = stack[-1]
        index = left.pop()
        if result is not None:
            answers.append((index, result))
        if left and not (enough and answers):
            pending = waiting.state(left[-1])
            continue
        result = memo[key] = combine(waiting, answers) if answers else None
        pending = None
        stack.pop()


def _reached(machine: Machine, state: State) -> Waiting | tuple[Shapes, Cost] | None:
    """Where a state comes to by itself; None where something does not fit."""
    machine.spend(1)
    try:
        return machine.advance(*state)
    except TooLarge:
        raise
    except (ShapeError, ValueError) as error:
        machine.refused(error)
        return None
