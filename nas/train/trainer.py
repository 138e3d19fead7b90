"""One training loop, for supernets, stand-alone training and retraining alike.

A step leases from some weights the tensors that its subnets touch, and updates those alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Protocol, TypeAlias
from zlib import crc32

from nas.events import Listener, Told, silent
from nas.grammar import Derivation
from nas.lazy import torch
from nas.op import BATCH
from nas.plan import FEATURES_RESULT, Plan, plan, run
from nas.task import Task, loss, soft_loss
from nas.task.augment import Batch
from nas.train.balance import Balance
from nas.train.device import reduced, released, short_of_memory
from nas.train.experts import MUTUAL, mutual_information
from nas.train.feed import Feed
from nas.train.recipe import Recipe
from nas.train.together import Group
from nas.train.turns import StepError, StepLosses, TrainingError, Turn, alike
from nas.train.update import Lease, update

if TYPE_CHECKING:
    from torch import Tensor

Params: TypeAlias = "Sequence[Mapping[str, Tensor]]"  # of a plan, a step each
Logits: TypeAlias = "dict[str, Tensor]"  # by task
EXPERTS = "/experts"  # what is told of them, beside the logits of tasks: none is called so
LESSON = 0.5  # of a loss, the share of what a teacher says (Hinton et al. 2015, arXiv 1503.02531)


class Weights(Protocol):
    """What can be trained: it leases the tensors of some plans, and shows those of one."""

    @property
    def share(self) -> str: ...
    def lease(self, plans: Sequence[Plan]) -> Lease: ...
    def views(self, plan: Plan) -> Params: ...


@contextmanager
def chance(*parts: object) -> Iterator[None]:
    """Inside, torch's random numbers follow from these parts alone; outside they are as before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(crc32("/".join(map(str, parts)).encode()))
        yield


