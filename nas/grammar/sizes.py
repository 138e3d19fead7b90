"""How large a derivation becomes: the distribution of instantiated sizes, and draws led by it.

The inside weights of a probabilistic grammar by length (Lari and Young 1990, section 3), with a
copied branch counted as often as it is copied; shapes and limits are left out. A derivation in
the making knows what it has spent and what is still to be derived, so the probability that it
ends within an interval of sizes can be told for each option: draws by these probabilities follow
the grammar's own distribution within the interval, as far as shapes allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from nas.grammar.frames import Frame, Waiting
from nas.grammar.nodes import Capture, Compound, Copied, Decision, Fork, Join, Multiple, Node
from nas.grammar.options import Option, Options, probabilities
from nas.lazy import np

MOST_CHOICES = 2_000
NOMINAL = (1, 1, 1)  # channels, height, width: what is chosen does not hang on sizes
MOST_PASSES, SETTLED = 200, 1e-15
Weights = Any  # float64 (most + 1,): the probability of every size


@dataclass(frozen=True)
class Interval:
    """The instantiated operators wanted of a derivation, both ends included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"a size is an interval from 1 on, and this is {self}")

    @staticmethod
    def of(size: int | tuple[int, int] | Interval) -> Interval:
        if isinstance(size, Interval):
            return size
        return Interval(size, size) if isinstance(size, int) else Interval(*size)

    def __contains__(self, size: int) -> bool:
        return self.low <= size <= self.high

    def __str__(self) -> str:
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Factors:
    """What a node comes to: `shift` operators, and choices, each instantiated so many times; or,
    not `counted`, each copied branch once."""

    shift: int
    choices: tuple[tuple[Decision, int], ...]

    @staticmethod
    def of(nodes: Iterable[Node], copies: int, *, counted: bool = True) -> Factors:
        shift, choices = 0, list[tuple[Decision, int]]()
        for node in nodes:
            if isinstance(node, Decision):
                choices.append((node, copies))
                continue
            if isinstance(node, Capture):
                more = Factors.of((node.sized(NOMINAL),), copies, counted=counted)
            elif isinstance(node, Compound):
                width = node.width if isinstance(node, Fork) else 1
                inner = copies * node.width if isinstance(node, Multiple) and counted else copies
                parts = (part for i in range(width) for part in node.parts(i))
                more = Factors.of(parts, inner, counted=counted)
            else:
                more = Factors(0 if isinstance(node, Join | Copied) else copies, ())
            shift += more.shift
            choices += more.choices
        return Factors(shift, tuple(choices))


class Left(NamedTuple):
    """What is left of a derivation: the probability of every size, and how often an operator
    before it is charged for branches that may repeat its own."""

    sizes: Weights
    ahead: int


