"""Terms as the text of a grammar that people read: rules for blocks, elastic widths and depths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from math import prod

from nas.around.reading import Applied, Reading
from nas.around.terms import Split, Term, in_order
from nas.op import OPERATORS
from nas.op.activation import ACTIVATIONS

LETTERS = "c m k e f g h j l o q r t u v".split()  # for the widths that a rule is told, then
MORE = "w{}"  # with numbers
WIDTH = 98  # of a line
DIGITS = 9  # of a fraction, in a grammar
MOST = 256  # choices of a rule's widths together, beyond which those of one place are its own
LEAST = 8  # channels that elastic widths are multiples of, where there are twice as many


@dataclass(frozen=True)
class Elastic:
    """What of a module becomes elastic. widths: shares of each width, by module path ("" for all
    others); depth: whether blocks that may be left out are, the `last` of a row, or `none`;
    kernels: whether larger kernels of depthwise convolutions may be smaller; pinned: paths of
    modules whose widths stay."""

    widths: Mapping[str, Sequence[float]]
    depth: str = "last"
    kernels: bool = False
    pinned: Sequence[str] = ()
    joined: bool = True


@dataclass(frozen=True)
class _Item:
    """A call in the start rule, and whether it may be left out."""

    call: str
    removable: bool = False


class Writer:
    """Writes the terms of a trunk."""

    def __init__(self, reading: Reading, elastic: Elastic):
        self.reading, self.groups, self.elastic = reading, reading.groups, elastic
        self.rules: dict[tuple[str, str], str] = {}  # name of a rule by parameters and body
        self.shares: dict[int, Sequence[float]] = {}
        says = (self.groups.find(applied.says[1]) for applied in reading.applied if applied.says)
        self.said = Counter(says)  # in how many places each width is said
        for applied in reading.applied:
            if applied.says:
                group = self.groups.find(applied.says[1])
                share = innermost(applied.path, elastic.widths)
                if group not in self.shares or share:
                    self.shares[group] = elastic.widths.get(share, (1.0,))

    def sizes(self, group: int) -> list[int]:
        """The widths that a group may have, the module's own last."""
        size = self.groups.size(group)
        if self.groups.pinned(group):
            return [size]
        step = LEAST if size >= 2 * LEAST else max(1, size // 4)
        shares = self.shares.get(self.groups.find(group), (1.0,))
        sizes = {max(step, round(size * share / step) * step) for share in shares}
        return [*sorted(value for value in sizes if value < size), size]

    def text(self, terms: Sequence[Term]) -> str:
        """A grammar whose largest derivation these terms are."""
        entering, items = self._group(self.reading.source), list[_Item]()
        for block in _blocks(terms):
            items.append(self._item(block, entering))
            entering = self._group(_last(block).output)
        calls = " ".join([*self._rows(items), "output(coarse)"])
        lines = [("net", calls)]
        for (params, body), name in self.rules.items():
            lines.append((f"{name}({params})" if params else name, body))
        longest = max(len(left) for left, _ in lines)
        return "".join(_wrapped(f"{left:<{longest}} = ", body) for left, body in lines)

    def _item(self, block: Sequence[Term], entering: int) -> _Item:
        if len(block) == 1 and isinstance(block[0], Applied):
            return _Item(self._call(block[0], {}))
        told = self._told(block, entering)
        more = (MORE.format(number) for number in range(len(told)))
        letters = dict(zip(told, [*LETTERS, *more], strict=False))
        body = self._body(block, letters | {entering: "channels"})
        params = ", ".join(letters.values())
        name = self.rules.get((params, body)) or self._name(block)
        self.rules[params, body] = name
        sizes = ", ".join(map(self._braces, told))
        removable = _skips(block) and self._group(_last(block).output) == entering
        return _Item(f"{name}({sizes})" if sizes else name, removable)

    def _told(self, terms: Sequence[Term], entering: int) -> list[int]:
        """The groups whose widths a rule of these terms must be told, in order of appearance."""
        groups = (self.groups.find(a.says[1]) for a in in_order(terms) if a.says)
        told = list(dict.fromkeys(group for group in groups if group != entering))
        if prod(len(self.sizes(group)) for group in told) <= MOST:
            return told
        return [group for group in told if self.said[group] > 1]

    def _body(self, terms: Sequence[Term], words: Mapping[int, str]) -> str:
        parts = []
        for term in terms:
            if isinstance(term, Applied):
                parts.append(self._call(term, words))
                continue
            branches = "; ".join(self._body(b, words) or "identity" for b in term.branches)
            parts.append(f"clone({len(term.branches)}) [{branches}] {term.join.operator}")
        return " ".join(parts)

    def _call(self, applied: Applied, words: Mapping[int, str]) -> str:
        """An operator with its arguments; what it would be without them is left out."""
        operator, given = OPERATORS.get(applied.operator), list[str]()
        known = operator.args if operator else ()
        args = dict(applied.args)
        if applied.says:
            group = self.groups.find(applied.says[1])
            args[applied.says[0]] = words.get(group) or self._braces(group)
        for place, arg in enumerate(known):
            if arg.name not in args or args[arg.name] == arg.default:
                continue
            value = args[arg.name]
            if arg.name == "kernel" and self.elastic.kernels and applied.operator == "depthwise":
                value = _kernels(int(value), "padding" in args)
            given.append(
                str(value) if place == 0 and arg.type == "int" else f"{arg.name}={_plain(value)}"
            )
        return f"{applied.operator}({', '.join(given)})" if given else applied.operator

    def _rows(self, items: Sequence[_Item]) -> list[str]:
        """The calls, those of one block in a row as one whose depth is elastic."""
        rows = list[str]()
        for item, run in groupby(items):
            count = len(list(run))
            if not item.removable or self.elastic.depth == "none":
                rows += [item.call] * count
            else:
                rows.append(f"{item.call}{{{int(count > 1)}..{count}}}")
        return rows

    def _name(self, block: Sequence[Term]) -> str:
        """A rule's name: that of the module's class whose block it is."""
        path = _common(block)
        while path and self.reading.classes.get(path) in ("Sequential", "ModuleList"):
            path = path.rpartition(".")[0]
        cls = self.reading.classes.get(path, "") if path else ""
        word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls).lower() or "block"
        taken = {*self.rules.values(), *OPERATORS, *self.reading.parts, "net", "channels"}
        names = [word, *(f"{word}{number}" for number in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)

    def _group(self, value: int) -> int:
        return self.groups.find(self.reading.streams[value].width.group)

    def _braces(self, group: int) -> str:
        sizes = self.sizes(group)
        return str(sizes[0]) if len(sizes) == 1 else f"{{{', '.join(map(str, sizes))}}}"


def _blocks(terms: Sequence[Term]) -> list[tuple[Term, ...]]:
    """Each bracket with the activations behind it; of modules that stand in a row with a bracket's
    all operators together; each operator elsewhere alone."""
    rows = {_common([term]).rpartition(".")[0] for term in terms if isinstance(term, Split)} - {""}
    blocks, last = list[tuple[Term, ...]](), ""
    for term in terms:
        path = _common([term])
        row = innermost(path, rows)
        module = ".".join(path.split(".")[: row.count(".") + 2]) if row else ""
        behind = isinstance(term, Applied) and term.operator in ACTIVATIONS and not module
        if blocks and (
            (module and module == last) or (behind and isinstance(blocks[-1][-1], Split))
        ):
            blocks[-1] = (*blocks[-1], term)
        else:
            blocks.append((term,))
        last = module
    return blocks


def _common(block: Sequence[Term]) -> str:
    """The path of the module that all operators of a block lie in."""
    paths = [applied.path.split(".") for applied in in_order(block)]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return ".".join(names[0] for names in shared)


def _skips(block: Sequence[Term]) -> bool:
    """Whether a block adds things to what enters it, one after another, and does no more than
    activations after."""
    first, *_ = block
    learned = any(applied.tensors for applied in in_order(block))
    return isinstance(first, Split) and learned and all(map(_adds, block))


def _adds(term: Term) -> bool:
    """Whether a term adds something to what enters it, or is an activation."""
    if isinstance(term, Applied):
        return term.operator in ACTIVATIONS
    return term.join.operator == "add" and any(not branch for branch in term.branches)


def _last(block: Sequence[Term]) -> Applied:
    last = block[-1]
    return last.join if isinstance(last, Split) else last


def _kernels(kernel: int, padded: bool) -> int | str:
    """A kernel, or the smaller ones too, where these lie in its middle."""
    if kernel < 5 or kernel % 2 == 0 or padded:
        return kernel
    return f"{{{', '.join(map(str, range(3, kernel + 1, 2)))}}}"


def innermost(path: str, given: Iterable[str]) -> str:
    """The longest of some module paths that one lies in, "" for none."""
    inside = [key for key in given if key and (path == key or path.startswith(f"{key}."))]
    return max(inside, key=len, default="")


def _plain(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    least = 10.0**-DIGITS if value else 0.0
    return f"{max(value, least):.{DIGITS}f}".rstrip("0").rstrip(".")


def _wrapped(left: str, body: str) -> str:
    """A rule in lines of bearable length, broken between calls."""
    rows, row = list[str](), left
    for call in re.split(r"(?<![,|]) (?![^(){}]*[)}])", body):
        if len(row) + len(call) >= WIDTH and row.strip():
            rows.append(row.rstrip())
            row = " " * len(left)
        row += f"{call} "
    return "\n".join([*rows, row.rstrip()]) + "\n"
