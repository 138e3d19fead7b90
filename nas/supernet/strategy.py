"""`Strategy`: who is trained at each step, and what it learns from what came of its turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from nas.journal import JSON
from nas.train import StepLosses, Turn

Choice = Callable[[int, random.Random], Turn]
Preference = Mapping[str, Mapping[str, float]]  # of each label at each site, its probability


class Strategy:
    """Who is trained at a step; one without memory is a function of the step and its stream."""

    def __init__(self, turn: Choice):
        self.turn = turn

    def __call__(self, step: int, rng: random.Random) -> Turn:
        """The turn of a step; the same whenever it is asked for with the same stream and state."""
        return self.turn(step, rng)

    def hear(self, step: int, turn: Turn, losses: StepLosses) -> None:
        """Told of every turn that was trained, in order, and of each derivation's loss by task."""

    def state(self) -> dict[str, JSON]:
        """What to keep with a checkpoint of the weights."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was kept."""

    def preferences(self) -> Mapping[str, Preference]:
        """What it learned for each task, {} where it learns nothing."""
        return {}
