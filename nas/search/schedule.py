"""Where in its schedule a training is, by its steps or by the clock."""

from __future__ import annotations

import time
from array import array
from pathlib import Path


class Schedule:
    """The place of each step in a schedule of so many steps: its number, or, where there are
    `seconds`, the share of them that is gone if that is more. It is over at `until`, by
    `time.perf_counter`, whatever was done. So training ends in time on a machine
    that became slower, and with the learning rate that it should end with.

    Places by the clock are written down as they are taken: a training that is resumed repeats them.
    """

    def __init__(self, path: Path, steps: int, seconds: float | None, until: float = float("inf")):
        self.path, self.steps, self.seconds, self.until = path, steps, seconds, until
        self.known = array("d")
        if seconds is not None and path.exists():
            data = path.read_bytes()
            self.known.frombytes(data[: len(data) // 8 * 8])
        self.begun = time.perf_counter() - self.share * (seconds or 0.0)

    @property
    def share(self) -> float:
        """The share of the time that was gone at the last step."""
        return min(1.0, self.known[-1] / self.steps) if self.known and self.steps else 0.0

    def at(self, step: int) -> float | None:
        """The place of a step, in steps; None where training is over. Ask for each in turn."""
        if self.seconds is None:
            return step if step < self.steps else None
        if step < len(self.known):
            place = self.known[step]
        else:
            gone = (time.perf_counter() - self.begun) / max(self.seconds, 1e-9)
            due = gone * self.steps
            place = due if due >= step + 1 else float(step)  # in time, it is as without a clock
            if time.perf_counter() >= self.until:
                place = float(self.steps)
            new = array("d", [place] * (step + 1 - len(self.known)))  # more than one after a loss
            self.known.extend(new)
            with self.path.open("ab") as file:
                file.write(new.tobytes())
        return place if place < self.steps else None
