"""Random derivations of einspace are valid by construction and come quickly.

2,000 derivations with seeds 0, 1, … at a cap of 500 instantiated operators, CPU time on one thread:
the first 500, while what shapes come to is still being learned, and the rest. A node is a choice or
an operator before copies are written out. Each is then typed again from its labels. Mutations are
of derivations of 20 to 200 operators, and of the seeds ResNet18 and ViT. Parameters and FLOPs are
those of the drawn derivations, counted again. A fixed loop of plain Python is timed beside them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from measure import report

from nas.grammar import Derivation, Grammar, GrammarError, Limits, mutate, replay, sample
from nas.grammar import seed as known
from nas.grammar.tokens import operators
from nas.op import Shape

SEED, DRAWN, FIRST, MUTATED = 0, 2_000, 500, 200
LIMITS = Limits(500)
INPUTS = ("3x32x32", "1x28x28", "12x8x8", "4x64")
SEEDS = ("resnet18", "vit")


def main() -> None:
    rows = [row(text) for text in INPUTS]
    worst = max(rows, key=lambda one: one["µs a node"])
    seeds = " and ".join(f"{name} {rows[0][name + ' ms']:.0f}" for name in SEEDS)
    counted = max(one["cost µs a node"] for one in rows)
    report(
        "derive",
        __doc__,
        seeds=[SEED],
        rows=rows,
        aim="0 invalid; at most 20 µs a node and 2 ms a derivation; a mutation at most 1 ms",
        figure=f"{sum(one['invalid'] for one in rows)} invalid of {len(rows) * DRAWN:,}; at worst "
        f"({worst['input']}) {worst['µs a node']:.0f} µs a node, {worst['ms each']:.1f} ms a "
        f"derivation (median {worst['median ms']:.1f}, p99 {worst['p99 ms']:.0f}); a mutation "
        f"{max(one['mutation ms'] for one in rows):.1f} ms, of {seeds} ms; parameters and FLOPs "
        f"{counted:.1f} µs a node; no child equal to its parent",
    )


def row(text: str) -> dict[str, Any]:
    """Figures of one input; times are of all but the first."""
    grammar, shape = Grammar.load("einspace"), Shape.read(text)
    drawn, seconds = [], []
    for seed in range(DRAWN):
        taken, one = timed(
            lambda s=seed: sample(  # type: ignore[misc]
                grammar, random.Random(s), input=shape, limits=LIMITS
            )
        )
        drawn.append(one)
        seconds.append(taken)
    nodes = [len(one.choices) + operators(one.tokens, copies=False) for one in drawn]
    later = sorted(seconds[FIRST:])
    middling = [d for d in drawn if 20 <= d.size <= 200][:MUTATED]
    children = [
        (one, *timed(lambda d=one: mutate(d, random.Random(SEED), limits=LIMITS)))  # type: ignore[misc]
        for one in middling
    ]
    counted, _ = timed(lambda: [one.cost for one in drawn])
    return {
        "input": text,
        "invalid": sum(not typed(one) for one in drawn),
        "µs a node": 1e6 * sum(later) / sum(nodes[FIRST:]),
        "ms each": 1e3 * statistics.mean(later),
        "median ms": 1e3 * statistics.median(later),
        "p99 ms": 1e3 * later[int(0.99 * len(later))],
        "first ms": 1e3 * statistics.mean(seconds[:FIRST]),
        "mutation ms": 1e3 * statistics.median(taken for _, taken, _ in children),
        "mean mutation ms": 1e3 * statistics.mean(taken for _, taken, _ in children),
        **{
            f"{name} ms": seed_mutation(grammar, name) if text == INPUTS[0] else None
            for name in SEEDS
        },
        "cost µs a node": 1e6 * counted / sum(nodes),
        "same": sum(child.derivation == parent for parent, _, child in children),
        "loop ms": 1e3 * timed(loop)[0],
    }


def seed_mutation(grammar: Grammar, name: str) -> float:
    """The median of 200 mutations of a seed, in milliseconds."""
    parent = known(grammar, name, input=(3, 32, 32))
    return 1e3 * statistics.median(
        timed(lambda s=number: mutate(parent, random.Random(s), limits=LIMITS))[0]  # type: ignore[misc]
        for number in range(MUTATED)
    )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = call()
    return time.process_time() - begun, result


def typed(derivation: Derivation) -> bool:
    try:
        return replay(derivation.grammar, derivation.labels, input=derivation.input) == derivation
    except GrammarError:
        return False


def loop() -> int:
    total = 0
    for i in range(100_000):
        total += i % 7
    return total


if __name__ == "__main__":
    main()
