"""The operators of a module as terms: one after another, and branches that are joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import networkx as nx

from nas.around.error import UnreadError
from nas.around.reading import Applied, Reading


@dataclass(frozen=True)
class Split:
    """A value that several branches read, and the operator that joins their results."""

    branches: tuple[tuple[Term, ...], ...]
    join: Applied


Term: TypeAlias = Applied | Split


def terms_of(reading: Reading) -> tuple[Term, ...]:
    """All operators from the source to the result, series-parallel. Raises UnreadError naming
    where they are not."""
    graph = nx.DiGraph()
    graph.add_node(reading.source)
    for applied in reading.applied:
        graph.add_edges_from((value, applied.output) for value in applied.inputs)
    makers = {applied.output: applied for applied in reading.applied}
    read = nx.ancestors(graph, reading.result) | {reading.result}
    return _Terms(graph.subgraph(read), makers).between(reading.source, reading.result, read)


class _Terms:
    def __init__(self, graph: nx.DiGraph, makers: dict[int, Applied]):
        self.graph, self.makers = graph, makers

    def between(self, start: int, end: int, among: set[int]) -> tuple[Term, ...]:
        """The terms that lead from a value to another, through values of a set."""
        terms, value = list[Term](), start
        backwards = self.graph.subgraph(among | {start}).reverse()
        meets = nx.immediate_dominators(backwards, end) if end in backwards else {}
        while value != end:
            following = [v for v in self.graph.successors(value) if v in among]
            if len(following) == 1 and len(self.makers[following[0]].inputs) == 1:
                terms.append(self.makers[following[0]])
                value = following[0]
                continue
            meeting = meets.get(value)
            if meeting is None or meeting == value:
                raise UnreadError(f"{self._place(value)}: what it gives leads nowhere")
            terms.append(self._split(value, meeting, among))
            value = meeting
        return tuple(terms)

    def _split(self, start: int, meeting: int, among: set[int]) -> Split:
        """The branches from a value to the operator at which all meet again."""
        join, below = self.makers[meeting], nx.descendants(self.graph, start)
        branches, taken = list[tuple[Term, ...]](), set[int]()
        for value in join.inputs:
            own = ({value} | nx.ancestors(self.graph, value)) & below & among
            if value == start:
                own = set()
            if own & taken:
                raise UnreadError(
                    f"{join.path or join.operator}: the branches that are joined here share "
                    f"operators ({self._place(min(own & taken))}), which brackets cannot say"
                )
            taken |= own
            branches.append(self.between(start, value, own))
        lost = (below & nx.ancestors(self.graph, meeting) & among) - taken
        if lost or join.operator not in ("add", "multiply", "concat"):
            raise UnreadError(f"{join.path or join.operator}: branches meet in {join.operator}")
        return Split(tuple(branches), join)

    def _place(self, value: int) -> str:
        maker = self.makers.get(value)
        return "the input" if maker is None else maker.path or maker.operator


def in_order(terms: Sequence[Term]) -> Iterator[Applied]:
    """Every operator in the order in which a plan has them."""
    for term in terms:
        if isinstance(term, Split):
            for branch in term.branches:
                yield from in_order(branch)
            yield term.join
        else:
            yield term
