"""Groups of channels that have one size and one order, however many tensors they run through."""

from __future__ import annotations

from typing import NamedTuple


class Width(NamedTuple):
    """How many channels a value has: those of a group, each so many times in a row."""

    group: int
    times: int = 1


class Groups:
    """A disjoint-set forest over axes of channels: what is added to each other has one width."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._sizes: list[int] = []
        self._reasons: list[str] = []

    def new(self, size: int, pinned: str = "") -> int:
        """A group of its own; pinned where its size must stay, for a reason."""
        self._parents.append(len(self._parents))
        self._sizes.append(size)
        self._reasons.append(pinned)
        return len(self._parents) - 1

    def find(self, group: int) -> int:
        """The number that all members of a group have."""
        while self._parents[group] != group:
            self._parents[group] = self._parents[self._parents[group]]
            group = self._parents[group]
        return group

    def join(self, a: int, b: int) -> int:
        """Make two groups, of one size, one; pinned where either was."""
        a, b = self.find(a), self.find(b)
        if a != b:
            self._parents[b] = a
            self._reasons[a] = self._reasons[a] or self._reasons[b]
        return a

    def pin(self, group: int, why: str) -> None:
        at = self.find(group)
        self._reasons[at] = self._reasons[at] or why

    def size(self, group: int) -> int:
        return self._sizes[self.find(group)]

    def pinned(self, group: int) -> str:
        """Why the size must stay, "" where it need not."""
        return self._reasons[self.find(group)]
