"""Groups of channels that have one size and one order, however many tensors they run through."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._parts: dict[int, tuple[Width, ...]] = {}  # of channels that were joined in a row

    def new(self, size: int, pinned: str = "") -> int:
        """A group of its own; pinned where its size must stay, for a reason."""
        self._parents.append(len(self._parents))
        self._sizes.append(size)
        self._reasons.append(pinned)
        return len(self._parents) - 1

    def joined(self, widths: Sequence[Width]) -> int:
        """A group of its own for channels of several in a row."""
        parts = [part for width in widths for part in self._each(width)]
        group = self.new(sum(part.times * self.size(part.group) for part in parts))
        self._parts[group] = tuple(parts)
        return group

    def _each(self, width: Width) -> Sequence[Width]:
        parts = self.parts(width.group)
        if not parts:
            return [width]
        if width.times > 1:  # each of several in a row
            self.pin(width.group, "what joins it repeats its channels")
            return [width]
        return parts

    def parts(self, group: int) -> tuple[Width, ...]:
        """Whose channels a group's are, in a row; () where they are its own."""
        return self._parts.get(self.find(group), ())

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
            for group in (a, b) if a in self._parts or b in self._parts else ():
                self.pin(group, "it is added to channels that were joined")
                self._parts.pop(group, None)
            self._parents[b] = a
            self._reasons[a] = self._reasons[a] or self._reasons[b]
        return a

    def pin(self, group: int, why: str) -> None:
        at = self.find(group)
        self._reasons[at] = self._reasons[at] or why
        for part in self._parts.get(at, ()):
            self.pin(part.group, why)

    def size(self, group: int) -> int:
        return self._sizes[self.find(group)]

    def pinned(self, group: int) -> str:
        """Why the size must stay, "" where it need not."""
        return self._reasons[self.find(group)]
