"""How a recursive grammar grows: its mean matrix, whether sizes have a mean, what to tighten.

Each choice, with its rule's arguments, is a type of a branching process (Harris 1963, chapter 2):
the mean matrix says to how many of each it leads. By derivation a copied branch counts once, by
instantiation as often as it is copied. Shapes and limits are left out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from nas.grammar.grammar import Grammar, bounded
from nas.grammar.nodes import Decision, Node, Parts
from nas.grammar.options import probabilities
from nas.grammar.sizes import Factors
from nas.grammar.walk import memory_of
from nas.lazy import np

MOST_TYPES = 2_000


@dataclass(frozen=True)
class Growth:
    """`by_derivation` and `by_instantiation` are spectral radii of the mean matrix: below 1 sizes
    have a mean, `size` operators as instantiated; else it is infinite and `tighten` names the
    rule that adds most to it."""

    by_derivation: float
    by_instantiation: float
    size: float
    tighten: str


@bounded
def growth(grammar: Grammar) -> Growth:
    """How a grammar grows. Raises ValueError where its rules take endlessly many arguments."""
    radii, sizes, tighten = {}, {}, ""
    for copies in (False, True):
        types, means = _means(grammar, copies)
        matrix = np.zeros((len(types), len(types)))
        terminals = np.zeros(len(types))
        for i, type_ in enumerate(types):
            for called, mean in means[type_].items():
                if called is None:
                    terminals[i] += mean
                else:
                    matrix[i, types.index(called)] += mean
        cycles, kept = _cycles(matrix)
        loops = np.diag(cycles) if kept else np.zeros(1)
        radii[copies] = float(np.abs(np.linalg.eigvals(cycles)).max()) if kept else 0.0
        sizes[copies] = float("inf")
        if radii[copies] < 1 - 1e-9:
            sizes[copies] = float(np.linalg.solve(np.eye(len(types)) - matrix, terminals)[0])
        else:
            tighten = _rule(types[kept[int(np.argmax(loops))]])
    return Growth(radii[False], radii[True], sizes[True], tighten)


def _cycles(matrix: Any) -> tuple[Any, list[int]]:
    """The mean matrix of the types that lead straight back to themselves once all others are
    written out, and which types these are: what a generation is then does not hang on how many
    rules a grammar is written in."""
    kept = list(range(len(matrix)))
    callers = (matrix > 0).sum(axis=0)
    for t in sorted(kept, key=lambda t: (callers[t], -t)):
        if matrix[t, t] == 0:
            matrix = matrix + np.outer(matrix[:, t], matrix[t])
            kept.remove(t)
    return matrix[np.ix_(kept, kept)], kept


Means = dict[Node | None, float]  # of each type, and under None of operators


def _means(grammar: Grammar, copies: bool) -> tuple[list[Node], dict[Node, Means]]:
    """Every type reached from the start, and to how many of each it leads on average."""
    types, means = [memory_of(grammar).machine.root], dict[Node, Means]()
    for type_ in types:
        if len(types) > MOST_TYPES:
            raise ValueError(f"the rules of {grammar.name} take endlessly many arguments")
        found = means[type_] = defaultdict(float)
        ways: list[tuple[Parts, float]] = [((type_,), 1.0)]
        if isinstance(type_, Decision):
            shares = probabilities(type_.options)
            ways = [(type_.parts(i), share) for i, share in enumerate(shares)]
        for parts, share in ways:
            factors = Factors.of(parts, 1, counted=copies)
            found[None] += share * factors.shift
            for decision, times in factors.choices:
                found[decision] += share * times
        types += [node for node in found if node is not None and node not in types]
    return types, means


def _rule(node: Node) -> str:
    return node.rule if isinstance(node, Decision) else ""