class Trainer:
    """Runs training steps on some weights.

    Where tasks have inputs of their own, a batch holds some of each: the network is one, and so are
    the statistics that it normalises by, in training as in use. In a turn that teaches, the others
    learn the first's logits alone (in-place distillation, Yu et al. 2020, BigNAS, section 3).
    A `teacher` is asked about every batch that is trained on, and its logits are learned beside the
    labels. Where memory is short a batch goes through a network in pieces, as few as will do.
    """

    def __init__(
        self,
        weights: Weights,
        tasks: Sequence[Task],
        recipe: Recipe,
        steps: int,
        device: str = "cpu",
        *,
        group: Group | None = None,
        teacher: Callable[[Tensor], Logits] | None = None,
        listener: Listener = silent,
    ):
        self.weights, self.recipe, self.steps = weights, recipe, steps
        self.device, self.tasks = torch.device(device), list(tasks)
        self.feed = Feed(tasks, recipe, self.device)
        self.group, self.listener, self.teacher = group, listener, teacher
        self.balance = Balance(recipe.losses, [task.name for task in tasks])
        self.pieces = 1
        self._last: tuple[tuple[Turn, ...], list[list[Plan]], Lease] | None = None

    def step(self, step: int, turn: Turn, place: float | None = None) -> StepLosses:
        """Train one step of one turn; see `train_turns`."""
        return self.train_turns(step, (turn,), place)[0]

    def train_turns(
        self, step: int, turns: Sequence[Turn], place: float | None = None
    ) -> list[StepLosses]:
        """Train one step on some turns' (derivation, tasks) pairs; gradients are averaged over
        turns, each of which sees batches of its own.

        place: where in the schedule it is, in steps, if not at its number. Raises StepError where
        a network raises something, or a loss or gradient is no finite number; the weights are then
        as before.
        """
        plans, lease = self._leased(tuple(turns))
        losses, fault = self._own_turns(step, turns, plans, lease)
        while fault and fault.short and self._smaller():
            self._last = None  # what was made of the leaves may be gone with the last attempt
            plans, lease = self._leased(tuple(turns))
            losses, fault = self._own_turns(step, turns, plans, lease)
        if self.group:
            names, reason = [task.name for task in self.tasks], fault.reason if fault else ""
            elsewhere = self.group.add_up(lease, turns, losses, names, reason)
            if elsewhere and not fault:
                fault = StepError(step, str(turns[0].derivations[0]), elsewhere)
        if fault:
            raise fault
        self.balance.hear(turns, losses)
        with _blamed(step, turns[0].derivations[0]):
            rate = self.recipe.rate(step if place is None else place, self.steps)
            update(lease, self.recipe, rate, step)
        return [value for value in losses if value is not None]

    def _own_turns(
        self, step: int, turns: Sequence[Turn], plans: Sequence[Sequence[Plan]], lease: Lease
    ) -> tuple[list[StepLosses | None], StepError | None]:
        """Gradients of the turns that are this process's; losses of those, and what failed."""
        losses, first = list[StepLosses | None](), 0
        for number, planned in enumerate(plans):
            params, first = lease.params[first : first + len(planned)], first + len(planned)
            if self.group and number % self.group.world != self.group.rank:
                losses.append(None)
                continue
            try:
                losses.append(self._turn(step, number, turns, planned, params))
            except StepError as fault:
                fault.short = short_of_memory(fault.__cause__ or fault)
                if fault.short:  # and let go of all that the attempt held
                    return losses, StepError(fault.step, fault.derivation, fault.reason, short=True)
                return losses, fault
        return losses, None

    def _leased(self, turns: tuple[Turn, ...]) -> tuple[list[list[Plan]], Lease]:
        """The plans of each turn and what they touch; of the same turns as in the last step the
        same, with gradients of nothing."""
        if self._last and alike(self._last[0], turns) and self._last[2].direct:
            for leaf in self._last[2].leaves:
                leaf.grad = None
            return self._last[1:]
        known = dict[tuple[int, tuple[str, ...]], Plan]()
        plans = list[list[Plan]]()
        for turn in turns:
            plans.append([])
            for number, derivation in enumerate(turn.trained):
                tasks = self._trained(turn, number)
                key = id(derivation), tuple(task.name for task in tasks)
                if key not in known:
                    features = _features(plans[-1]) if turn.align else None
                    known[key] = plan(derivation, heads=tasks, features=features)
                plans[-1].append(known[key])
        lease = self.weights.lease([planned for some in plans for planned in some])
        self._last = turns, plans, lease
        return plans, lease

    def _trained(self, turn: Turn, number: int) -> list[Task]:
        return [task for task in self.tasks if turn.trains(number, task.name)]

    def _turn(
        self,
        step: int,
        number: int,  # of the turn among `turns`
        turns: Sequence[Turn],
        plans: Sequence[Plan],
        params: Sequence[Params],  # leased, a plan each
    ) -> StepLosses:
        """Add the gradients of a turn's losses; those losses."""
        turn, own = turns[number], turns[number].batches == "each"
        some = len(plans) if own else 1  # batches
        parts = (self.recipe.seed, step) if len(turns) == 1 else (self.recipe.seed, step, number)
        first = (step * len(turns) + number) * some
        losses, taught, batches = list[dict[str, float]](), list[Logits](), list[Batch]()
        with chance(*parts):
            for i, (planned, derivation) in enumerate(zip(plans, turn.trained, strict=True)):
                with _blamed(step, derivation):
                    if own or i == 0:
                        batches = self.feed.batch(first + i, self._after(first + i, some))
                    weights = self._weights(turn, i)
                    by_task, logits = self._gradients(
                        planned, params[i], batches, weights, turn, taught, len(turns) * some
                    )
                    losses.append(by_task)
                    if i == 0 and (turn.teach or turn.align):
                        taught = logits
        return StepLosses((*losses, *self._scores(step, first, turn)))

    def _weights(self, turn: Turn, number: int) -> dict[Task, float]:
        """What weights a derivation's losses, of the tasks that it is trained for."""
        given = turn.weights[number] if turn.weights else {}
        return {
            task: task.weight * self.balance(task.name) * given.get(task.name, 1.0)
            for task in self._trained(turn, number)
        }

    def _scores(self, step: int, batch: int, turn: Turn) -> list[dict[str, float]]:
        """Losses of the derivations that a turn scores, on one batch of the validation split."""
        batches, scores = self.feed.held_out(batch) if turn.scored else [], list[dict[str, float]]()
        first = len(turn.trained)
        for number, derivation in enumerate(turn.derivations[first:], first):
            tasks = self._trained(turn, number)
            with _blamed(step, derivation), torch.no_grad():
                planned = plan(derivation, heads=tasks)
                losses, _ = self._losses(planned, self.weights.views(planned), batches, tasks)
                score = {name: float(value) for name, value in losses.items()}
                if not all(map(isfinite, score.values())):
                    raise TrainingError(f"a loss that is scored is {sum(score.values())}")
            scores.append(score)
        return scores

    def _after(self, batch: int, some: int) -> int:
        """The batch that is probably asked for after one."""
        others = self.group.world - 1 if self.group and (batch + 1) % some == 0 else 0
        return batch + 1 + others * some

    def _gradients(
        self,
        planned: Plan,
        params: Params,
        batches: Sequence[Batch],
        weights: Mapping[Task, float],  # of the losses of the tasks that it is trained for
        turn: Turn,
        taught: Sequence[Logits],  # its first derivation's by piece, where that teaches
        divisor: int,  # of the gradients
    ) -> tuple[dict[str, float], list[Logits]]:
        """Add the gradients of a derivation; each task's loss, and logits by piece."""
        losses, logits = dict.fromkeys([task.name for task in weights], 0.0), list[Logits]()
        pieces = zip(*(batch.pieces(self.pieces) for batch in batches), strict=True)
        for number, piece in enumerate(pieces):
            by_task, answers = self._losses(
                planned, params, piece, list(weights), taught[number:], turn.teach
            )
            share = len(piece[0].x) / len(batches[0].x)
            for name, value in by_task.items():
                losses[name] += share * float(value.detach())
            if not all(map(isfinite, losses.values())):
                raise TrainingError(f"the loss is {sum(losses.values())}: lower the learning rate?")
            parts = [weight * by_task[task.name] for task, weight in weights.items()]
            if turn.align and taught:
                ours, wanted = answers[FEATURES_RESULT], taught[number][FEATURES_RESULT]
                if ours.shape != wanted.shape:
                    raise TrainingError(f"features {[*ours.shape]} held to {[*wanted.shape]}")
                apart = ours - wanted
                parts.append(turn.align * apart.square().mean())
            if EXPERTS in answers:
                parts.append(-MUTUAL * answers[EXPERTS])
            total = torch.stack(parts).sum()
            total = total if share == 1 else total * share
            total = total if divisor == 1 else total / divisor
            again = number + 1 < self.pieces  # parameters that are made of others serve once more
            total.backward(retain_graph=again)
            logits.append({name: value.detach() for name, value in answers.items()})
        return losses, logits

    def _losses(
        self,
        planned: Plan,
        params: Params,
        batches: Sequence[Batch],
        tasks: Sequence[Task],
        taught: Sequence[Logits] = (),
        teach: bool = False,
    ) -> tuple[dict[str, Tensor], Logits]:
        """Each task's loss of its own inputs, and its logits; beside these features where they are
        asked for, and what tasks tell of experts that they share."""
        x = batches[0].x if len(batches) == 1 else torch.cat([batch.x for batch in batches])
        heard: list[Tensor] | None = [] if self.weights.share == "tasks" else None
        with reduced(self.device):
            results = run(planned, params, x, BATCH._replace(heard=heard))
        lessons = self.teacher(x) if self.teacher else {}
        smoothing = self.recipe.label_smoothing
        losses, logits, first, names = {}, {}, 0, {task.name for task in tasks}
        spans = dict[str, slice]()
        for batch, group in zip(batches, self.feed.groups, strict=True):
            for task in (task for task in group if task.name in names):
                spans[task.name] = slice(first, first + len(batch.x))
                answers = results[task.name][spans[task.name]].float()
                logits[task.name] = answers
                if taught and teach:
                    losses[task.name] = soft_loss(task, answers, taught[0][task.name])
                    continue
                y = batch.y[task.name]
                value = loss(task, answers, y, label_smoothing=smoothing)
                if batch.others is not None:
                    other = loss(task, answers, batch.others[task.name], label_smoothing=smoothing)
                    value = batch.share * value + (1 - batch.share) * other
                if task.name in lessons:
                    lesson = lessons[task.name][first : first + len(batch.x)]
                    value = (1 - LESSON) * value + LESSON * soft_loss(task, answers, lesson)
                losses[task.name] = value
            first += len(batch.x)
        if FEATURES_RESULT in results:
            logits[FEATURES_RESULT] = results[FEATURES_RESULT].float()
        if heard:
            logits[EXPERTS] = mutual_information(planned, heard, spans, len(x))
        return losses, logits

    def _smaller(self) -> bool:
        """Let batches go through networks in twice as many pieces; False where they cannot."""
        least = min(batches.batch for batches in self.feed.batches)
        if least // (2 * self.pieces) < 2:
            return False
        self.pieces *= 2
        released(self.device)
        self.listener(
            Told(
                f"memory is short on {self.device}: a batch of {self.recipe.batch} goes through a "
                f"network in {self.pieces} pieces from now on"
            )
        )
        return True


def _features(plans: Sequence[Plan]) -> int:
    """The channels that features are mapped to: those of the first, which are as they are."""
    first = plans[0] if plans else None
    return first.shapes[first.outputs[FEATURES_RESULT]].channels if first else 0


@contextmanager
def _blamed(step: int, derivation: Derivation) -> Iterator[None]:
    try:
        yield
    except TrainingError as error:
        raise StepError(step, str(derivation), str(error)) from None
    except Exception as error:  # of an operator of the user's, whatever it raises
        reason = f"{type(error).__name__}: {error}"
        raise StepError(step, str(derivation), reason) from error


def train(
    trainer: Trainer,
    turn: Callable[[int], Turn],
    *,
    start: int = 0,
    on_step: Callable[[int, float], object] | None = None,
) -> None:
    """Train from step `start` to the trainer's last; `turn` says who is trained at a step, in each
    of the recipe's parts. `on_step` hears of each finished step (the number of steps done, its
    loss), and ends the training by returning True."""
    for step in range(start, trainer.steps):
        losses = trainer.train_turns(step, (turn(step),) * trainer.recipe.parts)
        mean = sum(value.first for value in losses) / len(losses)
        if on_step and on_step(step + 1, mean):
            return
