"""What earlier tasks teach: what is tried first, how options are weighted, when that fades."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.front import Objective
from nas.grammar import Derivation, Grammar, GrammarError, Limits, mutate, sample
from nas.grammar.count import enumerate_all
from nas.grammar.weighted import structure, weighted
from nas.search import TreeSampler
from nas.search.breed import FILTERED, Child, Taught
from nas.search.columns import Aim
from nas.search.earlier import FADES, Earlier, Lessons
from nas.search.propose import Proposer
from nas.supernet import Space

INPUT = (1, 8, 8)
SPACE = Grammar.parse(
    "net = edge edge edge edge edge output(coarse)\nedge = relu | tanh | silu | gelu | sigmoid",
    name="edges",
)
OPEN = Grammar.parse(
    "net = part output(coarse)\npart = conv(4) | relu | part part | clone(2) [part; part] add",
    name="open",
)
Loss = Callable[[Derivation], float]


def near(best: str) -> Loss:
    """At how many sites something else is chosen than a word says, each site weighing otherwise."""
    wanted = best.split()
    return lambda derivation: sum(
        (2 + i) / 3 * (label != want)
        for i, (label, want) in enumerate(zip(derivation.labels, wanted, strict=True))
    )


def noise(derivation: Derivation) -> float:
    return random.Random(str(derivation)).random()


def earlier(loss: Loss, seed: int, n: int = 150) -> Earlier:
    rng = random.Random(seed)
    derivations = list(dict.fromkeys(sample(SPACE, rng, input=INPUT) for _ in range(n)))
    return Earlier(f"{seed}", tuple(derivations), tuple(map(loss, derivations)))


BEST = "tanh silu relu gelu gelu"
ALIKE = Lessons((earlier(near(BEST), 1), earlier(near("tanh silu relu gelu relu"), 2)))
NOISE = Lessons((earlier(noise, 3),))


def rugged(seed: int) -> Loss:
    """What every two sites together are worth, tables that are alike for all seeds."""
    table = np.random.default_rng(0).normal(size=(5,) * 4)
    table += 0.5 * np.random.default_rng(seed).normal(size=(5,) * 4) if seed else 0
    names = ["relu", "tanh", "silu", "gelu", "sigmoid"]

    def loss(derivation: Derivation) -> float:
        at = [names.index(label) for label in derivation.labels]
        return -float(sum(table[i, j, at[i], at[j]] for i in range(5) for j in range(i + 1, 5)))

    return loss


def evaluations(sampler: str, lessons: Lessons | None, seed: int, most: int = 200) -> int:
    """Until one of the best four of 3,125 is found."""
    proposer = Proposer(
        Space(SPACE, INPUT),
        sampler,
        [Aim((Objective("worth", True),))],
        seed=seed,
        population=20,
        lessons=lessons,
    )
    loss, seen = rugged(0), set[Derivation]()
    enough = sorted(map(loss, enumerate_all(SPACE, input=INPUT)))[3]
    while len(seen) < most:
        for proposal in [proposer.ask() for _ in range(20)]:
            seen.add(proposal.derivation)
            value = loss(proposal.derivation)
            if value <= enough:
                return len(seen)
            proposer.tell(proposal, {"worth": -value})
    return most


@pytest.mark.parametrize(("sampler", "share"), [("predicted", 0.7), ("tree", 0.85)])
def test_tasks_that_are_alike_save_evaluations(sampler: str, share: float) -> None:
    lessons = Lessons(tuple(earlier(rugged(seed), seed) for seed in (1, 2, 3)))
    plain, taught = (
        sum(evaluations(sampler, given, seed) for seed in range(6)) for given in (None, lessons)
    )
    assert taught < share * plain


@pytest.mark.parametrize("sampler", ["predicted", "tree", "evolution", "random", "tpe", "nsga2"])
def test_every_sampler_begins_with_what_was_best_before(sampler: str) -> None:
    aims = [Aim((Objective("worth", True),))]
    words = {"seed": 0, "population": 20, "lessons": ALIKE}
    proposer = Proposer(Space(SPACE, INPUT), sampler, aims, **words)  # type: ignore[arg-type]
    proposed = [proposer.ask().derivation for _ in range(12)]
    assert set(ALIKE.first(lambda d: True, 10, False)) <= set(proposed)


def test_a_task_that_tells_nothing_is_left_out() -> None:
    assert NOISE.earlier[0].predictor is None
    assert NOISE.first(lambda d: True, 10, False) == []
    assert evaluations("predicted", NOISE, 0) == evaluations("predicted", None, 0)


def test_what_is_tried_first_is_what_all_together_say_is_best() -> None:
    first = ALIKE.first(lambda d: True, 10, False)
    both = [near(BEST), near("tanh silu relu gelu relu")]
    every = {d for task in ALIKE.earlier for d in task.derivations}
    ranks = sorted(sum(loss(d) for loss in both) for d in every)
    assert sum(sum(loss(d) for loss in both) <= ranks[20] for d in first) >= 7
    kept = ALIKE.first(lambda d: d.labels[0] == "gelu", 3, False)
    assert kept and {d.labels[0] for d in kept} == {"gelu"}


def test_what_is_tried_first_lies_along_the_flops_where_these_are_judged() -> None:
    grammar = Grammar.parse("net = conv({2, 4, 8, 16}, kernel={1, 3, 5}) output(coarse)", name="c")
    every = list(enumerate_all(grammar, input=INPUT)) * 2
    losses = tuple(-float(d.cost.params) for d in every)
    first = Lessons((Earlier("a", tuple(every), losses),)).first(lambda d: True, 4, True)
    flops = sorted(d.cost.flops for d in first)
    ends = sorted(d.cost.flops for d in every)
    assert (flops[0], flops[-1]) == (ends[0], ends[-1]) and len(set(flops)) == 4


def test_options_are_weighted_by_what_the_best_chose_and_less_the_more_is_known() -> None:
    rng = random.Random(0)
    known = [sample(SPACE, rng, input=INPUT) for _ in range(200)]
    shares = []
    for n in (0, 40, 200):
        weigh, _ = ALIKE.taught(known[:n], list(map(near(BEST), known[:n])), False)
        assert weigh is not None
        draws = [sample(SPACE, rng, input=INPUT, weigh=weigh).labels[3] for _ in range(900)]
        shares.append(draws.count("gelu") / len(draws))
        (chosen, *_) = known[0].choices
        assert sum(weigh(chosen.site, chosen.options)) == pytest.approx(1)
    assert shares[0] > 0.32 and shares[0] > shares[1] > shares[2] > 0.18


def test_tasks_that_turn_out_unlike_weigh_nothing() -> None:
    rng = random.Random(1)
    known = [sample(SPACE, rng, input=INPUT) for _ in range(60)]
    opposite = [-near(BEST)(derivation) for derivation in known]
    assert ALIKE.taught(known, opposite, False) == (None, None)
    assert max(ALIKE.alike(known, opposite)) < 0
    mixed = Lessons((*ALIKE.earlier, earlier(near("gelu gelu gelu relu relu"), 5)))
    weigh, _ = mixed.taught(known, list(map(near(BEST), known)), False)
    share, (first, *_) = FADES / (FADES + 60), known[0].choices
    assert weigh is not None
    chances = dict(
        zip((o.label for o in first.options), weigh(first.site, first.options), strict=True)
    )
    assert chances["tanh"] > chances["gelu"] < 0.2 + share / 5


def test_of_some_children_the_best_are_proposed_by_what_alike_tasks_say() -> None:
    rng = random.Random(3)
    known = [sample(SPACE, rng, input=INPUT) for _ in range(60)]
    _, judge = ALIKE.taught(known, list(map(near(BEST), known)), False)
    assert judge is not None
    fresh = [sample(SPACE, rng, input=INPUT) for _ in range(200)]
    scores = [score for (score,) in judge(fresh)]
    assert float(kendalltau(scores, list(map(near(BEST), fresh)))[0]) > 0.5
    _, along = ALIKE.taught(known, list(map(near(BEST), known)), True)
    assert along and [point[1] for point in along(fresh)] == [d.cost.flops for d in fresh]
    sampler = TreeSampler(0)
    sampler._taught = Taught(None, judge)
    children = [Child(derivation, (0,)) for derivation in fresh[:FILTERED]]
    ordered = [child.derivation for child in sampler._best(iter(children))]
    assert ordered == sorted(fresh[:FILTERED], key=lambda d: judge([d])[0])
    draws = [Child(derivation) for derivation in fresh[:FILTERED]]
    assert list(sampler._best(iter(draws))) == draws  # chance is not led
    sampler._taught = Taught()
    assert [child.derivation for child in sampler._best(iter(children))] == fresh[:FILTERED]


def test_nothing_is_judged_before_tasks_are_known_to_be_alike() -> None:
    known = [sample(SPACE, random.Random(4), input=INPUT) for _ in range(9)]
    assert ALIKE.taught(known, list(map(near(BEST), known)), False).judge is None


def test_children_follow_the_weights_too() -> None:
    parent = sample(SPACE, random.Random(0), input=INPUT)
    weigh = ALIKE.mixed([1, 1], 1.0)
    rng, changed = random.Random(2), Counter[str]()
    for _ in range(400):
        child = mutate(parent, rng, weigh=weigh).derivation
        (at,) = [i for i in range(5) if child.labels[i] != parent.labels[i]]
        changed[child.labels[at]] += at == 2 and parent.labels[2] != "relu"
    assert changed["relu"] > 2 * max(n for label, n in changed.items() if label != "relu")


def test_open_spaces_are_drawn_within_their_limits_whatever_was_learned() -> None:
    limits, rng = Limits(24), random.Random(0)
    drawn = [sample(OPEN, rng, input=INPUT, limits=limits) for _ in range(80)]
    task = Earlier("o", tuple(drawn), tuple(-float(len(d.choices)) for d in drawn))
    weigh = Lessons((task,)).mixed([1.0], 1.0)
    plain = [len(sample(OPEN, rng, input=INPUT, limits=limits).choices) for _ in range(200)]
    larger = [
        len(sample(OPEN, rng, input=INPUT, limits=limits, weigh=weigh).choices) for _ in range(200)
    ]
    assert sum(larger) > 1.5 * sum(plain)


def test_the_learned_grammar_is_the_same_space_drawn_otherwise() -> None:
    learned = weighted(SPACE, ALIKE.shares)
    assert structure(learned) == structure(SPACE) and learned.hash != SPACE.hash
    again = Grammar.parse(learned.text, name="again")
    assert again.text == learned.text
    best = [label for task in ALIKE.earlier for d in task.best for label in d.labels]
    rng = random.Random(0)
    drawn = [label for _ in range(800) for label in sample(again, rng, input=INPUT).labels]
    for label in ("relu", "sigmoid"):
        wanted = 0.75 * best.count(label) / len(best) + 0.05
        assert drawn.count(label) / len(drawn) == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("name", ["mobile", "vit", "fbnetv5-small", "tdnn-small", "einspace"])
def test_every_shipped_space_can_be_written_with_what_was_learned(name: str) -> None:
    grammar = Grammar.load(name)
    input = (40, 60) if name == "tdnn-small" else (1, 16, 16)
    rng = random.Random(0)
    drawn = [sample(grammar, rng, input=input) for _ in range(30)]
    task = Earlier(name, tuple(drawn), tuple(rng.random() for _ in drawn))
    learned = weighted(grammar, Lessons((task,)).shares)
    assert structure(learned) == structure(grammar)
    assert re.search(r"\d: |: 0\.\d", learned.text)
    derivation = sample(learned, rng, input=input)
    assert Derivation.read(str(derivation), learned) == derivation
    assert structure(weighted(learned, lambda rule, suffix: {})) == structure(grammar)


def test_a_site_of_which_not_all_options_are_known_stays_as_it_is() -> None:
    shares = {"relu": 0.5, "tanh": 0.5}
    assert weighted(SPACE, lambda rule, suffix: shares).text == SPACE.text
    with pytest.raises(GrammarError):
        Grammar.parse("net = conv({4, 8: 0.5}) output(coarse)", name="bad")


def test_of_short_runs_a_few_are_the_best() -> None:
    assert [len(earlier(near(BEST), 1, n).best) for n in (15, 60, 150)] == [5, 6, 15]


def test_likeness_is_told_by_metrics_wherever_they_stand() -> None:
    costs = (Objective("flops", False), Objective("worth", True), Objective("other", True))
    proposer = Proposer(
        Space(SPACE, INPUT), "tree", [Aim(costs)], seed=0, population=20, lessons=ALIKE
    )
    for _ in range(40):
        proposal = proposer.ask()
        value = -near(BEST)(proposal.derivation)
        proposer.tell(proposal, {"flops": -value, "worth": value, "other": 2 * value})
    assert proposer.agreement["earlier runs"] > 0.5
