"""A network made by hand, read as a derivation: the rules of a grammar parsed over its operators.

The network is run forward once, so every shape is known. Then it is a sentence that the rules
derive. Of several derivations the one is taken in which the longest part is shortest, rule by rule:
so a long sequence nests as a balanced tree, and the names of its sites stay short.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nas.grammar.chart import Chart
from nas.grammar.derivation import Derivation, Input, replay
from nas.grammar.error import GrammarError
from nas.grammar.frames import Waiting
from nas.grammar.grammar import Grammar
from nas.grammar.layout import laid_out
from nas.grammar.walk import memory_of
from nas.op import Shape

BEFORE = re.compile(r"\s*(#[^\n]*\n\s*)*")
RULE = re.compile(r"use |import |[A-Za-z_]\w*(\([^()]*\))?\s*=")


def read_network(grammar: Grammar, text: str, *, input: Input, name: str = "network") -> Derivation:
    """The derivation of `grammar` whose operators are those of the network written in `text`.

    `text` is a term of operators, as `Derivation.network_text` writes it, or rules in the grammar
    language with nothing left to choose, of which the first is the network. `name` is the text's
    in errors. Raises GrammarError where a shape does not fit, or where no rule of the grammar
    does: at the furthest operator reached, with what would fit there.
    """
    begun = BEFORE.match(text)
    start = begun.end() if begun else 0
    if not RULE.match(text, start):
        text = f"{text[:start]}network = {text[start:]}"
    network = Grammar.parse(text, name=name, path=_beside(name), used=grammar.used)
    return _derivation(grammar, network, input)


def seed(grammar: Grammar, name: str, /, *, input: Input) -> Derivation:
    """The derivation of the known network that the grammar's text calls `name`.

    Raises GrammarError where there is none, or where it does not fit the input.
    """
    if name not in grammar.networks:
        known = ", ".join(grammar.seeds) or "none"
        raise GrammarError(f"{grammar.name} has no seed {name!r}; there are {known}")
    return _derivation(grammar, grammar.networks[name], input)


def _beside(name: str) -> Path | None:
    return Path(name) if Path(name).is_file() else None


def _derivation(grammar: Grammar, network: Grammar, input: Input) -> Derivation:
    shape = Shape.of(input)
    line = laid_out(network, shape)
    labels = Chart(grammar, network.name, line).labels()
    return replay(grammar, _in_order(grammar, labels, shape), input=shape)


def _in_order(grammar: Grammar, labels: dict[str, str], input: Shape) -> Iterator[str]:
    """Labels by their sites' names in the order in which a walk comes to the sites."""
    machine = memory_of(grammar).machine
    waiting = machine.advance((input,), machine.start())
    while isinstance(waiting, Waiting):
        label = labels[waiting.site.name]
        yield label
        index = [option.label for option in waiting.options].index(label)
        waiting = machine.advance(*waiting.state(index))
