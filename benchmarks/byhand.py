"""What a search is held against: networks made by hand, trained in plain torch by the same recipe.

Beside them, what the search found: members of its front spread over FLOPs, trained in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log

import measure  # noqa: F401 - puts the checkout on the path
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nas.archive import Trial
from nas.evaluate import Conditions, Fidelity, network_scores
from nas.evaluate import fit as fit_derivation
from nas.network import Network
from nas.search import Run
from nas.task import TARGETS, Task, loss, score
from nas.task.augment import Batch, augmented
from nas.train import Recipe


def conv(inputs: int, out: int, stride: int = 1) -> nn.Sequential:
    """A convolution of kernel 3 with its norm and activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )


class Classifier(nn.Module):
    """Five convolutions, two of stride 2 and of large pictures the first too, global pooling,
    linear."""

    def __init__(self, task: Task, width: int):
        super().__init__()
        w, self.task = width, task.name
        self.trunk = nn.Sequential(
            conv(task.input[0], w, 1 if task.input[1] <= 32 else 2),
            conv(w, 2 * w, 2),
            conv(2 * w, 2 * w),
            conv(2 * w, 4 * w, 2),
            conv(4 * w, 4 * w),
        )
        self.head = nn.Linear(4 * w, len(task.classes))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {self.task: self.head(self.trunk(x).mean((2, 3)))}


