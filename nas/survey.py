"""What a space holds: counts, ranges and examples, for `nas check`."""

from __future__ import annotations

import random
import statistics
from typing import Any

from nas.grammar import Derivation, Grammar, sample
from nas.grammar.count import count, extreme
from nas.op import Shape
from nas.plan import plan


def survey(space: str, input: str, *, samples: int = 200, show: int = 3) -> dict[str, Any]:
    """Counts, ranges of FLOPs, params and depth, and a few derivations of a space.

    A finite space's FLOPs and params range between its exact extremes; medians, depths and an
    open space's ranges are those of `samples` random derivations with seeds 0, 1, ….
    """
    grammar, shape = Grammar.load(space), Shape.read(input)
    drawn = [sample(grammar, random.Random(i), input=shape) for i in range(max(1, samples))]
    plans = [plan(derivation) for derivation in drawn]
    rows = []
    for quantity in ("flops", "params", "depth"):
        values = [getattr(one, quantity) for one in plans]
        low, high = min(values), max(values)
        if grammar.finite and quantity != "depth":
            ends = [extreme(grammar, input=shape, of=quantity, largest=x) for x in (False, True)]
            low, high = (getattr(plan(end), quantity) for end in ends)
        rows.append({"quantity": quantity, "smallest": low,
                     "median": statistics.median(values), "largest": high})  # fmt: skip
    number = f"{count(grammar, input=shape):,}" if grammar.finite else "endlessly many"
    return {
        "space": space, "input": input, "architectures": number, "hash": grammar.hash,
        "samples": len(drawn), "distinct": len({str(d) for d in drawn}), "ranges": rows,
        "examples": [_example(d) for d in drawn[:show]],
    }  # fmt: skip


def _example(derivation: Derivation) -> str:
    return f"{derivation}\n  = {derivation.network_text}"
