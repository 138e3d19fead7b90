"""How samples are to be read, where that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass

from nas.task.decode import Fit
from nas.task.error import TaskError

LEAST, MOST = 4, 4096  # pixels of a side


@dataclass(frozen=True)
class Options:
    """What a source is asked for. size: (height, width) of pictures; fit: how they come to it;
    skip_corrupt: whether files that cannot be read are left out."""

    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and not all(LEAST <= side <= MOST for side in self.size):
            raise TaskError(
                f"size {self.size}: a picture's sides are between {LEAST} and {MOST} pixels"
            )

    def refuse(self, where: str) -> None:
        """Raise TaskError where something is asked for that this source has no use for."""
        if self != Options():
            raise TaskError(
                f"{where}: size, fit and skip_corrupt are for pictures in folders, and these are "
                "arrays already: leave them out, or resize the arrays"
            )
