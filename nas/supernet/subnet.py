"""`Subnet`: a pure function of (bank, derivation, statistics)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.grammar import Derivation
from nas.lazy import torch
from nas.op import EVAL, Phase
from nas.plan import Plan, plan, run
from nas.supernet.bank import Bank
from nas.supernet.statistics import Statistics, batch_statistics
from nas.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from nas.network import Network


@dataclass(frozen=True)
class Subnet:
    """Views of a bank that a derivation's plan runs on, with statistics of its own."""

    bank: Bank
    derivation: Derivation
    plan: Plan
    statistics: Statistics

    @staticmethod
    def of(
        bank: Bank, derivation: Derivation, tasks: list[Task] | None, x: Tensor, *, batch: int = 128
    ) -> Subnet:
        """The subnet of a derivation, its statistics computed on x (n, *input)."""
        planned = plan(derivation, heads=tasks)
        return Subnet(
            bank,
            derivation,
            planned,
            batch_statistics(planned, bank.views(planned), x, batch=batch),
        )

    @property
    def tensors(self) -> list[Mapping[str, Tensor]]:
        views = self.bank.views(self.plan)
        return [{**v, **s} for v, s in zip(views, self.statistics, strict=True)]

    def __call__(self, x: Tensor, phase: Phase = EVAL) -> dict[str, Tensor]:
        """Results by name for x (batch, *input)."""
        return run(self.plan, self.tensors, x, phase)

    def extract(self, tasks: list[Task] | None) -> Network:
        """The same tensors, copied into a module of their own, in eval mode."""
        from nas.network import Network

        network = Network(self.derivation, heads=tasks)
        with torch.no_grad():
            for theirs, ours in zip(self.tensors, network.tensors(), strict=True):
                for name, value in theirs.items():
                    ours[name].copy_(value)
        return network.eval()
