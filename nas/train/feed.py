"""What a training step sees: batches of tasks by number, on the device, augmented."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from nas.lazy import torch
from nas.task import TARGETS, Task
from nas.task.augment import Batch, agreed, augmented
from nas.train.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


def groups(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks whose inputs are the same, sample by sample, together."""
    grouped: dict[str, list[Task]] = {}
    for task in tasks:
        grouped.setdefault(task.splits().content, []).append(task)
    return list(grouped.values())


class Batches:
    """Indices of a training split by step: a new permutation each epoch, from the seed alone; or,
    with the weights of samples, as many drawn by them."""

    def __init__(self, size: int, batch: int, seed: int, weights: Tensor | None = None):
        self.size, self.batch, self.seed = size, min(batch, size), seed
        self.weights, self.epoch, self.order = weights, -1, torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> Tensor:
        in_epoch = self.size // self.batch
        epoch, place = divmod(step, in_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            if self.weights is None:
                self.order = torch.randperm(self.size, generator=generator)
            else:
                self.order = torch.multinomial(
                    self.weights, self.size, replacement=True, generator=generator
                )
            self.epoch = epoch
        return self.order[place * self.batch : (place + 1) * self.batch]


class Feed:
    """Batches by number. On an accelerator (or if `ahead`) the next is read while one is used.

    Augmentation is drawn from torch's random numbers, which are the caller's.
    """

    def __init__(
        self, tasks: Sequence[Task], recipe: Recipe, device: torch.device, ahead: bool | None = None
    ):
        self.groups, self.device = groups(tasks), device
        self.batches = [_batches(group, recipe) for group in self.groups]
        self.names = [
            agreed({task.name: task.augmentation for task in group}) if recipe.augment else ()
            for group in self.groups
        ]
        ahead = device.type != "cpu" if ahead is None else ahead
        self.held = [_held(group, recipe) for group in self.groups]
        self.reader = ThreadPoolExecutor(1, "nas-reader") if ahead else None
        self.next: tuple[int, Future[list[Batch]]] | None = None

    def batch(self, number: int, after: int) -> list[Batch]:
        """One for each group of tasks; `after` is the number that is asked for next."""
        if self.next and self.next[0] == number:
            batches = self.next[1].result()
        else:
            batches = self._read(number, self.batches, "train")
        if self.reader:
            self.next = after, self.reader.submit(self._read, after, self.batches, "train")
        return [
            self._augmented(batch, group, names) if names else batch
            for batch, group, names in zip(batches, self.groups, self.names, strict=True)
        ]

    def held_out(self, number: int) -> list[Batch]:
        """A batch of the validation split for each group of tasks, as it is."""
        return self._read(number, self.held, "valid")

    def _augmented(self, batch: Batch, group: Sequence[Task], names: tuple[str, ...]) -> Batch:
        dense = [task.name for task in group if TARGETS[task.target].dense]
        boxed = [task.name for task in group if TARGETS[task.target].boxed]
        return augmented(batch, names, group[0].preparation, dense, boxed)

    def _read(self, number: int, order: Sequence[Batches], name: str) -> list[Batch]:
        read = list[Batch]()
        for group, batches in zip(self.groups, order, strict=True):
            at = batches.at(number)
            splits = {task.name: getattr(task.splits(), name) for task in group}
            y = {task: split.y_at(at, self.device) for task, split in splits.items()}
            read.append(Batch(splits[group[0].name].x_at(at, self.device), y))
        return read


def _held(group: Sequence[Task], recipe: Recipe) -> Batches:
    return Batches(len(group[0].splits().valid), recipe.batch, recipe.seed)


def _batches(group: Sequence[Task], recipe: Recipe) -> Batches:
    balanced = next((task for task in group if task.balance == "sampler"), None)
    weights = balanced.sample_weights() if balanced else None
    return Batches(len(group[0].splits().train), recipe.batch, recipe.seed, weights)
