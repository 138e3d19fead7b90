"""What the options of a site are: sizes of one thing, small to large, and of which dimension."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from nas.grammar import Grammar, Option, Site
from nas.grammar.rules import Call, Elastic, Name, calls_in, counts_in, names_in

Dimension = Literal["resolution", "kernel", "depth", "width"]
ELASTIC, REPEATED = re.compile(r"\w+=(-?\d+(?:\.\d+)?)"), re.compile(r"x(\d+)")


def order(site: Site, options: Sequence[Option]) -> list[int] | None:
    """The options' numbers from small to large, where they are sizes of one thing: an elastic
    size, repetitions, or to do nothing beside one thing done; None where they are not."""
    labels = [option.label for option in options]
    every = [_size(site, label, labels) for label in labels]
    sizes = [size for size in every if size is not None]
    if len(sizes) < len(options):
        return None
    return sorted(range(len(options)), key=sizes.__getitem__)


def _size(site: Site, label: str, among: Sequence[str]) -> float | None:
    if site.suffix.endswith(":repeat") and (times := REPEATED.fullmatch(label)):
        return float(times[1])
    if elastic := ELASTIC.fullmatch(label):
        return float(elastic[1])
    skips = len(among) == 2 and "identity" in among
    return float(label != "identity") if skips else None


def dimension(grammar: Grammar, site: Site, options: Sequence[Option]) -> Dimension:
    """What a site decides: an input's `resolution` (sizes that no parameter hangs on), a `kernel`,
    `depth` (repetitions, and what is done at all), or `width`, which is every other size."""
    if not ELASTIC.fullmatch(options[0].label):
        return "depth"
    name, within = site.suffix.lstrip(":"), grammar.rules[site.rule]
    reached = {
        end
        for call in calls_in(within.body)
        for at, (_, value) in enumerate(call.args)
        if isinstance(value, Elastic) and _named(grammar, call, at) == name
        for end in _ends(grammar, call.name, name, frozenset())
    }
    dimensions: tuple[Dimension, ...] = ("resolution", "kernel", "depth")
    return next((dimension for dimension in dimensions if dimension in reached), "width")


def _named(grammar: Grammar, call: Call, at: int) -> str:
    """The name of a call's argument, where it is given by its place."""
    if call.args[at][0]:
        return call.args[at][0]
    rule = grammar.rules.get(call.name)
    return rule.params[at][0] if rule else grammar.operators[call.name].args[at].name


def _ends(grammar: Grammar, callee: str, name: str, seen: frozenset[str]) -> Iterator[Dimension]:
    """What an argument comes to, followed through the rules that hand it on."""
    rule = grammar.rules.get(callee)
    if rule is None:
        yield next(arg.decides for arg in grammar.operators[callee].args if arg.name == name)
    elif callee not in seen:
        if any(name in names_in(count) for count in counts_in(rule.body)):
            yield "depth"
        for call in calls_in(rule.body):
            for at, (_, value) in enumerate(call.args):
                if value == Name(name):
                    yield from _ends(grammar, call.name, _named(grammar, call, at), seen | {callee})
