"""The seeds that a search begins from."""

from __future__ import annotations

from collections.abc import Sequence

from nas.front import Limit
from nas.grammar import Derivation, Grammar, GrammarError, seed
from nas.grammar.trace import cost_of
from nas.search.folder import RunError
from nas.search.propose import within
from nas.search.settings import Settings


def started(
    settings: Settings, grammar: Grammar, input: tuple[int, ...], limits: Sequence[Limit]
) -> list[Derivation]:
    """The seeds that a search begins from. Raises RunError for one that is over a limit, and
    GrammarError for one that does not fit the input."""
    most, found = within(limits), list[Derivation]()
    for name in grammar.seeds if "mix" in settings.start else settings.start:
        try:
            one = seed(grammar, name, input=input)
        except GrammarError:
            if "mix" in settings.start:
                continue
            raise
        cost = cost_of(one)
        if most.allow(cost):
            found.append(one)
        elif "mix" not in settings.start:
            raise RunError(
                f"the seed {name} has {cost}, and this search allows {most}: allow more with "
                "--max, or start from another"
            )
    return found
