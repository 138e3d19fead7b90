"""Claims about a training step: what moves, by how much, and what never does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nas.task
import nas.train.trainer
from nas.grammar import Grammar
from nas.grammar.count import enumerate_all, extreme
from nas.plan import plan
from nas.supernet import Bank
from nas.task import Split, Splits, Task, load_tasks
from nas.train import Recipe, StepError, Trainer, TrainingError, Turn, chance, groups, train, update

SPACE = Grammar.parse("net = conv({4, 8}, stride=2) batchnorm relu output(coarse)", name="small")
DIGITS = Task.load("digits")


def bank(seed: int = 0) -> Bank:
    plans = [plan(extreme(SPACE, input=DIGITS.input), heads=[DIGITS])]
    return Bank.of(plans, seed=seed)


def snapshot(held: Bank) -> dict[str, Tensor]:
    tensors = {**held.tensors}
    for name, state in held.state.items():
        tensors |= {f"{name} {key}": value for key, value in state.items()}
    return {key: value.clone() for key, value in tensors.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, b[key]) for key, value in a.items())


def test_a_gradient_longer_than_the_clip_is_shortened_to_it() -> None:
    held = bank()
    one = plan(extreme(SPACE, input=DIGITS.input), heads=[DIGITS])
    before = snapshot(held)
    lease = held.lease([one])
    for leaf in lease.leaves:
        leaf.grad = torch.full_like(leaf, 1e6)
    update(lease, Recipe(momentum=0, weight_decay=0, clip=2.0), 0.1)
    moved = torch.cat([(held.tensors[k] - before[k]).flatten() for k in held.tensors])
    assert float(moved.norm()) == pytest.approx(0.1 * 2.0, rel=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_a_gradient_that_is_not_finite_moves_nothing(bad: float, clip: float) -> None:
    held = bank()
    before = snapshot(held)
    lease = held.lease([plan(extreme(SPACE, input=DIGITS.input), heads=[DIGITS])])
    for leaf in lease.leaves:
        leaf.grad = torch.ones_like(leaf)
    lease.leaves[0].grad.view(-1)[0] = bad  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match="gradient is not finite"):
        update(lease, Recipe(clip=clip), 0.1)
    assert equal(snapshot(held), before)


def test_a_step_whose_loss_is_finite_and_gradient_is_not_names_the_derivation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held, derivation = bank(), extreme(SPACE, input=DIGITS.input)
    before = snapshot(held)
    usual = nas.train.trainer.loss

    def odd(task: Task, logits: Tensor, y: Tensor, **words: Any) -> Tensor:
        return usual(task, logits, y, **words) + 0 * torch.sqrt(logits - logits).sum()

    monkeypatch.setattr(nas.train.trainer, "loss", odd)
    with pytest.raises(StepError, match="step 3 failed: a gradient is not finite") as caught:
        Trainer(held, [DIGITS], Recipe(), 10).step(3, Turn((derivation,)))
    assert (caught.value.step, caught.value.derivation) == (3, str(derivation))
    assert equal(snapshot(held), before)


def test_all_students_learn_from_the_first_and_none_from_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teachers: list[Tensor] = []
    given: list[Tensor] = []
    usual, run = nas.train.trainer.soft_loss, nas.train.trainer.run

    def heard(task: Task, logits: Tensor, teacher: Tensor) -> Tensor:
        teachers.append(teacher.clone())
        return usual(task, logits, teacher)

    def ran(*words: Any, **more: Any) -> dict[str, Tensor]:
        results = run(*words, **more)
        given.append(results["digits"].detach().clone())
        return results

    monkeypatch.setattr(nas.train.trainer, "soft_loss", heard)
    monkeypatch.setattr(nas.train.trainer, "run", ran)
    large, small = (
        extreme(SPACE, input=DIGITS.input),
        extreme(SPACE, input=DIGITS.input, largest=False),
    )
    Trainer(bank(), [DIGITS], Recipe(), 10).step(0, Turn((large, small, small, large), teach=True))
    assert len(teachers) == 3
    assert all(torch.equal(teacher, given[0]) for teacher in teachers)


def test_chance_in_a_step_comes_from_seed_and_step_alone(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(
        "import torch\ndef noisy(x):\n    return torch.nn.functional.dropout(x, 0.5, True)\n"
    )
    (tmp_path / "s.grammar").write_text(
        "use ./ops.py:noisy as noisy\nnet = conv(4, stride=2) noisy batchnorm relu output(coarse)\n"
    )
    grammar = Grammar.load(tmp_path / "s.grammar", trust_code=True)
    (derivation,) = enumerate_all(grammar, input=DIGITS.input)
    one = plan(derivation, heads=[DIGITS])

    def trained(*stops: int) -> dict[str, Tensor]:
        held = Bank.of([one])
        for start, stop in zip((0, *stops), (*stops, 6), strict=True):
            torch.manual_seed(start + 7)  # whatever happened before
            trainer = Trainer(held, [DIGITS], Recipe(), 6)
            for step in range(start, stop):
                trainer.step(step, Turn((derivation,)))
        return snapshot(held)

    assert equal(trained(), trained(2, 5))
    before = torch.get_rng_state()
    with chance("a", 1):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_tasks_are_grouped_by_what_their_inputs_hold_and_not_by_where_they_lie() -> None:
    x = torch.randn(6, 1, 4, 4)

    def task(name: str, inputs: Tensor) -> Task:
        y = torch.arange(6) % 2
        splits = Splits(*(Split(inputs[i::3], y[i::3]) for i in range(3)))
        return replace(DIGITS, name=name, input=(1, 4, 4), loader=lambda: splits)

    same, other = task("same", x.clone()), task("other", x + 1)
    found = [[t.name for t in group] for group in groups([task("one", x), other, same])]
    assert found == [["one", "same"], ["other"]]


def test_training_reads_training_data_alone() -> None:
    """Validation and test data may be anything."""
    splits = DIGITS.splits()
    nothing = Split(torch.full_like(splits.valid.x, float("nan")), splits.valid.y)
    blind = replace(DIGITS, loader=lambda: replace(splits, valid=nothing, test=nothing))
    found = []
    for task in (DIGITS, blind):
        held = bank()
        trainer = Trainer(held, [task], Recipe(), 3)
        train(trainer, lambda step: Turn((extreme(SPACE, input=DIGITS.input),)))
        found.append(snapshot(held))
    assert equal(*found)


COARSE = Grammar.parse("net = conv(4, stride=2) batchnorm relu output(coarse)", name="coarse")


@pytest.fixture
def pair(tmp_path: Path) -> list[Task]:
    """Two tasks of the same 60 pictures, the second of weight 3."""
    x = np.random.default_rng(0).normal(size=(60, 1, 8, 8)).astype(np.float32)
    for name, y in (("left", x[:, 0, 0, 0] > 0), ("right", x[:, 0, 7, 7] > 0)):
        np.savez(tmp_path / f"{name}.npz", x=x, y=y.astype(int))
    left, right = load_tasks([f"{name}={tmp_path / name}.npz" for name in ("left", "right")])
    return [left, replace(right, weight=3.0)]


def moved(tasks: list[Task], turn: Turn) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """What a step of plain SGD takes from the weights, by the learning rate; and its losses."""
    held = Bank.of([plan(derivation, heads=tasks) for derivation in turn.derivations])
    before = snapshot(held)
    recipe = Recipe(lr=1, momentum=0, weight_decay=0, warmup=0, clip=0, label_smoothing=0)
    losses = Trainer(held, tasks, recipe, 10).step(0, turn)
    after = snapshot(held)
    return {key: before[key] - after[key] for key in before}, [*map(dict, losses.by_derivation)]


def test_a_derivation_is_trained_for_the_tasks_that_its_turn_names_alone(pair: list[Task]) -> None:
    (derivation,) = enumerate_all(COARSE, input=pair[0].input)
    both, losses = moved(pair, Turn((derivation, derivation), tasks=(("left",), ("right",))))
    assert [set(by) for by in losses] == [{"left"}, {"right"}]
    whole, _ = moved(pair, Turn((derivation,)))
    for key, value in whole.items():
        torch.testing.assert_close(both[key], value, rtol=1e-4, atol=1e-6)
    left, _ = moved(pair, Turn((derivation,), tasks=(("left",),)))
    heads = {key: float(left[key].abs().sum()) for key in left if "left" in key or "right" in key}
    assert {key for key, value in heads.items() if value} == {key for key in heads if "left" in key}


def test_a_loss_weighs_as_its_task_says(pair: list[Task]) -> None:
    (derivation,) = enumerate_all(COARSE, input=pair[0].input)
    turn = Turn((derivation,), tasks=(("right",),))
    heavy, (said,) = moved(pair, turn)
    light, (alone,) = moved([pair[0], replace(pair[1], weight=1.0)], turn)
    assert said == alone  # a loss is reported as it is
    for key, value in light.items():
        torch.testing.assert_close(heavy[key], 3 * value, rtol=1e-4, atol=1e-6)


def test_a_turn_names_the_tasks_of_all_its_derivations_or_of_none() -> None:
    (derivation,) = enumerate_all(COARSE, input=(1, 8, 8))
    with pytest.raises(ValueError, match="names the tasks of each of its derivations, or of none"):
        Turn((derivation, derivation), tasks=(("left",),))
    with pytest.raises(ValueError, match="a turn that teaches trains all"):
        Turn((derivation, derivation), teach=True, tasks=(("left",), ("left",)))


def trained(recipe: Recipe, steps: int, **given: Any) -> Bank:
    (derivation,) = enumerate_all(COARSE, input=DIGITS.input)
    planned = plan(derivation, heads=[DIGITS])
    held = Bank.of([planned], optimizer=recipe.optimizer, average=bool(recipe.average))
    trainer = Trainer(held, [DIGITS], recipe, steps, **given)
    train(trainer, lambda step: Turn((derivation,)))
    return held


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_leased_once_for_all_steps_is_trained_as_if_leased_anew(
    optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, leases = Recipe(optimizer=optimizer, lr=0.01), 0
    lease = Bank.lease

    def counted(*words: Any) -> Any:
        nonlocal leases
        leases += 1
        return lease(*words)

    monkeypatch.setattr(Bank, "lease", counted)
    once = trained(recipe, 6)
    assert leases == 1
    monkeypatch.setattr(nas.train.Lease, "direct", property(lambda self: False))
    anew = trained(recipe, 6)
    assert leases == 7
    assert equal(snapshot(once), snapshot(anew))


def test_a_step_in_parts_moves_by_the_mean_of_their_gradients() -> None:
    (derivation,) = enumerate_all(COARSE, input=DIGITS.input)
    recipe = Recipe(momentum=0, weight_decay=0, clip=0, warmup=0, batch=32)

    def step(number: int, parts: int) -> dict[str, Tensor]:
        held = Bank.of([plan(derivation, heads=[DIGITS])])
        before = snapshot(held)
        trainer = Trainer(held, [DIGITS], recipe, 100)
        trainer.train_turns(number, (Turn((derivation,)),) * parts, place=1)
        return {key: before[key] - held.tensors[key] for key in held.tensors}

    both, first, second = step(3, 2), step(6, 1), step(7, 1)
    for key, value in both.items():
        torch.testing.assert_close(value, (first[key] + second[key]) / 2, rtol=1e-4, atol=1e-7)


NORMLESS = Grammar.parse("net = conv(4, stride=2, bias=1) relu output(coarse)", name="normless")


def test_where_memory_is_short_a_batch_goes_through_in_pieces_to_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (derivation,) = enumerate_all(NORMLESS, input=DIGITS.input)
    said: list[Any] = []
    usual = nas.train.trainer.run

    def short(planned: Any, params: Any, x: Tensor, phase: Any) -> dict[str, Tensor]:
        if len(x) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(planned, params, x, phase)

    def moved_by(**given: Any) -> tuple[dict[str, Tensor], float]:
        held = Bank.of([plan(derivation, heads=[DIGITS])])
        losses = Trainer(held, [DIGITS], Recipe(batch=64), 10, **given).step(2, Turn((derivation,)))
        return snapshot(held), losses.first

    whole, loss = moved_by()
    monkeypatch.setattr(nas.train.trainer, "run", short)
    pieces, same = moved_by(listener=said.append)
    assert [event.text.partition(" pieces")[0][-1] for event in said] == ["2", "4"]
    assert same == pytest.approx(loss, rel=1e-5)
    for key, value in whole.items():
        torch.testing.assert_close(pieces[key], value, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(nas.train.trainer, "run", lambda *_: short(None, None, torch.ones(99), 0))
    with pytest.raises(StepError, match="out of memory"):
        moved_by()


def test_the_average_of_weights_is_their_moving_average_by_its_decay() -> None:
    seen: list[dict[str, Tensor]] = []
    (derivation,) = enumerate_all(COARSE, input=DIGITS.input)
    recipe = Recipe(average=0.5)
    held = Bank.of([plan(derivation, heads=[DIGITS])], average=True)
    trainer = Trainer(held, [DIGITS], recipe, 30)
    for step in range(30):
        trainer.step(step, Turn((derivation,)))
        seen.append({key: value.clone() for key, value in held.tensors.items()})
    expected = seen[0]
    for step in range(1, 30):
        kept = min(0.5, step / (step + 9))
        expected = {k: kept * v + (1 - kept) * seen[step][k] for k, v in expected.items()}
    for key, value in held.averaged.tensors.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)
    plain = trained(Recipe(), 30)
    assert plain.averaged is plain
    assert all(torch.equal(plain.tensors[key], held.tensors[key]) for key in plain.tensors)


def test_classes_weigh_as_the_task_says_and_a_batch_of_pairs_by_their_shares(
    tmp_path: Path,
) -> None:
    x = np.random.default_rng(0).normal(size=(100, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=(np.arange(100) % 10 == 0).astype(int))
    task = Task.load(f"rare={tmp_path / 'a.npz'}?balance=weights")
    weights = task.class_weights
    assert weights is not None
    shares = torch.bincount(task.splits().train.y).double() / len(task.splits().train)
    torch.testing.assert_close((weights.double() * shares), torch.full((2,), 0.5).double())
    logits, y = torch.randn(8, 2), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    weighted = torch.nn.functional.cross_entropy(logits, y, weights)
    torch.testing.assert_close(nas.task.loss(task, logits, y), weighted)


def test_a_class_that_never_occurs_weighs_nothing(tmp_path: Path) -> None:
    y = np.zeros((20, 4, 4), int)
    y[:, 2:] = 1
    np.savez(tmp_path / "m.npz", x=np.random.default_rng(0).normal(size=(20, 1, 4, 4)), y=y)
    text = 'name = "m"\nclasses = ["a", "b", "never"]\nbalance = "weights"\n'
    text += '[data]\nkind = "file"\npath = "m.npz"\n'
    (tmp_path / "m.toml").write_text(text)
    weights = Task.load(str(tmp_path / "m.toml")).class_weights
    assert weights is not None
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 0.0]))


def test_pieces_of_a_batch_share_kernels_that_are_made_of_others() -> None:
    grammar = Grammar.parse("net = conv(4, kernel={3, 5}, stride=2) relu output(coarse)", name="k")
    whole, part = enumerate_all(grammar, input=DIGITS.input)
    plans = [plan(derivation, heads=[DIGITS]) for derivation in (whole, part)]
    results = []
    for pieces in (1, 3):
        held = Bank.of(plans, kernel_transform=True)
        trainer = Trainer(held, [DIGITS], Recipe(batch=30), 10)
        trainer.pieces = pieces
        for step, derivation in enumerate((whole, part, part, whole)):
            trainer.step(step, Turn((derivation,)))
        results.append(snapshot(held))
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-3, atol=1e-5)
