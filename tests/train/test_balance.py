"""Claims about how the losses of several tasks are weighed."""

from __future__ import annotations

import math

import pytest

from nas.grammar import Grammar
from nas.grammar.count import extreme
from nas.plan import plan
from nas.supernet import Bank
from nas.task import load_tasks
from nas.train import Recipe, StepLosses, Trainer, Turn
from nas.train.balance import Balance

TASKS = load_tasks(["scenes-classify", "scenes-segment"])
SPACE = Grammar.parse(
    "net = conv(4, stride=2) batchnorm relu output(fine) conv(8, stride=2) batchnorm relu "
    "output(middle) conv(8, stride=2) batchnorm relu output(coarse)"
)

ONE = Turn((extreme(SPACE, input=TASKS[0].input),))


def test_log_variances_come_to_those_of_the_losses() -> None:
    """exp(-s) L + s is least where exp(s) = L."""
    balance = Balance("uncertainty", ["a", "b"])
    for _ in range(1_500):
        balance.hear([ONE], [StepLosses(({"a": 4.0, "b": 0.25},))])
    assert balance.variances["a"] == pytest.approx(math.log(4), abs=1e-3)
    assert balance("b") == pytest.approx(4, rel=1e-2)


def test_all_that_is_trained_on_labels_is_heard_and_nothing_else() -> None:
    (derivation,) = ONE.derivations
    balance = Balance("uncertainty", ["a", "b"])
    each = Turn((derivation, derivation), tasks=(("a",), ("b",)))
    taught = Turn((derivation, derivation), teach=True)
    scored = Turn((derivation, derivation), scored=1)
    balance.hear([each], [StepLosses(({"a": 5.0}, {"b": 5.0}))])
    assert balance.variances["a"] == balance.variances["b"] > 0
    before = dict(balance.variances)
    for turn in (taught, scored):
        balance.hear([turn], [StepLosses(({}, {"a": 9.0}))])
    assert balance.variances == before


def test_equal_losses_stay_so_and_are_no_part_of_a_checkpoint() -> None:
    balance = Balance("equal", ["a", "b"])
    balance.hear([ONE], [StepLosses(({"a": 9.0, "b": 0.1},))])
    assert balance("a") == balance("b") == 1
    assert not balance.facts


def test_a_checkpoint_keeps_what_was_learned() -> None:
    balance = Balance("uncertainty", ["a", "b"])
    for _ in range(20):
        balance.hear([ONE, ONE], [StepLosses(({"a": 3.0},)), None])
    again = Balance("uncertainty", ["a", "b"])
    again.restore(balance.facts)
    assert again.variances == balance.variances
    assert again("b") == 1


def test_the_weights_of_a_step_follow_the_losses_of_those_before() -> None:
    derivation = extreme(SPACE, input=TASKS[0].input)

    def heads(losses: str) -> tuple[float, Trainer]:
        bank = Bank.of([plan(derivation, heads=TASKS)])
        trainer = Trainer(bank, TASKS, Recipe(batch=8, losses=losses, clip=0, momentum=0), 40)  # type: ignore[arg-type]
        for step in range(3):
            trainer.step(step, Turn((derivation,)))
        return float(sum(t.abs().sum() for t in bank.tensors.values())), trainer

    (equal, _), (weighed, trainer) = heads("equal"), heads("uncertainty")
    assert equal != weighed
    loss = trainer.step(3, Turn((derivation,))).by_derivation[0]
    for name, variance in trainer.balance.variances.items():
        assert (variance > 0) == (loss[name] > 1)