class Scenes(nn.Module):
    """Levels at 1/2, 1/4 and 1/8 of the input, two convolutions each, and two heads.

    Labels: the last level pooled, linear. Pixels: 1×1 on each level, upsampled and added, norm,
    activation, 1×1, bilinear to the input's size.
    """

    def __init__(self, labels: Task, pixels: Task, width: int, lateral: int = 32):
        super().__init__()
        self.names = labels.name, pixels.name
        widths = [width, 2 * width, 4 * width]
        before = [labels.input[0], *widths]
        self.levels = nn.ModuleList(
            nn.Sequential(conv(a, b, 2), conv(b, b)) for a, b in zip(before, widths, strict=False)
        )
        self.head = nn.Linear(widths[-1], len(labels.classes))
        self.laterals = nn.ModuleList(nn.Conv2d(w, lateral, 1, bias=False) for w in widths)
        self.norm = nn.BatchNorm2d(lateral)
        self.pixels = nn.Conv2d(lateral, len(pixels.classes), 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size, found = x.shape[2:], []
        for level in self.levels:
            x = level(x)
            found.append(x)
        fine, *rest = [one(y) for one, y in zip(self.laterals, found, strict=True)]
        for y in rest:
            fine = fine + F.interpolate(y, fine.shape[2:])
        logits = self.pixels(F.relu(self.norm(fine)))
        return {
            self.names[0]: self.head(x.mean((2, 3))),
            self.names[1]: F.interpolate(logits, size, mode="bilinear"),
        }


def costs(make: Callable[[], nn.Module], input: Sequence[int]) -> tuple[int, int]:
    """(params, FLOPs for a batch of one) of the network that `make` makes, by torch's counter."""
    with torch.device("meta"), torch.no_grad():
        model, x = make().eval(), torch.zeros((1, *input))
        with FlopCounterMode(display=False) as counted:
            model(x)
    return sum(p.numel() for p in model.parameters()), counted.get_total_flops()


def of_flops(make: Callable[[int], nn.Module], input: Sequence[int], flops: float) -> int:
    """The width whose network's FLOPs come nearest to `flops`, from 2 to 96."""
    low, high = 2, 96
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(make, middle, input) <= flops else (low, middle)
    return min(low, high, key=lambda width: abs(cost(make, width, input) - flops))


def cost(make: Callable[[int], nn.Module], width: int, input: Sequence[int]) -> int:
    return costs(lambda: make(width), input)[1]


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with momentum as the recipe says; weight decay on weights, never on norms and biases."""
    params = list(model.named_parameters())
    decayed = [p for name, p in params if p.ndim > 1]
    others = [p for name, p in params if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others}]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


def step(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    tasks: Sequence[Task],
    at: Tensor,
    recipe: Recipe,
    rate: float,
) -> float:
    """One training step on the samples `at`, which all tasks share; its loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    y = {task.name: task.splits().train.y[at] for task in tasks}
    batch = Batch(tasks[0].splits().train.x[at], y)
    if recipe.augment:
        dense = [task.name for task in tasks if TARGETS[task.target].dense]
        batch = augmented(batch, tasks[0].augmentation, tasks[0].preparation, dense)
    logits = model(batch.x)
    total = torch.zeros(())
    for task in tasks:
        smoothing = recipe.label_smoothing
        value = loss(task, logits[task.name], batch.y[task.name], label_smoothing=smoothing)
        total = total + value
    optimizer.zero_grad()
    total.backward()
    if recipe.clip:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    return float(total.detach())


def fit(model: nn.Module, tasks: Sequence[Task], recipe: Recipe) -> nn.Module:
    """Train a model by a recipe, as many steps as nas would; in eval mode after."""
    model.train()
    sgd, steps, size = optimizer(model, recipe), recipe.steps(tasks), len(tasks[0].splits().train)
    generator = torch.Generator().manual_seed(recipe.seed)
    order = torch.empty(0, dtype=torch.long)
    for number in range(steps):
        if len(order) < recipe.batch:
            order = torch.randperm(size, generator=generator)
        at, order = order[: recipe.batch], order[recipe.batch :]
        step(model, sgd, tasks, at, recipe, recipe.rate(number, steps))
    return model.eval()


def test(model: nn.Module, tasks: Sequence[Task]) -> dict[str, float]:
    """Every task's primary metric on its test split."""
    with torch.inference_mode():
        parts = [model(x) for x in tasks[0].splits().test.x.split(512)]
    logits = {task.name: torch.cat([part[task.name] for part in parts]) for task in tasks}
    return {
        task.name: score(task, logits[task.name], task.splits().test.y)[task.metric]
        for task in tasks
    }


def spread(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most so many trials, evenly in log FLOPs from the least to the most."""
    ordered = sorted(trials, key=lambda trial: trial.value("flops") or 0.0)
    places = [log(trial.value("flops") or 1.0) for trial in ordered]
    each = (places[-1] - places[0]) / max(1, most - 1)
    chosen = {
        min(range(len(places)), key=lambda i: abs(places[i] - places[0] - each * k))
        for k in range(most)
    }
    return [ordered[i] for i in sorted(chosen)]


def best_within(trials: Sequence[Trial], columns: Sequence[str], budgets: int) -> list[Trial]:
    """For budgets evenly in log FLOPs up to the most, the trial within each whose columns, scaled
    by their range, sum highest."""
    flops = {trial.id: trial.value("flops") or 1.0 for trial in trials}
    lows = {name: min(trial.value(name) or 0.0 for trial in trials) for name in columns}
    highs = {name: max(trial.value(name) or 0.0 for trial in trials) for name in columns}

    def worth(trial: Trial) -> float:
        return sum(
            ((trial.value(name) or 0.0) - lows[name]) / ((highs[name] - lows[name]) or 1.0)
            for name in columns
        )

    least, most = log(min(flops.values())), log(max(flops.values()))
    chosen = {}
    for k in range(1, budgets + 1):
        budget = exp(least + (most - least) * k / budgets) * (1 + 1e-9)
        best = max((t for t in trials if flops[t.id] <= budget), key=worth)
        chosen[best.id] = best
    return sorted(chosen.values(), key=lambda trial: flops[trial.id])


def from_scratch(run: Run, id: str, recipe: Recipe, tasks: Sequence[Task] = ()) -> dict[str, float]:
    """A trial's architecture trained from fresh weights; each task's metric on its test split."""
    tasks = tasks or run.tasks
    return _tested(fit_derivation(run.derivation(id), Conditions(tasks, recipe)), tasks, recipe)


def _tested(network: Network, tasks: Sequence[Task], recipe: Recipe) -> dict[str, float]:
    conditions, fidelity = Conditions(tasks, recipe, split="test"), Fidelity(epochs=recipe.epochs)
    found = network_scores(network, conditions, evaluator="retrained", fidelity=fidelity)
    primary = {(task.name, task.metric) for task in tasks}
    return {m.task: m.value for m in found if m.task and (m.task, m.name) in primary}
