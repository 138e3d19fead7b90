"""Who is trained, and the statistics of who is evaluated."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.grammar import Derivation, Grammar, GrammarError, Limits, sample
from nas.grammar.count import enumerate_all, table
from nas.op import BATCH
from nas.plan import plan, run
from nas.supernet import STRATEGIES, Bank, Space, batch_statistics, chain, strategy_of
from nas.supernet.chain import evenly
from nas.supernet.sites import dimension, order
from nas.task import Task, loss
from nas.train import Batches, Recipe, Trainer, Turn

TINY = Grammar.parse(
    "net = conv({4, 8}) batchnorm relu output(features) (block | identity){2} output(coarse)\n"
    "block = conv({4, 8}, kernel={1, 3}) batchnorm relu\n"
)
ELASTIC = Grammar.parse("""
net = conv({4, 6, 8}) part(1, {1, 3, 5}) part({1, 2, 3}, 3) output(coarse)
part(n, k) = (conv(8, k) relu){n}
""")
STREAMS = Grammar.parse("""
net = conv(8) clone(2) [path(8); conv(12, stride=2) path(12)] fuse [path(8); path(12)]
      [output(fine); output(coarse)]
path(c) = (mbconv(c, expand=2) | identity){4}
""")
MOBILE = Grammar.load("mobile")
DIGITS = Task.load("digits")
SPACE = Space(TINY, DIGITS.input, tasks=(DIGITS,), budgets=(1e6,))


def turns(name: str, grammar: Grammar = TINY, steps: int = 100) -> list[Turn]:
    strategy = strategy_of(name, Space(grammar, DIGITS.input), steps)
    return [strategy(step, random.Random(step)) for step in range(steps)]


def params(derivation: Derivation) -> int:
    return plan(derivation).params


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_turn_depends_on_the_step_and_its_stream_alone(name: str) -> None:
    strategy = strategy_of(name, SPACE, 20)
    forwards = [strategy(i, random.Random(i)) for i in range(20)]
    assert forwards == [strategy(i, random.Random(i)) for i in reversed(range(20))][::-1]


@pytest.mark.parametrize("grammar", [TINY, ELASTIC])
def test_the_sandwich_is_made_of_the_spaces_true_extremes(grammar: Grammar) -> None:
    sizes = [plan(d).params for d in enumerate_all(grammar, input=DIGITS.input)]
    (turn, *_) = turns("sandwich", grammar, 1)
    largest, smallest, *others = turn.derivations
    assert turn.teach
    assert turn.batches == "one"
    assert params(largest) == max(sizes)
    assert params(smallest) == min(sizes)
    assert len(others) == 2


def test_of_architectures_with_equal_parameters_the_extremes_differ_most_in_flops() -> None:
    grammar = Grammar.parse("net = max_pool({1, 2, 4}, {1, 2, 4}) conv(8) output(coarse)")
    space = Space(grammar, DIGITS.input)
    flops = [plan(d).flops for d in enumerate_all(grammar, input=DIGITS.input)]
    assert plan(space.largest).flops == max(flops)
    assert plan(space.smallest).flops == min(flops)


def test_with_limits_the_largest_is_within_them_and_no_small_part_of_what_they_allow() -> None:
    for limits in (Limits(params=50_000), Limits(flops=1_000_000)):
        largest = Space(MOBILE, DIGITS.input, limits).largest
        assert limits.allow(largest.cost)
        assert limits.scale(largest.cost) > 0.6
    with pytest.raises(GrammarError, match="no architecture with params at most 100"):
        _ = Space(MOBILE, DIGITS.input, Limits(params=100)).largest


def test_single_path_draws_what_the_grammar_draws() -> None:
    drawn = [sample(TINY, random.Random(i), input=DIGITS.input) for i in range(10)]
    assert [turn.derivations for turn in turns("single-path", steps=10)] == [(d,) for d in drawn]


def test_a_spread_reaches_the_extremes_and_independent_draws_do_not() -> None:
    space = Space(STREAMS, DIGITS.input)
    ends = {str(space.smallest), str(space.largest)}
    found = {
        name: Counter(str(t.derivations[0]) for t in turns(name, STREAMS, 400))
        for name in ("spread", "single-path")
    }
    assert all(found["spread"][end] >= 10 for end in ends)
    assert all(found["single-path"][end] == 0 for end in ends)


def test_in_a_fair_turn_each_option_of_the_widest_sites_is_there_once() -> None:
    labels = table(ELASTIC, input=DIGITS.input)
    for turn in turns("fair", ELASTIC, 50):
        assert len(turn.derivations) == 3
        assert not turn.teach
        for site in ("conv:out", "part.0:k", "part.1:n"):
            assert Counter(d.by_site[site] for d in turn.derivations) == Counter(labels[site])


def test_in_a_fair_turn_all_other_options_differ_by_one_at_most() -> None:
    for turn in turns("fair", MOBILE, 20):
        counts: dict[tuple[str, int], Counter[str]] = {}
        for derivation in turn.derivations:
            for chosen in derivation.choices:
                key = chosen.site.name, len(chosen.options)
                counts.setdefault(key, Counter(o.label for o in chosen.options))[chosen.label] += 1
        for count in counts.values():
            assert max(count.values()) - min(count.values()) <= 1


def test_sites_are_known_by_what_their_argument_comes_to() -> None:
    chosen = Space(ELASTIC, DIGITS.input).largest.choices
    dimensions = {c.site.name: dimension(ELASTIC, c.site, c.options) for c in chosen}
    assert dimensions == {"conv:out": "width", "part.0:k": "kernel", "part.1:n": "depth"}


def test_progressive_training_opens_kernels_then_depth_then_width() -> None:
    largest = Space(MOBILE, DIGITS.input).largest.by_site
    opened: list[set[str]] = [set() for _ in range(4)]
    for step, turn in enumerate(turns("progressive", MOBILE, 200)):
        for chosen in turn.derivations[0].choices:
            if chosen.label != largest[chosen.site.name]:
                opened[step // 50].add(dimension(MOBILE, chosen.site, chosen.options))
    assert opened == [set(), {"kernel"}, {"kernel", "depth"}, {"kernel", "depth", "width"}]


@pytest.mark.parametrize("grammar", [MOBILE, STREAMS])
def test_a_chain_is_nested_and_grows_by_one_option_of_one_site(grammar: Grammar) -> None:
    space = Space(grammar, DIGITS.input)
    members = chain(space.largest)
    bank = Bank.of([plan(space.largest)])
    assert members[-1] == space.largest
    assert members[0] == space.smallest
    assert len(members) == {MOBILE: 38, STREAMS: 17}[grammar]
    for small, large in pairwise(members):
        assert params(small) < params(large)
        moved = [s for s, label in small.by_site.items() if large.by_site[s] != label]
        assert len(moved) == 1
        theirs = touched(bank, large)
        for key, mask in touched(bank, small).items():
            assert not bool((mask & ~theirs[key]).any())


def touched(bank: Bank, derivation: Derivation) -> dict[str, torch.Tensor]:
    """Which elements of the bank's slots a derivation reads."""
    masks = {}
    for step in plan(derivation).steps:
        for param in step.params:
            key = f"{step.slot}.{param.name}"
            masks[key] = torch.zeros(bank.params[key].shape, dtype=torch.bool)
            masks[key][bank.boxes(key, param)[0][0]] = True
    return masks