class Sizes:
    """The probability of every size up to `most` of the nodes of a grammar.

    Raises ValueError where its rules take endlessly many arguments.
    """

    def __init__(self, root: Node, most: int):
        self.most = most
        self._of: dict[tuple[Decision, int], Weights] = {}
        self._options: dict[tuple[Decision, int], Weights] = {}
        _solve(_reached(root), self._stretched, most)

    def options(self, decision: Decision, copies: int) -> Weights:
        """The probability of every size of each option, (options, most + 1)."""
        key = (decision, copies)
        if key not in self._options:
            ways = (decision.parts(i) for i in range(len(decision.options)))
            self._options[key] = np.stack([self._plus(parts, copies, self._end) for parts in ways])
        return self._options[key]

    def after(self, frame: Frame | None) -> Left:
        """What is left from a frame on."""
        todo: list[Frame] = []
        while frame is not None and "sizes" not in frame.known:
            todo.append(frame)
            frame = frame.next
        left: Left = Left(self._end, 1) if frame is None else frame.known["sizes"]
        for waiting in reversed(todo):
            sizes = self._plus(_nodes(waiting), waiting.copies // left.ahead, left.sizes)
            left = waiting.known["sizes"] = Left(sizes, left.ahead * _twins(waiting))
        return left

    @cached_property
    def _end(self) -> Weights:
        sizes = np.zeros(self.most + 1)
        sizes[0] = 1.0
        return sizes

    def _stretched(self, decision: Decision, copies: int) -> Weights:
        """The probability of every size of a choice that is instantiated `copies` times."""
        sizes = self._of.get((decision, copies))
        if sizes is None:
            sizes = self._of[decision, copies] = np.zeros(self.most + 1)
            if copies > 1:
                once = self._stretched(decision, 1)
                sizes[::copies] = once[: self.most // copies + 1]
        return sizes

    def _plus(self, nodes: Iterable[Node], copies: int, after: Weights) -> Weights:
        """The sizes of some nodes and what comes after them, together."""
        factors = Factors.of(nodes, copies)
        for decision, times in factors.choices:
            after = np.convolve(after, self._stretched(decision, times))[: self.most + 1]
        if factors.shift:
            after = np.concatenate([np.zeros(factors.shift), after])[: self.most + 1]
        return after

    def condition(
        self, waiting: Waiting, offered: Sequence[int], spent: int, size: Interval
    ) -> Options:
        """The options offered at a site, weighted by how likely each makes a derivation that has
        spent so many operators end within an interval; as they are where none can."""
        options = [waiting.decision.options[i] for i in offered]
        rest, ahead = self.after(waiting.frame.next)
        copies = waiting.frame.copies // ahead
        within = self.options(waiting.decision, copies)[list(offered)]
        if waiting.fork is not None:
            rest = self._plus((waiting.fork.node,), copies, rest)
        # ends[k]: how likely the rest ends within the interval after an option of size k
        sums = np.concatenate([[0.0], np.cumsum(rest)])
        sizes = np.arange(self.most + 1) + spent
        ends = sums[np.clip(size.high + 1 - sizes, 0, None)]
        ends -= sums[np.clip(size.low - sizes, 0, None)]
        weights = np.array(probabilities(options)) * (within @ ends)
        total = float(weights.sum())
        if total <= 0:
            return Options(options)
        return Options(
            Option(option.label, float(weight) / total)
            for option, weight in zip(options, weights, strict=True)
        )


def _nodes(frame: Frame) -> Iterable[Node]:
    """What is derived at a frame: at the end of a branch those that wait."""
    bracket, node = frame.bracket, frame.node
    if bracket is None or not isinstance(node, Join):
        return (node,)
    first = node.fork.width - len(bracket.waiting)
    return (part for i in range(first, node.fork.width) for part in node.fork.parts(i))


def _twins(frame: Frame) -> int:
    """How many branches the first is charged for, where a frame is its end."""
    bracket = frame.bracket
    if bracket is None or not bracket.twins or bracket.done:
        return 1
    return 1 + len(bracket.waiting)


def _reached(root: Node) -> dict[Decision, list[Factors]]:
    """Every choice that is met from a node on, and what its options come to."""
    found: dict[Decision, list[Factors]] = {}
    todo = [decision for decision, _ in Factors.of((root,), 1).choices]
    while todo:
        choice = todo.pop()
        if choice in found:
            continue
        if len(found) == MOST_CHOICES:
            raise ValueError("the rules take endlessly many arguments")
        found[choice] = [Factors.of(choice.parts(i), 1) for i in range(len(choice.options))]
        todo += [decision for way in found[choice] for decision, _ in way.choices]
    return found


def _solve(
    ways: dict[Decision, list[Factors]], of: Callable[[Decision, int], Weights], most: int
) -> None:
    """Write the probability of every size of each choice to `of(choice, 1)` and its stretches,
    size by size; what a size needs of itself, through rules that add nothing, by iteration."""
    stretched = {pair for factors in ways.values() for way in factors for pair in way.choices}
    products = {
        id(way): [of(*pair) if k == 0 else np.zeros(most + 1) for k, pair in enumerate(way.choices)]
        for factors in ways.values()
        for way in factors
    }
    shares = {decision: probabilities(decision.options) for decision in ways}
    order = list(reversed(ways))

    def coefficient(way: Factors, size: int) -> float:
        at = size - way.shift
        if at < 0 or not way.choices:
            return float(at == 0)
        chain = products[id(way)]
        for k in range(1, len(chain)):
            chain[k][at] = chain[k - 1][: at + 1] @ of(*way.choices[k])[at::-1]
        return float(chain[-1][at])

    for size in range(most + 1):
        for _ in range(MOST_PASSES):
            moved = 0.0
            for decision in order:
                pairs = zip(shares[decision], ways[decision], strict=True)
                value = sum(share * coefficient(way, size) for share, way in pairs)
                moved = max(moved, abs(value - of(decision, 1)[size]))
                of(decision, 1)[size] = value
                for other, times in stretched:
                    if other is decision and size * times <= most:
                        of(decision, times)[size * times] = value
            if moved < SETTLED:
                break
