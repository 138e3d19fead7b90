"""Spaces of an encoder for all tasks and a decoder for each, which are steered after training.

Aich et al. 2023, "Efficient Controllable Multi-Task Architectures", arXiv 2308.11744: how much a
task is preferred decides how large its decoder is, and the budget the encoder. Such a space says

    net = encoder decoder

and has a rule for each. For tasks a and b it becomes

    net   = encoder output(features) clone(2) [for_a; for_b]
    for_a = decoder output(for_a)

so that sites, sharing, costs and extraction are what they are of any space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nas.grammar import Derivation, Grammar, GrammarError, derive
from nas.grammar.check import reachable
from nas.grammar.count import count, enumerate_all, extreme
from nas.grammar.derivation import Labels
from nas.grammar.rules import Rule, calls_in
from nas.op import Shape
from nas.plan import FEATURES, FEATURES_RESULT, own_output, plan
from nas.supernet.chain import follow, shrinking
from nas.supernet.slots import OWN

ENCODER, DECODER = "encoder", "decoder"
LEVELS = 8  # sizes of a decoder at most that are told apart


class Parts(NamedTuple):
    """A derivation's choices in its encoder, and in the decoder of each task by its name there."""

    encoder: Labels
    decoders: Mapping[str, Labels]


def with_decoders(grammar: Grammar, tasks: Sequence[str]) -> Grammar:
    """The space with a decoder for each task, where it says `encoder decoder` and is finite; any
    other as it is. Its seeds, which have none, are left out. tasks: their names.

    Raises GrammarError where it cannot be rewritten so.
    """
    start, *rest = grammar.rules.values()
    if str(start).partition("=")[2].split() != [ENCODER, DECODER] or not grammar.finite:
        return grammar
    own = [own_output(task) for task in tasks]
    branches = f"clone({len(own)}) [{'; '.join(own)}]" if len(own) > 1 else own[0]
    whole = [f"{start.name} = {ENCODER} output({FEATURES}) {branches}"]
    decoders = [f"{name} = {DECODER} output({name})" for name in own]
    try:
        return _again(grammar, [*whole, *decoders, *rest])
    except GrammarError as error:
        raise GrammarError(
            f"{grammar.name} says {ENCODER} {DECODER}, so each task gets a decoder, which reads "
            f"the encoder's one result: {error}"
        ) from None


def _again(grammar: Grammar, rules: Sequence[Rule | str]) -> Grammar:
    """A grammar of the same name that has these rules; of its code only what was allowed."""
    text = grammar.written(rules, seeded=False)
    return Grammar.parse(text, name=grammar.name, trust_code=True, alone=True)


def decoders_of(grammar: Grammar) -> tuple[str, ...]:
    """The rules that are decoders of tasks, () in a space that is not steered."""
    start = next(iter(grammar.rules.values()))
    if not str(start).partition("=")[2].lstrip().startswith(f"{ENCODER} output({FEATURES}) "):
        return ()
    called = [call.name for call in calls_in(start.body)]
    return tuple(name for name in called if name.startswith(OWN) and name in grammar.rules)


def parts(derivation: Derivation) -> Parts:
    """What a derivation of a steered space chose where."""
    encoder, own = (
        list[tuple[str, str]](),
        {n: list[tuple[str, str]]() for n in decoders_of(derivation.grammar)},
    )
    for site, label in derivation.by_site.items():
        head = site.replace(":", "/").partition("/")[0]
        own.get(head, encoder).append((site, label))
    return Parts(tuple(encoder), {name: tuple(labels) for name, labels in own.items()})


def joined(
    grammar: Grammar, encoder: Labels, decoders: Mapping[str, Labels], input: Shape
) -> Derivation:
    """The derivation of an encoder and a decoder for each task."""
    labels = dict([*encoder, *(pair for chosen in decoders.values() for pair in chosen)])
    return derive(grammar, follow(labels), input=input)


def decoder_levels(derivation: Derivation) -> Iterator[Derivation]:
    """The same encoder with decoders of each size, the same for all tasks: all that there are, or
    some from the largest evenly down to the smallest."""
    grammar, (encoder, decoders) = derivation.grammar, parts(derivation)
    first = next(iter(decoders))
    features = plan(derivation, heads=(), features=0).output_shapes()[FEATURES_RESULT]
    within = reachable(grammar.rules, first)
    others = [rule for name, rule in grammar.rules.items() if name in within]
    alone = _again(grammar, [f"{grammar.start} = {first}", *others])
    for level in _sizes(alone, features):
        chosen = {
            name: tuple((name + site.removeprefix(first), label) for site, label in level.items())
            for name in decoders
        }
        yield joined(grammar, encoder, chosen, derivation.input)


def _sizes(decoder: Grammar, features: Shape) -> Iterator[Mapping[str, str]]:
    if count(decoder, input=features) <= LEVELS:
        every = list(enumerate_all(decoder, input=features))
    else:
        top = extreme(decoder, input=features, of="params")
        every = [top, *shrinking(top, nested=False)]
    last, wanted = len(every) - 1, min(LEVELS, len(every))
    numbers = {round(i * last / max(1, wanted - 1)) for i in range(wanted)}
    yield from (every[i].by_site for i in sorted(numbers))
