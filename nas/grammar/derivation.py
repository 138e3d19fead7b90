"""`Derivation`: the choices that made an architecture, and the operators they came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from nas.grammar.frames import Place, Site
from nas.grammar.grammar import Grammar
from nas.grammar.nodes import Operation, Option
from nas.grammar.parser import GrammarError
from nas.op import Args, Operator, Shape, ShapeError


class Chosen(NamedTuple):
    """One choice: where, among what, and which."""

    site: Site
    options: tuple[Option, ...]
    index: int  # type: ignore[assignment]

    @property
    def label(self) -> str:
        return self.options[self.index].label


class Apply(NamedTuple):
    """An operator with its arguments at a path, unique in a derivation."""

    operator: Operator
    args: Args
    path: str


def called(operator: Operator, args: Args) -> str:
    """An operator with the arguments that are not its defaults, as a grammar writes it."""
    usual = {arg.name: arg.default for arg in operator.args}
    given = [f"{k}={v}" for k, v in args.items() if v != usual.get(k)]
    return operator.name + (f"({', '.join(given)})" if given else "")


OPEN, NEXT, CLOSE = "[", ";", "]"
Token = Apply | str


class Copies(NamedTuple):
    """One branch's tokens on each of `n` streams."""

    n: int
    place: Place
    body: tuple[Any, ...]


def _written(tokens: Iterable[Any]) -> Iterator[Token]:
    """Tokens as they are read: copies written out, with paths of their own."""
    for token in tokens:
        if isinstance(token, str):
            yield token
        elif isinstance(token, Copies):
            path, body = str(token.place), list(_written(token.body))
            for i in range(token.n):
                yield NEXT if i else OPEN
                for t in body:
                    yield (
                        t
                        if isinstance(t, str)
                        else t._replace(path=f"{path}.{i}{t.path[len(path) :]}")
                    )
            yield CLOSE
        else:
            node, place = token
            yield Apply(node.operator, node.args, str(place))


def operators(tokens: Iterable[Any], *, copies: bool) -> int:
    """How many operators tokens hold; with `copies` as instantiated."""
    return sum(
        operators(token.body, copies=copies) * (token.n if copies else 1)
        if isinstance(token, Copies)
        else not isinstance(token, str)
        for token in tokens
    )


def labels_of(made: Sequence[Any]) -> tuple[str, ...]:
    """The labels of choices as a derivation holds them."""
    return tuple([options[i].label for options, i in zip(made[2::4], made[3::4], strict=True)])


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
    made: tuple[Any, ...]  # of each choice: place, suffix and rule, what was offered, index
    tokens: tuple[tuple[Operation, Place] | Copies | str, ...]

    @cached_property
    def terms(self) -> tuple[Token, ...]:
        return tuple(_written(self.tokens))

    @cached_property
    def choices(self) -> tuple[Chosen, ...]:
        made = self.made
        return tuple(
            Chosen(Site(place, *ending), options, index)
            for place, ending, options, index in zip(*(made[i::4] for i in range(4)), strict=True)
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.made)

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
        from nas.grammar.derive import replay

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
