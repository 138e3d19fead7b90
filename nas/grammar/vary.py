"""Variation: a derivation that differs from its parents in one place, always valid.

A child is derived like anything else, led by its parents' labels: where a label no longer fits
what came before it, another is drawn. So whatever follows a change is typed anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas.grammar import nodes
from nas.grammar.derivation import Chosen, Derivation, Input
from nas.grammar.derive import Weigh, choose_at_random, derive
from nas.grammar.error import GrammarError
from nas.grammar.frames import Site
from nas.grammar.limits import Limits
from nas.grammar.nodes import Decision, Fork, Multiple, Node, Way
from nas.grammar.options import Option
from nas.grammar.resume import rederive
from nas.grammar.walk import memory_of
from nas.op import Shape

TRIES = 50
HOPS = 6  # rules between a rule and itself, where one is put around another


@dataclass(frozen=True)
class Variation:
    """A child, and where its parts come from.

    `moves` lists (path here, parent, path there): what lies below the first continues what lay
    below the last in the parent of that number. `fresh` is the path of what is new, if any.
    """

    derivation: Derivation
    kind: str  # regrow, swap, insert, delete, cross
    moves: tuple[tuple[str, int, str], ...]
    fresh: str | None = None

    def origin(self, path: str) -> tuple[int, str] | None:
        """The parent's number and the path there that a path here continues; None for new."""
        return origin(self.moves, self.fresh, path)


def mutate(
    derivation: Derivation,
    rng: random.Random,
    *,
    input: Input | None = None,
    limits: Limits | None = None,
    weigh: Weigh | None = None,
) -> Variation:
    """A child that differs from its parent: a part grown anew, an option swapped, something put
    around a part, or a part replaced by one inside it. What is new is drawn by the grammar's
    weights, or as `weigh` says.

    Raises GrammarError where nothing of the derivation can be otherwise.
    """
    for _ in range(TRIES):
        chosen = rng.choice(derivation.choices)
        kinds: list[_Kind] = [_regrow, _swap]
        if _is_rule(chosen):
            kinds += [_insert, _delete]
        planned = rng.choice(kinds)(derivation, chosen, rng)
        if planned is None:
            continue
        child = planned.derive((derivation,), rng, input, limits, weigh)
        labels = planned.labels
        set_so = not labels or labels.items() <= child.derivation.by_site.items()
        if set_so and child.derivation != derivation:
            return child
    raise GrammarError(f"nothing of {derivation!r} was found that can be otherwise")


def cross(
    a: Derivation,
    b: Derivation,
    rng: random.Random,
    *,
    input: Input | None = None,
    limits: Limits | None = None,
    weigh: Weigh | None = None,
) -> Variation:
    """A child of `a` in which a part is taken from `b`; it equals neither.

    Raises GrammarError where no part of one fits into the other and makes a difference.
    """
    there = dict[str, list[str]]()
    for chosen in b.choices:
        if _is_rule(chosen):
            there.setdefault(chosen.site.rule, []).append(str(chosen.site.place))
    places = [c.site for c in a.choices if _is_rule(c) and c.site.rule in there]
    for _ in range(TRIES if places else 0):
        site = rng.choice(places)
        moves = ((str(site.place), 1, rng.choice(there[site.rule])), ("", 0, ""))
        child = _Planned("cross", moves).derive((a, b), rng, input, limits, weigh)
        if child.derivation not in (a, b):
            return child
    raise GrammarError(f"no part of {b!r} makes a difference in {a!r}")


@dataclass(frozen=True)
class _Planned:
    """A child in the making: where labels come from, those that are set, and what is new."""

    kind: str
    moves: tuple[tuple[str, int, str], ...]
    fresh: str | None = None
    labels: Mapping[str, str] | None = None
    unlike: str = ""  # a site that must choose otherwise

    def derive(
        self,
        parents: Sequence[Derivation],
        rng: random.Random,
        input: Input | None,
        limits: Limits | None,
        weigh: Weigh | None,
    ) -> Variation:
        draw = choose_at_random(rng, weigh)
        known = [dict(zip(p.by_site, p.choices, strict=True)) for p in parents]

        def choose(site: Site, options: Sequence[Option]) -> int:
            names = [option.label for option in options]
            name = site.name
            led = self._inherited(known, name)
            wanted = (self.labels or {}).get(name) or (led.label if led else None)
            if name == self.unlike:
                others = [i for i, label in enumerate(names) if label != wanted]
                if others:
                    return others[draw(site, [options[i] for i in others])]
            return names.index(wanted) if wanted in names else draw(site, options)

        def led(site: Site) -> Chosen | None:
            name = site.name
            set_anew = name == self.unlike or (self.labels and name in self.labels)
            return None if set_anew else self._inherited(known, name)

        grammar = parents[0].grammar
        shape = parents[0].input if input is None else Shape.of(input)
        child = None
        if not grammar.finite and shape == parents[0].input:
            child = rederive(parents[0], self._first(parents[0]), led, choose, limits)
        if child is None:
            child = derive(grammar, choose, input=shape, limits=limits)
        return Variation(child, self.kind, self.moves, self.fresh)

    def _first(self, parent: Derivation) -> int:
        """The number of the parent's first choice that may be otherwise."""
        if self.unlike:
            return list(parent.by_site).index(self.unlike)
        root = self.fresh if self.fresh is not None else self.moves[0][0]
        return next(
            i for i, chosen in enumerate(parent.choices) if _below(str(chosen.site.place), root)
        )

    def _inherited(self, known: Sequence[Mapping[str, Chosen]], name: str) -> Chosen | None:
        source = origin(self.moves, self.fresh, name)
        return None if source is None else known[source[0]].get(source[1].lstrip(":/"))


