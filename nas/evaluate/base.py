"""What every evaluator answers: what it needs, at what fidelity it measures, and how."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from nas.archive import Measurement
from nas.grammar import Derivation
from nas.supernet import Bank, Parent
from nas.supernet.inherit import Origin
from nas.task import Task
from nas.train import Recipe

if TYPE_CHECKING:
    from nas.network import Network

SplitName = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Fidelity:
    """How much training a figure rests on; None is none of that kind. Only figures of the same
    fidelity can be compared. It prints as a measurement holds it, and reads back."""

    epochs: float | None = None  # of an architecture's own, over the training split
    steps: int | None = None  # the same in steps
    supernet_steps: int | None = None  # that the shared weights had seen

    def __str__(self) -> str:
        if self.supernet_steps is not None:
            alone = "" if self.steps is None else f" and {self.steps} alone"
            return f"{self.supernet_steps} supernet steps{alone}"
        if self.steps is not None:
            return f"{self.steps} steps"
        return "" if self.epochs is None else f"{self.epochs:g} epochs"

    @staticmethod
    def read(text: str) -> Fidelity:
        """The fidelity printed as `text`; raises ValueError where it is none."""
        if shared := re.fullmatch(r"(\d+) supernet steps(?: and (\d+) alone)?", text):
            alone = None if shared[2] is None else int(shared[2])
            return Fidelity(steps=alone, supernet_steps=int(shared[1]))
        if steps := re.fullmatch(r"(\d+) steps", text):
            return Fidelity(steps=int(steps[1]))
        if epochs := re.fullmatch(r"(\S+) epochs", text):
            return Fidelity(epochs=float(epochs[1]))
        if text:
            raise ValueError(f"{text!r} is no fidelity: write 4 epochs, 80 steps or the like")
        return Fidelity()


@dataclass(frozen=True)
class Conditions:
    """Under which architectures are measured.

    recipe: of training alone. bank: trained shared weights, for evaluators that need them; gentle:
    the recipe by which a subnet of them is trained on alone. samples: training inputs for batch
    statistics. parents, origin: whose weights an architecture goes on from, for `going_on` epochs,
    and which of its parts continue which of theirs. limit_s: the longest a training may take.
    """

    tasks: Sequence[Task]
    recipe: Recipe = field(default_factory=Recipe)
    bank: Bank | None = None
    gentle: Recipe = field(default_factory=Recipe)
    short_steps: int = 80
    finetune_steps: int = 20
    samples: int = 256
    seed: int = 0
    device: str = "cpu"
    limit_s: float | None = None
    split: SplitName = "valid"
    parents: Sequence[Parent] = ()
    origin: Origin = lambda path: None
    going_on: float = 1.0
    runtime: str = "torch"  # what runs networks that are scored
    supernet_steps: int | None = None  # that the bank's weights have seen, where it is not at hand


class Evaluated(NamedTuple):
    """Each task's metrics and the costs, or of a baseline its one figure; the weights that
    children may go on from, where they were trained for that; and the training loss of an
    architecture that was trained alone, at equal distances from its first step to its last."""

    measurements: list[Measurement]
    weights: Bank | None = None
    losses: tuple[float, ...] = ()


class Evaluator(ABC):
    """How good an architecture is. One record a kind, without state."""

    name: ClassVar[str]
    words: ClassVar[str]  # for a person: "shared weights"
    means: ClassVar[str]  # how its figures come about, in a sentence
    needs_bank: ClassVar[bool] = False
    trains: ClassVar[bool] = True  # what trains nothing is a baseline, which ranks by its own name
    begins: ClassVar[bool] = True  # whether a search may begin with it
    keeps: ClassVar[bool] = False  # whether the network that was measured can be had again

    @property
    def alone(self) -> bool:
        """Whether each architecture is trained with weights of its own."""
        return self.trains and not self.needs_bank

    def fidelity(self, conditions: Conditions) -> Fidelity:
        """How much training its figures rest on."""
        return Fidelity()

    @abstractmethod
    def measure(self, derivation: Derivation, conditions: Conditions) -> Evaluated:
        """Measure an architecture. Raises TrainingError where a loss is no number, or training
        takes longer than the limit."""

    def network(self, derivation: Derivation, conditions: Conditions) -> Network:
        """The network that was measured, in eval mode; a fresh one where none is kept."""
        from nas.network import Network

        network = Network(derivation, heads=conditions.tasks, seed=conditions.seed)
        return network.eval()
