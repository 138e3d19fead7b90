"""How samples are to be read, where that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nas.task.decode import Fit
from nas.task.error import TaskError
from nas.task.spectrum import Features

LEAST, MOST = 4, 4096  # pixels of a side


@dataclass(frozen=True)
class Options:
    """What a source is asked for.

    input, target: which of its arrays or columns is x, and which y, or of pictures class or masks;
    without: columns that are left out; config: of a data set on the hub; size: (height, width) of
    pictures; fit: how they come to it; skip_corrupt: whether files that cannot be read are left
    out; rate, seconds: of recordings, samples a second and length, 0 for what is usual; trim:
    whether silence around them is left out; features, bands: what becomes of them; trials: a file
    of pairs of them that are compared.
    """

    input: str = ""
    target: str = ""
    without: tuple[str, ...] = ()
    config: str = ""
    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    skip_corrupt: bool = False
    rate: int = 0
    seconds: float = 0
    trim: bool = False
    features: Features = "log-mel"
    bands: int = 0
    trials: str = ""

    def __post_init__(self) -> None:
        if self.size is not None and not all(LEAST <= side <= MOST for side in self.size):
            raise TaskError(
                f"size {self.size}: a picture's sides are between {LEAST} and {MOST} pixels"
            )

    def refuse(self, where: str, *but: str) -> None:
        """Raise TaskError where something is asked for that this source has no use for."""
        usual = Options()
        asked = [f.name for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)]
        if wrong := [name for name in asked if name not in but]:
            known = f"it may be asked for {', '.join(but)} alone" if but else "leave it out"
            raise TaskError(f"{where}: {' and '.join(wrong)} cannot be asked of it; {known}")