def origin(
    moves: tuple[tuple[str, int, str], ...], fresh: str | None, path: str
) -> tuple[int, str] | None:
    """The parent's number and the path there that a path continues; None for what is new."""
    for here, parent, there in moves:
        if here == "" and fresh is not None and _below(path, fresh):
            return None
        if _below(path, here):
            return parent, there + path[len(here) :]
    return None


def _below(path: str, root: str) -> bool:
    return not root or (path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/", ":"))


def _is_rule(chosen: Chosen) -> bool:
    """Whether a whole rule begins here, and not a part of its body."""
    return chosen.site.suffix == f":{chosen.site.rule}"


WHOLE = (("", 0, ""),)
_Kind = Callable[[Derivation, Chosen, random.Random], "_Planned | None"]


def _regrow(derivation: Derivation, chosen: Chosen, rng: random.Random) -> _Planned:
    return _Planned("regrow", WHOLE, fresh=str(chosen.site.place))


def _swap(derivation: Derivation, chosen: Chosen, rng: random.Random) -> _Planned:
    return _Planned("swap", WHOLE, unlike=chosen.site.name)


def _insert(derivation: Derivation, chosen: Chosen, rng: random.Random) -> _Planned | None:
    """The rule around itself: what was here is now inside, and what is beside it is new."""
    place, rule = str(chosen.site.place), chosen.site.rule
    ways = _around(derivation, rule)
    if not ways:
        return None
    labels, inner = rng.choice(ways)
    here = {f"{place}{at}".lstrip(":/"): label for at, label in labels.items()}
    moves = ((f"{place}{inner}".lstrip("/"), 0, place), *WHOLE)
    return _Planned("insert", moves, fresh=place, labels=here)


def _delete(derivation: Derivation, chosen: Chosen, rng: random.Random) -> _Planned | None:
    """A rule replaced by the same rule inside it."""
    place, rule = str(chosen.site.place), chosen.site.rule
    inside = [
        str(c.site.place)
        for c in derivation.choices
        if c.site.rule == rule
        and _is_rule(c)
        and c is not chosen
        and _below(str(c.site.place), place)
    ]
    if not inside:
        return None
    return _Planned("delete", ((place, 0, rng.choice(inside)), *WHOLE))


_Around = tuple[dict[str, str], str]


def _around(derivation: Derivation, rule: str) -> list[_Around]:
    """Ways from a rule to itself: labels by site and the inner path, both from the rule's place."""
    memory = memory_of(derivation.grammar)
    key = f"around {rule}"
    if key not in derivation.grammar.memory:
        body = derivation.grammar.rules[rule]
        ways: list[_Around] = []
        if not body.params and not body.captures:
            node = memory.machine.compiler.node(body.body, (), rule)
            ways = list(_to(node, node, {}, "", HOPS))
        derivation.grammar.memory[key] = ways
    found_before: list[_Around] = derivation.grammar.memory[key]
    return found_before


def _to(goal: Node, node: Node, labels: dict[str, str], path: str, hops: int) -> Iterator[_Around]:
    """Labels and path by which `node` comes to `goal`."""
    if not hops:
        return

    def through(way: Way, labels: dict[str, str], path: str) -> Iterator[_Around]:
        for child, part in way:
            inner = f"{path}/{child}" if child else path
            if part is goal:
                yield labels, inner
            else:
                yield from _to(goal, part, labels, inner, hops - 1)

    if isinstance(node, Decision):
        for index, option in enumerate(node.options):
            yield from through(node.way(index), {**labels, path + node.suffix: option.label}, path)
    elif isinstance(node, nodes.Sequence):
        yield from through(node.way(), labels, path)
    elif isinstance(node, Fork):
        for index in range(node.width):
            yield from through(node.way(index), labels, path)
    elif isinstance(node, Multiple):
        yield from through(node.way(), labels, f"{path}/{node.child}")
