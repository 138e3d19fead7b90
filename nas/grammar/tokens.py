"""What a derivation comes to: operators in sequence, with brackets around parallel streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.op import Args, Operator

if TYPE_CHECKING:
    from nas.grammar.frames import Place


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


class CopiedBranch(NamedTuple):
    """One branch's tokens on each of `n` streams."""

    n: int
    place: Place
    body: tuple[Any, ...]


def written_out(tokens: Iterable[Any]) -> Iterator[Token]:
    """Tokens as they are read: copies written out, with paths of their own."""
    for token in tokens:
        if isinstance(token, str):
            yield token
        elif isinstance(token, CopiedBranch):
            path, body = str(token.place), list(written_out(token.body))
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
        if isinstance(token, CopiedBranch)
        else not isinstance(token, str)
        for token in tokens
    )


def labels_of(flat: Sequence[Any]) -> tuple[str, ...]:
    """The labels of choices as a derivation holds them."""
    return tuple([options[i].label for options, i in zip(flat[2::4], flat[3::4], strict=True)])


def nested(tokens: Iterable[Any]) -> tuple[Any, ...]:
    """Tokens with every copied branch in its Copies."""
    kept: list[Any] = []
    begun: list[int] = []
    for token in tokens:
        if token == OPEN:
            begun.append(len(kept))
        elif token == CLOSE:
            begun.pop()
        elif isinstance(token, CopiedBranch):
            start = begun.pop()
            token = token._replace(body=tuple(kept[start + 1 :]))
            del kept[start:]
        kept.append(token)
    return tuple(kept)
