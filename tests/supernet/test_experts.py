"""Claims about experts: what tasks share, whom a task takes, and its network without the others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nas.grammar import Derivation, Grammar, GrammarError, derive
from nas.grammar.count import enumerate_all
from nas.network import Network
from nas.op import Phase
from nas.plan import plan, run
from nas.search import load, search
from nas.supernet import Bank
from nas.supernet.decoders import with_decoders
from nas.supernet.experts import taken, without_idle
from nas.supernet.slots import named
from nas.task import load_tasks
from nas.train import Recipe, Trainer, Turn
from nas.train.experts import mutual_information

TASKS = load_tasks(["scenes-classify", "scenes-segment"])
INPUT = TASKS[0].input
TEXT = """
share tasks
net     = encoder decoder
encoder = conv(8, kernel=3, stride=4) batchnorm relu
decoder = clone(2) [channelnorm experts({2, 3, 4, 6}, {1, 2}, {4, 8}); identity] add
"""
SPACE = with_decoders(Grammar.parse(TEXT), [task.name for task in TASKS])


def largest(grammar: Grammar = SPACE) -> Derivation:
    return derive(grammar, lambda site, options: len(options) - 1, input=INPUT)


SPANS = {task.name: slice(0, 5) for task in TASKS}


def answers(shares: list[list[float]]) -> list[Tensor]:
    """What gates answer that take experts by these shares everywhere, of five samples."""
    return [torch.tensor(row).clamp(min=1e-9).log().expand(5, -1) for row in shares]


def test_tasks_share_experts_and_each_has_a_gate() -> None:
    planned = plan(largest(), heads=TASKS)
    bank = Bank.of([planned], share=SPACE.share)
    steps = [s for s in named(planned, "tasks") if any(p.name == "inner" for p, _ in s)]
    first, second = ({p.name: key for p, key in step} for step in steps)
    assert first["inner"] == second["inner"]
    assert first["gate.weight"] != second["gate.weight"]
    views = [v for v in bank.views(planned) if "inner" in v]
    assert views[0]["inner"].data_ptr() == views[1]["inner"].data_ptr()
    assert views[0]["gate.weight"].data_ptr() != views[1]["gate.weight"].data_ptr()
    paths = Bank.of([planned])
    ours = sum(t.numel() for t in bank.tensors.values())
    assert ours < sum(t.numel() for t in paths.tensors.values()) == planned.params


def test_what_one_task_teaches_shared_experts_another_task_has() -> None:
    planned = plan(largest(), heads=TASKS)
    bank = Bank.of([planned], share="tasks")
    before = {key: value.clone() for key, value in bank.tensors.items()}
    trainer = Trainer(bank, TASKS, Recipe(batch=16, lr=0.1), 10)
    trainer.step(0, Turn((largest(),), tasks=(("scenes-classify",),)))
    moved = {key for key, value in bank.tensors.items() if not torch.equal(value, before[key])}
    assert any(key.startswith("for_all/") and key.endswith("inner") for key in moved)
    assert not any(key.startswith(("for_scenes_segment/", "head/scenes-segment")) for key in moved)


def told(shares: list[list[float]], tasks: int = 2) -> float:
    planned = plan(largest(), heads=TASKS[:tasks])
    return float(mutual_information(planned, answers(shares), SPANS, 5))


def test_mutual_information_is_that_of_known_shares() -> None:
    apart = [[1.0, 0, 0, 0, 0, 0], [0.0, 1, 0, 0, 0, 0]]
    assert told(apart) == pytest.approx(math.log(2), abs=1e-5)
    assert told([[0.5, 0.5, 0, 0, 0, 0]] * 2) == pytest.approx(0, abs=1e-5)
    half = [[0.5, 0.5, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0]]
    assert told(half) == pytest.approx(0.5 * math.log(2), abs=1e-5)
    assert told(apart[:1], tasks=1) == 0


def test_of_tasks_with_samples_of_their_own_each_tells_of_those() -> None:
    planned = plan(largest(), heads=TASKS)
    mixed = [
        torch.cat([first[:3], second[:2]])
        for first, second in (
            answers([[1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]),
            answers([[0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]]),
        )
    ]
    spans = {TASKS[0].name: slice(0, 3), TASKS[1].name: slice(3, 5)}
    value = float(mutual_information(planned, mixed, spans, 5))
    assert value == pytest.approx(math.log(2), abs=1e-5)


@given(seed=st.integers(0, 1000))
def test_mutual_information_lies_between_nothing_and_what_tasks_can_tell(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    heard = [3 * torch.randn(10, n, generator=chance) for n in (6, 3)]  # fewer count as not taken
    value = float(mutual_information(plan(largest(), heads=TASKS), heard, SPANS, 5))
    assert -1e-6 <= value <= math.log(2) + 1e-6


def test_training_makes_tasks_and_experts_tell_of_each_other() -> None:
    """Against the same training without the information, from the same weights."""
    import nas.train.trainer as module

    told, usual = list[float](), module.MUTUAL
    try:
        for weight in (0.0, 1.0):
            module.MUTUAL = weight
            planned = plan(largest(), heads=TASKS)
            bank = Bank.of([planned], share="tasks")
            trainer = Trainer(bank, TASKS, Recipe(batch=16, lr=0.1), 40)
            for step in range(40):
                trainer.step(step, Turn((largest(),)))
            heard = list[Tensor]()
            x = trainer.feed.batch(0, 0)[0].x
            with torch.no_grad():
                run(planned, bank.views(planned), x, Phase(training=True, heard=heard))
            spans = {task.name: slice(0, len(x)) for task in TASKS}
            told.append(float(mutual_information(planned, heard, spans, len(x))))
    finally:
        module.MUTUAL = usual
    assert told[1] > told[0] + 0.1


@pytest.mark.parametrize("share", ["path", "stage"])
def test_where_tasks_do_not_share_nothing_is_told(share: str) -> None:
    planned = plan(largest(), heads=TASKS)
    bank = Bank.of([planned], share=share)
    trainer = Trainer(bank, TASKS, Recipe(batch=16), 10)
    batches = trainer.feed.batch(0, 0)
    _, logits = trainer._losses(planned, bank.views(planned), batches, TASKS)
    assert set(logits) == {task.name for task in TASKS}


def gated(network: Network) -> Any:
    (step,) = (s for s in network.plan.steps if s.operator.gated)
    return step


def biased(network: Network, wanted: list[int]) -> None:
    """Have a gate take the first two of four experts, or the other two, and no others."""
    step = gated(network)
    tensors = next(
        t for s, t in zip(network.plan.steps, network.tensors(), strict=True) if s is step
    )
    weight = tensors["gate.weight"]
    direction = torch.randn(weight.shape[1])
    with torch.no_grad():
        weight.zero_()
        for expert, factor in zip(wanted, (1.0, 0.9, -1.0, -0.9), strict=True):
            weight[expert] = factor * direction


def test_a_network_without_idle_experts_computes_the_same() -> None:
    torch.manual_seed(0)
    network = Network(largest(), heads=[TASKS[1]]).eval()
    biased(network, [5, 1, 3, 4])
    x = torch.randn(64, *INPUT)
    (count,) = taken(network, [x])
    assert (count > 0).tolist() == [False, True, False, True, True, True]
    smaller = without_idle(network, [TASKS[1]], [x])
    assert gated(smaller).args["n"] == 4
    assert smaller.plan.params < network.plan.params
    with torch.no_grad():
        assert torch.allclose(smaller(x)["scenes-segment"], network(x)["scenes-segment"], atol=1e-6)
    again = Network(smaller.derivation, heads=[TASKS[1]])
    again.load_state_dict(smaller.state_dict())


def test_experts_that_all_are_taken_stay() -> None:
    torch.manual_seed(1)
    network = Network(largest(), heads=[TASKS[0]]).eval()
    x = 3 * torch.randn(256, *INPUT)
    assert bool((taken(network, [x])[0] > 0).all())
    assert without_idle(network, [TASKS[0]], [x]).plan.params == network.plan.params


def test_where_the_space_says_how_many_there_are_they_stay() -> None:
    fixed = with_decoders(
        Grammar.parse(TEXT.replace("{2, 3, 4, 6}", "6")), [task.name for task in TASKS]
    )
    network = Network(largest(fixed), heads=[TASKS[0]]).eval()
    biased(network, [0, 1, 2, 3])
    smaller = without_idle(network, [TASKS[0]], [torch.randn(16, *INPUT)])
    assert gated(smaller).args["n"] == 6


def test_more_experts_are_not_taken_than_there_are() -> None:
    grammar = Grammar.parse("net = conv(4) experts({1, 4}, {1, 2}, 4) output(coarse)")
    sizes = {
        (gated_args["n"], gated_args["k"])
        for derivation in enumerate_all(grammar, input=(1, 8, 8))
        for gated_args in [plan(derivation).steps[-1].args]
    }
    assert sizes == {(1, 1), (4, 1), (4, 2)}
    with pytest.raises(GrammarError, match="of 2 experts 3 cannot be taken: k is at most n"):
        derive(
            Grammar.parse("net = conv(4) experts(2, 3) output(coarse)"),
            lambda site, options: 0,
            input=(1, 8, 8),
        )
    with pytest.raises(GrammarError, match="takes image or vector shapes"):
        derive(
            Grammar.parse("net = conv(4) tokens experts(2, 1) output(coarse)"),
            lambda site, options: 0,
            input=(1, 8, 8),
        )


def test_what_is_taken_out_for_one_task_keeps_its_own_experts(tmp_path: Path) -> None:
    (tmp_path / "own.grammar").write_text(TEXT)
    made = search(
        str(tmp_path / "own.grammar"),
        ["scenes-classify", "scenes-segment"],
        out=tmp_path / "run",
        trials=6,
        generation=6,
        workers=1,
        evaluate_in="torch",
        supernet={"steps": 60, "batch": 16, "samples": 64},
    )
    opened = load(made.folder)
    id = max(opened.trials, key=lambda trial: trial.columns()["params"]).id
    whole = opened.network(id)
    alone = opened.network(id, "scenes-segment")
    usual = whole.only(TASKS[1])
    assert alone.plan.params <= usual.plan.params < whole.plan.params
    x = TASKS[1].splits().valid.x[:256]
    with torch.no_grad():
        ours, theirs = alone(x)["scenes-segment"], usual(x)["scenes-segment"]
    assert float((ours - theirs).abs().mean()) < 1e-3
    opened.save(id, tmp_path / "net", task="scenes-segment")
    assert (tmp_path / "net" / "model.py").exists()
