"""One training loop, for supernets, stand-alone training and retraining alike.

A step leases from some weights the tensors that its subnets touch, and updates those alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import cos, isfinite, pi
from typing import Literal, NamedTuple, Protocol
from zlib import crc32

import torch
from torch import Tensor

from nas.grammar import Derivation
from nas.op import BATCH
from nas.optimizer import OPTIMIZERS, Lease
from nas.plan import Plan, plan, run
from nas.task import Task, loss, soft_loss


@dataclass(frozen=True)
class Recipe:
    """How weights are trained: warm-up, then a cosine to zero.

    epochs: passes over the training split (of each task); lr: the peak; momentum: of SGD, or how
    long Adam remembers gradients; warmup: the share of all steps; weight_decay: on weights, never
    on norms and biases; clip: the gradient's largest norm; optimizer: sgd, or adam with decoupled
    decay, which wants an lr of about 0.005.
    """

    epochs: float = 20
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 64
    warmup: float = 0.1
    label_smoothing: float = 0.1
    clip: float = 5.0
    seed: int = 0
    optimizer: Literal["sgd", "adam"] = "sgd"

    def rate(self, step: float, steps: int) -> float:
        """The learning rate of a step of `steps`, or between two."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.lr * min(1.0, (step + 1) / warm)
        return self.lr * 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))

    def steps(self, tasks: Iterable[Task]) -> int:
        """Steps in all the epochs of the largest task."""
        most = max(len(task.splits().train) for task in tasks)
        return max(1, round(self.epochs * max(1, most // self.batch)))

    def lasting(self, steps: int, tasks: Iterable[Task]) -> Recipe:
        """The same for so many steps."""
        return replace(self, epochs=steps / replace(self, epochs=1).steps(tasks))


@dataclass(frozen=True)
class Turn:
    """Who is trained in one step, all on the same weights, before one update.

    teach: the first learns from the labels and teaches the others its logits. batches: all see
    `one` batch, or `each` one of its own. Gradients add up over one batch, as in FairNAS (Chu et
    al. 2019, algorithm 1) and BigNAS: what a single derivation touches moves as in a step of its
    own. Over batches of their own the losses are averaged, as over one larger batch. tasks: the
    names of those that each derivation is trained for, by default all.
    """

    derivations: tuple[Derivation, ...]
    teach: bool = False
    batches: Literal["one", "each"] = "one"
    tasks: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.teach and self.batches == "each":
            raise ValueError("a turn that teaches sees one batch: what is taught are its logits")
        if self.tasks and len(self.tasks) != len(self.derivations):
            raise ValueError("a turn names the tasks of each of its derivations, or of none")
        if self.teach and self.tasks:
            raise ValueError("a turn that teaches trains all its derivations for all tasks")


class StepLosses(NamedTuple):
    """What came of a step: of each derivation the loss of each task, by name and not weighted."""

    by_derivation: tuple[Mapping[str, float], ...]

    @property
    def first(self) -> float:
        """The first derivation's, summed over its tasks."""
        return sum(self.by_derivation[0].values())


class TrainingError(RuntimeError):
    """Training that cannot go on: a loss that is no number, for one."""


class StepError(TrainingError):
    """A training step that failed and changed nothing: which, on which derivation, and why."""

    def __init__(self, step: int, derivation: str, reason: str):
        super().__init__(step, derivation, reason)
        self.step, self.derivation, self.reason = step, derivation, reason

    def __str__(self) -> str:
        return f"step {self.step} failed: {self.reason}"


@contextmanager
def _blamed(step: int, derivation: Derivation) -> Iterator[None]:
    try:
        yield
    except TrainingError as error:
        raise StepError(step, str(derivation), str(error)) from None
    except Exception as error:  # of an operator of the user's, whatever it raises
        reason = f"{type(error).__name__}: {error}"
        raise StepError(step, str(derivation), reason) from error


@contextmanager
def chance(*parts: object) -> Iterator[None]:
    """Inside, torch's random numbers follow from these parts alone; outside they are as before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(crc32("/".join(map(str, parts)).encode()))
        yield


class Weights(Protocol):
    """What can be trained: it leases the tensors of some plans."""

    def lease(self, plans: Sequence[Plan]) -> Lease: ...


def update(lease: Lease, recipe: Recipe, rate: float) -> None:
    """One step of the recipe's optimizer on the leased elements; everything else stays as it is,
    bit by bit. Raises TrainingError, before anything moves, where a gradient is not finite."""
    used = [i for i, leaf in enumerate(lease.leaves) if leaf.grad is not None]
    values, states = [lease.values[i] for i in used], [lease.states[i] for i in used]
    optimizer = OPTIMIZERS[recipe.optimizer]
    with torch.no_grad():
        grads = [grad for leaf in lease.leaves if (grad := leaf.grad) is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if not isfinite(float(norm)):
            raise TrainingError("a gradient is not finite")
        if recipe.clip:
            torch.nn.utils.clip_grads_with_norm_([lease.leaves[i] for i in used], recipe.clip, norm)
        moving = [(values[k], *states[k].values()) for k in range(len(used))]
        masked = [
            (mask, part, part.clone())
            for k, i in enumerate(used)
            if (mask := lease.masks[i]) is not None
            for part in moving[k]
        ]
        optimizer.move(
            values,
            grads,
            {name: [state[name] for state in states] for name in optimizer.state},
            [k for k, i in enumerate(used) if lease.decays[i]],
            rate,
            recipe.momentum,
            recipe.weight_decay,
        )
        for mask, part, before in masked:
            part.copy_(torch.where(mask, part, before))


def groups(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks whose inputs are the same, sample by sample, together."""
    grouped: dict[str, list[Task]] = {}
    for task in tasks:
        grouped.setdefault(task.splits().content, []).append(task)
    return list(grouped.values())


class Batches:
    """Indices of a training split by step: a new permutation each epoch, from the seed alone."""

    def __init__(self, size: int, batch: int, seed: int):
        self.size, self.batch, self.seed = size, min(batch, size), seed
        self.epoch, self.order = -1, torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> Tensor:
        in_epoch = self.size // self.batch
        epoch, place = divmod(step, in_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self.order = torch.randperm(self.size, generator=generator)
            self.epoch = epoch
        return self.order[place * self.batch : (place + 1) * self.batch]


class Trainer:
    """Runs training steps on some weights.

    Where tasks have inputs of their own, a batch holds some of each: the network is one, and so are
    the statistics that it normalises by, in training as in use. In a turn that teaches, the others
    learn the first's logits alone (in-place distillation, Yu et al. 2020, BigNAS, section 3).
    """

    def __init__(
        self,
        weights: Weights,
        tasks: Sequence[Task],
        recipe: Recipe,
        steps: int,
        device: str = "cpu",
    ):
        self.weights, self.recipe, self.steps = weights, recipe, steps
        self.device = torch.device(device)
        self.tasks, self.groups = list(tasks), groups(tasks)
        self.batches = [
            Batches(len(group[0].splits().train), recipe.batch, recipe.seed)
            for group in self.groups
        ]

    def step(self, step: int, turn: Turn, place: float | None = None) -> StepLosses:
        """Train one step on the turn's (derivation, tasks) pairs.

        place: where in the schedule it is, in steps, if not at its number. Raises StepError where
        a network raises something, or a loss or gradient is no finite number; the weights are then
        as before.
        """
        trained = [
            [task for task in self.tasks if not turn.tasks or task.name in turn.tasks[number]]
            for number in range(len(turn.derivations))
        ]
        plans = [
            plan(derivation, heads=tasks)
            for derivation, tasks in zip(turn.derivations, trained, strict=True)
        ]
        lease = self.weights.lease(plans)
        teacher: Mapping[str, Tensor] = {}
        losses: list[dict[str, float]] = []
        own = turn.batches == "each"
        with chance(self.recipe.seed, step):
            for number, (subnet, params) in enumerate(zip(plans, lease.params, strict=True)):
                batch = step * len(plans) + number if own else step
                with _blamed(step, turn.derivations[number]):
                    logits, by_task = self._losses(batch, subnet, params, teacher, trained[number])
                    if turn.teach and number == 0:
                        teacher = {name: value.detach() for name, value in logits.items()}
                    losses.append({name: float(v.detach()) for name, v in by_task.items()})
                    if not all(map(isfinite, losses[-1].values())):
                        value = sum(losses[-1].values())
                        raise TrainingError(f"the loss is {value}: lower the learning rate?")
                    total = torch.stack(
                        [task.weight * by_task[task.name] for task in trained[number]]
                    ).sum()
                    (total / len(plans) if own else total).backward()
        with _blamed(step, turn.derivations[0]):
            rate = self.recipe.rate(step if place is None else place, self.steps)
            update(lease, self.recipe, rate)
        return StepLosses(tuple(losses))

    def _losses(
        self,
        batch: int,
        subnet: Plan,
        params: list[dict[str, Tensor]],
        teacher: Mapping[str, Tensor],
        tasks: Sequence[Task],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each task's logits of its own inputs, and its loss."""
        places = [batches.at(batch) for batches in self.batches]
        inputs = [
            group[0].splits().train.x_at(at, self.device)
            for group, at in zip(self.groups, places, strict=True)
        ]
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
        mixed = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed):
            results = run(subnet, params, x, BATCH)
        logits, losses = dict[str, Tensor](), dict[str, Tensor]()
        names = {task.name for task in tasks}
        first = 0
        for group, at in zip(self.groups, places, strict=True):
            for task in (task for task in group if task.name in names):
                answers = logits[task.name] = results[task.name][first : first + len(at)].float()
                if teacher:
                    losses[task.name] = soft_loss(task, answers, teacher[task.name])
                else:
                    y = task.splits().train.y_at(at, self.device)
                    smoothing = self.recipe.label_smoothing
                    losses[task.name] = loss(task, answers, y, label_smoothing=smoothing)
            first += len(at)
        return logits, losses


def train(
    trainer: Trainer,
    turn: Callable[[int], Turn],
    *,
    start: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train from step `start` to the trainer's last; `turn` says who is trained at a step,
    `on_step` hears of each finished step (the number of steps done, its loss)."""
    for step in range(start, trainer.steps):
        losses = trainer.step(step, turn(step))
        if on_step:
            on_step(step + 1, losses.first)