def test_a_shorter_chain_is_some_of_the_longer_with_its_ends() -> None:
    members = chain(Space(MOBILE, DIGITS.input).largest)
    some = chain(members[-1], 7)
    assert len(some) == 7
    assert [some[0], some[-1]] == [members[0], members[-1]]
    assert set(some) <= set(members)


def test_evenly_spread_numbers_leave_no_gap_that_is_twice_and_a_half_the_mean() -> None:
    for n in range(2, 300):
        there = [0.0, *sorted(evenly(i) for i in range(1, n)), 1.0]
        assert max(b - a for a, b in pairwise(there)) < 2.5 / n


def test_sorted_training_gives_each_member_of_the_chain_a_batch_of_its_own() -> None:
    members = set(chain(SPACE.largest))
    found = turns("sorted")
    assert {d for turn in found for d in turn.derivations} == members
    assert {(len(t.derivations), t.batches, t.teach) for t in found} == {(4, "each", False)}


def test_a_strategy_of_the_users_yields_derivations(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "def both(space, step, rng):\n    yield space.smallest\n    yield space.draw(rng)\n"
    )
    (turn, *_) = [strategy_of(f"{path}:both", SPACE, 5)(0, random.Random(3))]
    assert turn == Turn((SPACE.smallest, sample(TINY, random.Random(3), input=DIGITS.input)))
    with pytest.raises(ValueError, match="no strategy.*there are single-path, spread"):
        strategy_of(f"{path}:none", SPACE, 5)
    path.write_text("def nobody(space, step, rng):\n    return ()\n")
    with pytest.raises(ValueError, match="nobody yields no derivation at step 2"):
        strategy_of(f"{path}:nobody", SPACE, 5)(2, random.Random(0))


@pytest.mark.parametrize("name", STRATEGIES)
def test_training_by_any_strategy_teaches_the_subnets(name: str) -> None:
    turn = strategy_of(name, SPACE, 60)
    planned, split = plan(SPACE.largest, heads=[DIGITS]), DIGITS.splits().train
    bank = Bank.of([planned, plan(SPACE.largest, heads=[DIGITS], features=8)])
    trainer = Trainer(bank, [DIGITS], Recipe(lr=0.3, label_smoothing=0), 60)
    losses = []
    for step in range(61):
        if step in (0, 60):
            logits = run(planned, bank.views(planned), split.x, BATCH)["digits"]
            losses.append(float(loss(DIGITS, logits, split.y)))
        if step < 60:
            trainer.step(step, turn(step, random.Random(step)))
    assert losses[1] < 0.93 * losses[0]


