"""`Network`: a plan with parameters of its own, as a plain torch module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas.grammar import Derivation
from nas.grammar.derivation import Input
from nas.op import Phase
from nas.plan import Plan, plan, run
from nas.plan.initial import initial

if TYPE_CHECKING:
    from nas.task import Task


LISTED = 200  # steps at most that a notebook shows


class Network(nn.Module):
    """A derivation as a module with its own parameters and running statistics.

    forward takes x (batch, *input) and gives a dict: the logits of each task where `heads` are
    tasks, the trunk's named outputs otherwise. The state dict's names are `step.parameter`.
    """

    def __init__(
        self,
        derivation: Derivation,
        input: Input | None = None,
        heads: Iterable[Task] | None = None,
        *,
        seed: int = 0,
    ):
        super().__init__()
        self.derivation = derivation
        self.plan: Plan = plan(derivation, input, heads)
        for step in self.plan.steps:
            for param in step.params:
                value = initial(param, f"{step.slot}.{param.name}", seed)
                self._place(step.name, param.name, nn.Parameter(value))
            for name in step.operator.statistics:
                value = torch.full((step.shapes[0].channels,), float(name.endswith("var")))
                self._place(step.name, name, value)
        self._homes = [
            [
                (name, *self._home(step.name, name))
                for name in (*(p.name for p in step.params), *step.operator.statistics)
            ]
            for step in self.plan.steps
        ]

    def _place(self, step: str, name: str, value: Tensor) -> None:
        module: nn.Module = self
        *parents, last = [step, *name.split(".")]
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        if isinstance(value, nn.Parameter):
            module.register_parameter(last, value)
        else:
            module.register_buffer(last, value)

    def _home(self, step: str, name: str) -> tuple[nn.Module, str]:
        *parents, last = [step, *name.split(".")]
        return self.get_submodule(".".join(parents)), last

    def tensors(self) -> list[Mapping[str, Tensor]]:
        """For each step of the plan its tensors by local name."""
        return [
            {name: getattr(module, last) for name, module, last in step} for step in self._homes
        ]

    def only(self, task: Task) -> Network:
        """A network of its own with what one of its tasks takes of this one, in eval mode."""
        part = Network(self.derivation, self.plan.input, [task])
        held = dict(zip((step.name for step in self.plan.steps), self.tensors(), strict=True))
        steps = self.plan.only(task.name).steps
        with torch.no_grad():
            for step, tensors in zip(steps, part.tensors(), strict=True):
                for name, tensor in tensors.items():
                    tensor.copy_(held[step.name][name])
        return part.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return run(self.plan, self.tensors(), x, Phase(training=self.training))

    @property
    def params(self) -> int:
        return self.plan.params

    def _repr_html_(self) -> str:
        """The steps as a table, in a notebook."""
        import pandas as pd

        plan = self.plan
        rows = [
            (
                step.name,
                step.operator.name,
                str(plan.shapes[step.outputs[0]]),
                sum(prod(p.shape) for p in step.params),
                step.flops,
            )
            for step in plan.steps
        ]
        heads = ["step", "operator", "gives", "params", "FLOPs"]
        table = pd.DataFrame(rows, columns=heads).to_html(index=False, max_rows=LISTED)
        return f"<p><code>{escape(self.extra_repr())}</code></p>{table}"

    def extra_repr(self) -> str:
        return f"{self.derivation}, {self.plan.params:,} params, {self.plan.flops:,} FLOPs"
