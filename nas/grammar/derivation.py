"""`Derivation`: the choices that made an architecture, and the operators they came to."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from nas.grammar.error import GrammarError
from nas.grammar.frames import Cost, Place, Site
from nas.grammar.grammar import Grammar, bounded
from nas.grammar.nodes import Operation
from nas.grammar.options import Option
from nas.grammar.tokens import CopiedBranch, Token, called, labels_of, operators, written_out
from nas.grammar.trace import cost_of
from nas.grammar.walk import Walk
from nas.op import Shape, ShapeError

Input = tuple[int, ...] | Shape
Labels = tuple[tuple[str, str], ...]  # of some sites, in order, what was chosen


class Chosen(NamedTuple):
    """One choice: where, among what, and which."""

    site: Site
    options: tuple[Option, ...]
    index: int  # type: ignore[assignment]

    @property
    def label(self) -> str:
        return self.options[self.index].label


@dataclass(frozen=True, eq=False)
class Derivation:
    """An architecture: a grammar, an input shape, and the choices made, in order.

    `terms` is the architecture in operators alone: Apply in sequence, with brackets around the
    branches of parallel streams. Two derivations are equal when grammar, input and chosen labels
    are. `str(d)` names the grammar, its hash, the input and the labels, and
    `Derivation.read(str(d)) == d`.
    """

    grammar: Grammar
    input: Shape
    flat: tuple[Any, ...]  # of each choice: place, suffix and rule, what was offered, index
    tokens: tuple[tuple[Operation, Place] | CopiedBranch | str, ...]

    @cached_property
    def terms(self) -> tuple[Token, ...]:
        return tuple(written_out(self.tokens))

    @cached_property
    def choices(self) -> tuple[Chosen, ...]:
        return tuple(
            Chosen(Site(place, *ending), options, index)
            for place, ending, options, index in zip(
                *(self.flat[i::4] for i in range(4)), strict=True
            )
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.flat)

    @cached_property
    def cost(self) -> Cost:
        """What is instantiated: operators with copies counted, parameters, and FLOPs and
        activations for a batch of one. It is what limits are held against, and needs no plan; a
        plan leaves out what no result reads."""
        return cost_of(self.tokens, (self.input,))[1]

    @cached_property
    def size(self) -> int:
        """The operators instantiated, copies counted."""
        return operators(self.tokens, copies=True)

    @cached_property
    def by_site(self) -> dict[str, str]:
        """The chosen label at every site by the site's name."""
        return {choice.site.name: choice.label for choice in self.choices}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Derivation):
            return NotImplemented
        return (self.grammar.hash, self.input, self.labels) == (
            other.grammar.hash,
            other.input,
            other.labels,
        )

    def __hash__(self) -> int:
        return hash((self.grammar.hash, self.input, self.labels))

    def __str__(self) -> str:
        head = f"{self.grammar.name}@{self.grammar.hash} {self.input}:"
        return " ".join([head, *self.labels])

    def _repr_html_(self) -> str:
        """What was chosen and the operators that came of it, in a notebook."""
        parts = (html.escape(text) for text in (str(self), self.network_text))
        return "".join(f"<p><code>{text}</code></p>" for text in parts)

    def __repr__(self) -> str:
        return f"<Derivation {self}>"

    @property
    def network_text(self) -> str:
        """The architecture as a term of operators, as it could be written in a grammar."""
        return " ".join(t if isinstance(t, str) else called(t.operator, t.args) for t in self.terms)

    @staticmethod
    def read(text: str, grammar: Grammar | None = None) -> Derivation:
        """The derivation printed as `text`, in `grammar` or in the known one of its name and hash.

        Raises GrammarError where the text is none, the grammar another, or a label does not fit.
        """
        head, separator, labels = text.strip().partition(": ")
        if not separator:
            head = head.removesuffix(":")
        try:
            named, shape = head.rsplit(" ", 1)
            name, hash = named.rsplit("@", 1)
            input = Shape.read(shape)
        except (ValueError, ShapeError):
            raise GrammarError(
                f"{text[:60]!r} is no derivation: it begins as 'mobile@1f2e… 1x8x8: …'"
            ) from None
        if grammar is None:
            grammar = Grammar.known(name, hash)
        if grammar.hash != hash:
            raise GrammarError(
                f"the derivation was made by {name}@{hash}, and this grammar is "
                f"{grammar.name}@{grammar.hash}: read it with the grammar that made it"
            )
        return replay(grammar, labels.split(), input=input)


@bounded
def replay(grammar: Grammar, labels: Iterable[str], /, *, input: Input) -> Derivation:
    """The derivation whose chosen labels are `labels`; only that every shape fits is checked.

    Raises GrammarError naming the site where a label is none of the options.
    """
    left = iter(labels)

    def choose(site: Site, options: Sequence[Option]) -> int:
        label = next(left, None)
        names = [option.label for option in options]
        if label not in names:
            fault = "the labels end" if label is None else f"{label!r} is no option"
            raise GrammarError(f"{fault} at {site.name}; there are {', '.join(names)}")
        return names.index(label)

    shape = Shape.of(input)
    derivation = Derivation(grammar, shape, *Walk(grammar, (shape,), None).run(choose))
    rest = list(left)
    if rest:
        raise GrammarError(f"{len(rest)} labels are left over, from {rest[0]!r} on")
    return derivation