def gradient(turn: Turn) -> dict[str, torch.Tensor]:
    """What a step by a turn takes from the weights, by the learning rate."""
    bank = Bank.of([plan(SPACE.largest, heads=[DIGITS])])
    before = {key: t.clone() for key, t in bank.tensors.items()}
    recipe = Recipe(lr=1, momentum=0, weight_decay=0, warmup=0, clip=0, label_smoothing=0)
    Trainer(bank, [DIGITS], recipe, 10).step(2, turn)
    return {key: (before[key] - t) / recipe.rate(2, 10) for key, t in bank.tensors.items()}


def test_over_one_batch_gradients_add_up_and_over_several_they_are_averaged() -> None:
    one, other = SPACE.smallest, SPACE.largest
    alone, beside = gradient(Turn((one,))), gradient(Turn((other,)))
    together = gradient(Turn((one, other)))
    bank = Bank.of([plan(other, heads=[DIGITS])])
    for step in plan(one, heads=[DIGITS]).steps:
        for param in step.params:
            key = f"{step.slot}.{param.name}"
            box = bank.boxes(key, param)[0][0]
            beside[key][box] += alone[key][box]
    for key, value in together.items():
        torch.testing.assert_close(value, beside[key], rtol=1e-4, atol=1e-6)

    planned, split = plan(one, heads=[DIGITS]), DIGITS.splits().train
    lease = Bank.of([plan(other, heads=[DIGITS])]).lease([planned])
    for at in (4, 5):  # step 2 of two batches each
        x = Batches(len(split), 64, seed=0).at(at)
        logits = run(planned, lease.params[0], split.x[x], BATCH)["digits"]
        (loss(DIGITS, logits, split.y[x]) / 2).backward()
    averaged = gradient(Turn((one, one), batches="each"))
    for step, params in zip(planned.steps, lease.params[0], strict=True):
        for param in step.params:
            key, grad = f"{step.slot}.{param.name}", params[param.name].grad
            assert grad is not None
            torch.testing.assert_close(
                averaged[key][bank.boxes(key, param)[0][0]], grad, rtol=1e-4, atol=1e-6
            )


def test_a_turn_that_teaches_has_one_batch_since_logits_of_others_would_be_taught() -> None:
    with pytest.raises(ValueError, match="a turn that teaches sees one batch"):
        Turn((SPACE.largest, SPACE.smallest), teach=True, batches="each")


def test_a_block_that_is_bypassed_has_no_statistics() -> None:
    kept, bypassed = plan(SPACE.largest), plan(SPACE.smallest)
    bank, x = Bank.of([kept]), DIGITS.splits().train.x[:64]
    names = []
    for planned in (kept, bypassed):
        found = batch_statistics(planned, bank.views(planned), x)
        names.append({step.slot for step, s in zip(planned.steps, found, strict=True) if s})
    assert names[1] == {"batchnorm:batchnorm()"}
    assert names[1] < names[0]


def test_statistics_are_those_of_all_samples_wherever_batches_end() -> None:
    grammar = Grammar.parse("net = conv(4) batchnorm output(coarse)")
    derivation = sample(grammar, random.Random(0), input=(1, 8, 8))
    planned = plan(derivation)
    bank = Bank.of([planned])
    conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(next(t for k, t in bank.tensors.items() if "conv" in k))
    for n, batch in ((256, 64), (130, 128), (258, 128), (129, 64), (100, 512)):
        x = DIGITS.splits().train.x[:n].cumsum(0)  # samples that differ from first to last
        (found,) = [s for s in batch_statistics(planned, bank.views(planned), x, batch=batch) if s]
        with torch.no_grad():
            var, mean = torch.var_mean(conv(x).double(), (0, 2, 3), correction=0)
        torch.testing.assert_close(found["running_mean"].double(), mean, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found["running_var"].double(), var, rtol=1e-4, atol=1e-3)


def test_every_epoch_sees_every_item_once_in_another_order() -> None:
    batches = Batches(100, 25, seed=3)
    first = torch.cat([batches.at(i) for i in range(4)])
    second = torch.cat([batches.at(i) for i in range(4, 8)])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()
    assert torch.equal(Batches(100, 25, seed=3).at(5), batches.at(5))


def test_two_ways_of_doing_something_are_no_sizes_of_one_thing() -> None:
    grammar = Grammar.parse("net = conv(4) (relu | gelu) (conv(4) | identity) output(coarse)")
    chosen = Space(grammar, DIGITS.input).draw(random.Random(0)).choices
    assert [order(c.site, c.options) for c in chosen] == [None, [1, 0]]
