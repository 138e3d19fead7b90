"""Grammars and derivations: a search space is text, an architecture is the choices made in it."""

from __future__ import annotations

from nas.grammar.derivation import Chosen, Derivation, replay
from nas.grammar.derive import Follow, Guide, choose_at_random, derive, sample
from nas.grammar.error import GrammarError
from nas.grammar.frames import Site
from nas.grammar.grammar import Grammar, shipped_spaces
from nas.grammar.limits import UNLIMITED, Limits
from nas.grammar.options import Option, probabilities
from nas.grammar.read import read_network, seed
from nas.grammar.tokens import Apply
from nas.grammar.vary import Variation, cross, mutate
from nas.grammar.walk import Choose

__all__ = [
    "UNLIMITED",
    "Apply",
    "Choose",
    "Chosen",
    "Derivation",
    "Follow",
    "Grammar",
    "GrammarError",
    "Guide",
    "Limits",
    "Option",
    "Site",
    "Variation",
    "choose_at_random",
    "cross",
    "derive",
    "mutate",
    "probabilities",
    "read_network",
    "replay",
    "sample",
    "seed",
    "shipped_spaces",
]
