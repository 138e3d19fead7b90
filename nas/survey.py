"""What a space holds: counts, ranges and examples, for `nas check`."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from math import inf, log10
from pathlib import Path
from typing import Any

from nas.grammar import Derivation, Grammar, GrammarError, read_network, replay, sample, seed
from nas.grammar.count import count, extreme
from nas.grammar.growth import growth
from nas.grammar.tokens import operators
from nas.op import Shape, ShapeError
from nas.plan import Plan, plan

Listener = Callable[[int, int], None]
DRAWING_S = 3.0  # after which there are no more random derivations
MOST_DRAWN = 60_000  # operators and choices of all random derivations together
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


def survey(
    space: str,
    input: str,
    *,
    samples: int = 200,
    show: int = 3,
    listener: Listener | None = None,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Counts, ranges of FLOPs, params, size and depth, and a few derivations of a space.

    A finite space's FLOPs and params range between its exact extremes; all else is of `samples`
    random derivations with seeds 0, 1, …: how many are invalid when typed again, trivial, or an
    architecture met before; quantiles; microseconds of CPU time a node of a derivation (a choice,
    or an operator before copies are written out). Of a recursive grammar also how it grows, and
    of one with seeds what they cost, or why one does not fit the input.
    """
    grammar, shape = Grammar.load(space, trust_code=trust_code), Shape.read(input)
    derivations, seconds = _drawn(grammar, shape, max(1, samples), listener)
    plans = [typed for derivation in derivations if (typed := _typed(derivation)) is not None]
    values = {
        "flops": [network.flops for network in plans],
        "params": [network.params for network in plans],
        "operators": [derivation.size for derivation in derivations],
        "depth": [network.depth for network in plans],
    }
    nodes = sum(len(d.choices) + operators(d.tokens, copies=False) for d in derivations)
    facts: dict[str, Any] = {
        "space": space,
        "input": input,
        "hash": grammar.hash,
        "architectures": _many(count(grammar, input=shape)) if grammar.finite else "endlessly many",
        "samples": len(derivations),
        "invalid": len(derivations) - len(plans),
        "trivial": sum(bool(network.trivial) for network in plans),
        "duplicates": len(plans) - len({network.fingerprint for network in plans}),
        "us_per_node": round(1e6 * seconds / nodes, 2),
        "ranges": [_range(grammar, shape, name, of) for name, of in values.items()],
        "quantiles": {name: _quantiles(of) for name, of in values.items()},
        "examples": [_example(derivation) for derivation in derivations[:show]],
    }
    if not grammar.finite:
        facts["growth"] = _growth(grammar)
    if grammar.seeds:
        facts["seeds"] = [_seed(grammar, name, shape) for name in grammar.seeds]
    return facts


def _drawn(
    grammar: Grammar, input: Shape, samples: int, listener: Listener | None
) -> tuple[list[Derivation], float]:
    """Random derivations, fewer where they are large or slow, and the seconds that they took."""
    derivations: list[Derivation] = []
    begun, size = time.process_time(), 0
    for number in range(samples):
        derivation = sample(grammar, random.Random(number), input=input)
        derivations.append(derivation)
        size += derivation.size + len(derivation.choices)
        if listener:
            listener(number + 1, samples)
        if size > MOST_DRAWN or time.process_time() - begun > DRAWING_S:
            break
    return derivations, time.process_time() - begun


def _range(grammar: Grammar, input: Shape, name: str, values: Sequence[float]) -> dict[str, Any]:
    """A row of the ranges: of FLOPs and params in a finite space from end to end of it."""
    smallest, largest = min(values), max(values)
    if grammar.finite and name in ("flops", "params"):
        ends = (
            extreme(grammar, input=input, of=name, largest=largest) for largest in (False, True)
        )
        smallest, largest = (getattr(plan(end), name) for end in ends)
    median = statistics.median(values)
    return {"quantity": name, "smallest": smallest, "median": median, "largest": largest}


def _many(n: int) -> str:
    """A count as a person reads it; of one that fills a page only its size."""
    return f"{n:,}" if n < 10**100 else f"about 10^{int(n.bit_length() * log10(2))}"


def _seed(grammar: Grammar, name: str, input: Shape) -> dict[str, Any]:
    try:
        network = plan(seed(grammar, name, input=input))
    except GrammarError as error:
        return {"seed": name, "refused": str(error)}
    return {"seed": name, "params": network.params, "flops": network.flops, "depth": network.depth}


def read(space: str, input: str, file: str | Path, *, trust_code: bool = False) -> dict[str, Any]:
    """The derivation of the network written in a file, its operators, params and FLOPs.

    Raises GrammarError where it does not fit its input or the space's rules."""
    grammar, shape = Grammar.load(space, trust_code=trust_code), Shape.read(input)
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise GrammarError(f"{file}: cannot be read: {error.strerror}") from None
    derivation = read_network(grammar, text, input=shape, name=str(file))
    network = plan(derivation)
    return {
        "derivation": str(derivation),
        "network": derivation.network_text,
        "params": network.params,
        "flops": network.flops,
    }


def _typed(derivation: Derivation) -> Plan | None:
    """The plan of a derivation replayed from its labels; None where that is not the same."""
    try:
        again = replay(derivation.grammar, derivation.labels, input=derivation.input)
        return plan(again) if again == derivation else None
    except (GrammarError, ShapeError):
        return None


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"{share:.0%}": ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        for share in QUANTILES
    }


def _growth(grammar: Grammar) -> dict[str, Any]:
    try:
        grown = growth(grammar)
    except ValueError as error:
        return {"by_derivation": inf, "by_instantiation": inf, "warning": str(error)}
    facts = {"by_derivation": grown.by_derivation, "by_instantiation": grown.by_instantiation}
    if not grown.tighten:
        return {**facts, "mean_operators": grown.size}
    return {
        **facts,
        "warning": (
            f"without limits the mean size is infinite: what {grown.tighten!r} derives to counts "
            f"{grown.by_instantiation:.2f} of its kind on average, copies included; give its "
            "alternatives that end more weight"
        ),
    }


def _example(derivation: Derivation) -> str:
    return f"{derivation}\n  = {derivation.network_text}"
