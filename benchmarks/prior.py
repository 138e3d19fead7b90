"""What einspace's sampler draws more and less often than drawing by tries would.

By tries: at each site the options that fit what arrives, by the grammar's weights, with no look at
what comes after; a draw that ends in shapes that do not fit, or exceeds CAP operators, is thrown
away. That is the published distribution given that a draw is valid. DRAWN of each, seeds 0, 1, …
"""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Sequence

from measure import report

from nas.grammar import (
    Derivation,
    Grammar,
    GrammarError,
    Limits,
    Option,
    Site,
    choose_at_random,
    sample,
)
from nas.grammar.frames import Events, Waiting
from nas.grammar.walk import Choose, Walk
from nas.op import Shape, ShapeError

INPUT, CAP, DRAWN = Shape.read("3x16x16"), 60, 2_000
RULES = ("module", "branching", "split", "pair", "merge", "routing", "reorder", "compute")


class Forward(Walk):
    """A walk that offers what fits now."""

    def _offered(self, waiting: Waiting) -> Sequence[int]:
        return [i for i in range(len(waiting.options)) if self._fits(waiting, i)]

    def _fits(self, waiting: Waiting, index: int) -> bool:
        events = Events()
        try:
            after = self.machine.advance(*waiting.state(index), events)
        except ShapeError:
            return bool(events.told)  # it is what comes later that does not fit
        return (
            bool(events.told)
            or not isinstance(after, Waiting)
            or any(self._fits(after, i) for i in range(len(after.options)))
        )


def main() -> None:
    grammar = Grammar.load("einspace")
    tried, attempts = by_tries(grammar)
    here = [
        sample(grammar, random.Random(seed), input=INPUT, limits=Limits(CAP))
        for seed in range(DRAWN)
    ]
    rows = [
        {"of 100": name, "by tries": a, "here": b, "ratio": b / a if a else None}
        for name, a, b in compared(tried, here)
    ]
    worst = min((r for r in rows if r["by tries"] > 1), key=lambda r: r["ratio"])
    report(
        "prior",
        __doc__,
        rows=rows,
        seeds=[0],
        aim="none: what the sampler costs in variety",
        figure=f"{100 * DRAWN / attempts:.0f} % of tries are valid; least often against them: "
        f"{worst['of 100']}, {worst['here']:.1f} of 100 for {worst['by tries']:.1f}",
    )


def by_tries(grammar: Grammar) -> tuple[list[Derivation], int]:
    """Valid draws, and how many were tried."""
    found: list[Derivation] = []
    attempts = 0
    while len(found) < DRAWN:
        walk = Forward(grammar, (INPUT,), None)
        try:
            one = walk.run(bounded(choose_at_random(random.Random(attempts)), walk))
            if one.size <= CAP:
                found.append(one)
        except GrammarError:
            pass
        attempts += 1
    return found, attempts


def bounded(choose: Choose, walk: Walk) -> Choose:
    """A choice that gives up beyond the cap."""

    def chosen(site: Site, options: Sequence[Option]) -> int:
        if walk.trace.spent.terminals > CAP or len(walk.trace.choices) > 4 * CAP:
            raise GrammarError("too large")
        return choose(site, options)

    return chosen


def compared(a: list[Derivation], b: list[Derivation]) -> list[tuple[str, float, float]]:
    """Shares of each rule's options in per cent, of branches that differ, and sizes."""
    rows = []
    for rule in RULES:
        counts = [
            Counter(c.label for d in some for c in d.choices if c.site.rule == rule)
            for some in (a, b)
        ]
        for label in sorted(counts[0] | counts[1]):
            rows.append((f"{rule} → {label}", *(100 * n[label] / n.total() for n in counts)))
    rows.append(("brackets of two whose branches differ", differing(a), differing(b)))
    for share in (0.25, 0.5, 0.75, 0.9):
        rows.append(
            (
                f"{share:.0%} quantile of size (operators)",
                *(float(sorted(d.size for d in some)[int(share * len(some))]) for some in (a, b)),
            )
        )
    rows.append(
        ("mean size (operators)", *(statistics.mean(d.size for d in some) for some in (a, b)))
    )
    return rows  # type: ignore[return-value]


def differing(some: list[Derivation]) -> float:
    """Per cent of brackets of two modules in which the second does not repeat the first."""
    found = [
        below(one, f"{c.site.place}/module.0") != below(one, f"{c.site.place}/module.1")
        for one in some
        for c in one.choices
        if c.site.rule == "branching" and c.label.startswith("split")
    ]
    return 100 * statistics.mean(found)


def below(one: Derivation, place: str) -> list[str]:
    return [c.label for c in one.choices if f"{c.site.place}/".startswith(f"{place}/")]


if __name__ == "__main__":
    main()
