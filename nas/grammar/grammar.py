"""`Grammar`: rules and operators under one start, loaded from text, checked when read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from nas.grammar.bounds import IMPORTS, LETTERS
from nas.grammar.check import check, check_seeds, is_finite, least_sizes, reachable
from nas.grammar.error import GrammarError, TooLarge
from nas.grammar.parser import Import, fault, parse
from nas.grammar.rules import Rule, calls_in, choice_in
from nas.op import OPERATORS, Operator
from nas.op.user import UserOperator
from nas.user_code import file_digest

P = ParamSpec("P")
T = TypeVar("T")
Gathered = tuple[dict[str, Rule], dict[str, str], str]
_ALIVE: WeakValueDictionary[str, Grammar] = WeakValueDictionary()


def shipped_spaces() -> dict[str, Path]:
    """The shipped grammars by name, in the package when installed, in the checkout otherwise."""
    package = Path(__file__).parents[1]
    inside = package / "_data" / "search_spaces"
    folder = inside if inside.is_dir() else package.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.grammar"))}


class Grammar:
    """A search space: `rules` by name, the first being the start.

    `text` is the whole space in one piece, imports folded in; two grammars are the same when
    their `hash` is. `finite` says that no rule leads back to itself. Rules that nothing reaches
    are left out; those of the text named `source` are an error. `networks` are the seeds: known
    networks of the space by name, each a grammar of its own with nothing left to choose; they
    are no part of the hash, and neither is by what weights are shared.
    """

    def __init__(
        self,
        name: str,
        rules: Mapping[str, Rule],
        used: Mapping[str, str],
        streams: int = 1,
        source: str = "",
        seeds: Mapping[str, Rule] = MappingProxyType({}),
        share: str = "",
    ):
        self.name = name
        self.memory: dict[Any, Any] = {}
        self.rules = dict(rules)
        self.used = dict(used)
        self.operators: dict[str, Operator] = {  # a space's own rule goes before a new operator
            name: operator for name, operator in OPERATORS.items() if name not in self.rules
        }
        for local, target in self.used.items():
            self.operators[local] = UserOperator(local, target)
        self.start = next(iter(self.rules))
        check(self.rules, self.operators, self.start, streams, source, seeds)
        check_seeds(seeds, self.operators)
        self.networks = {
            name: _network(seed, {**self.rules, **seeds}, self.used) for name, seed in seeds.items()
        }
        within = reachable(self.rules, self.start)
        self.rules = {name: rule for name, rule in self.rules.items() if name in within}
        self.finite = is_finite(self.rules, self.start)
        self.least = least_sizes(self.rules)
        self._share = share

    @cached_property
    def text(self) -> str:
        return self.written(self.rules.values())

    def written(self, rules: Iterable[Rule | str], *, seeded: bool = True) -> str:
        """The text of the space with rules in place of its own, the first its start; with its
        seeds, or without."""
        uses = [f"use {_quoted(target)} as {local}" for local, target in self.used.items()]
        helpers: dict[str, Rule] = {}
        seeds = []
        for network in self.networks.values() if seeded else ():
            start, *rest = network.rules.values()
            seeds.append(replace(start, seed=True))
            helpers |= {rule.name: rule for rule in rest if rule.name not in self.rules}
        lines = map(str, [*rules, *seeds, *helpers.values()])
        policy = [f"share {self._share}"] if self._share else []
        return "\n".join([*uses, *policy, *lines]) + "\n"

    @property
    def share(self) -> str:
        """What the places of a network that share weights have in common, in a bank for the whole
        space: their `path`, or the `stage` where the space is recursive, unless it says so."""
        return self._share or ("path" if self.finite else "stage")

    @cached_property
    def fixed(self) -> bool:
        """Whether nothing is left to choose: the space is one architecture."""
        return self.finite and not any(choice_in(rule.body) for rule in self.rules.values())

    @cached_property
    def calls(self) -> frozenset[str]:
        """The names of the rules and operators that a derivation may use."""
        bodies = (self.rules[name].body for name in reachable(self.rules, self.start))
        return frozenset(call.name for body in bodies for call in calls_in(body))

    @property
    def seeds(self) -> tuple[str, ...]:
        """The names of the known networks that the text gives."""
        return tuple(self.networks)

    @property
    def uses(self) -> list[str]:
        """The operators of the user's own, by what their files hold."""
        return [f"use {_content(target)} as {local}" for local, target in self.used.items()]

    @cached_property
    def hash(self) -> str:
        """Of the rules and, where operators are the user's own files, of what these hold: a
        project that is moved keeps its identity, and code that changes changes it."""
        text = "\n".join([*self.uses, *map(str, self.rules.values())]) + "\n"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @staticmethod
    def load(name_or_path: str | Path, *, trust_code: bool = False) -> Grammar:
        """A shipped grammar by its bare name, or a file (with a slash or a suffix).

        Raises GrammarError for an unknown name or a fault in the text, and, without
        `trust_code`, for a grammar whose operators are the user's own code.
        """
        path = _find(str(name_or_path))
        text = _text(path, f"{path}:")
        return Grammar.parse(text, name=str(name_or_path), path=path, trust_code=trust_code)

    @staticmethod
    def parse(
        text: str,
        *,
        name: str = "grammar",
        path: Path | None = None,
        trust_code: bool = False,
        streams: int = 1,
        used: Mapping[str, str] = MappingProxyType({}),
        alone: bool = False,
    ) -> Grammar:
        """The grammar written in `text`; imports and files are looked up beside `path`.
        `streams` is how many tensors enter it; `used` are operators of the user's own that it may
        use without saying so; a text that is to stand `alone` imports nothing. Raises GrammarError
        for a fault in the text and, without `trust_code`, for operators of the user's own."""
        source = str(path or name)
        above = (path.resolve(),) if path else ()
        folder = None if alone else path.parent if path else Path()
        gathered, own, share = _gather(text.removeprefix("\ufeff"), source, folder, above, {})
        used = {**used, **own}
        seeds = {name: rule for name, rule in gathered.items() if rule.seed}
        rules = {name: rule for name, rule in gathered.items() if not rule.seed}
        if not rules:
            raise GrammarError(f"{name}: there is no rule; write one such as: net = conv(16)")
        if own and not trust_code:
            targets = ", ".join(own.values())
            raise GrammarError(
                f"{name} uses code of its own ({targets}), which is not run unasked: read it, then "
                "allow it with --trust-code (from Python trust_code=True)"
            )
        grammar = Grammar(name, rules, used, streams, source, seeds, share)
        known = _ALIVE.get(grammar.hash)  # with all that was learned of it
        if known and (known.name, known.text) == (name, grammar.text) and streams == 1:
            return known
        _ALIVE[grammar.hash] = grammar
        return grammar

    @staticmethod
    def known(name: str, hash: str) -> Grammar:
        """The grammar of that hash: one alive in this process, or the shipped one of that name."""
        if hash in _ALIVE:
            return _ALIVE[hash]
        grammar = Grammar.load(name)
        if grammar.hash != hash:
            raise GrammarError(
                f"{name} has changed: its hash is {grammar.hash}, and {hash} is asked for; "
                "give the grammar that made the derivation (a run keeps it as space.grammar)"
            )
        return grammar

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Grammar {self.name} of {len(self.rules)} rules, {self.hash}>"


def _network(seed: Rule, rules: Mapping[str, Rule], used: Mapping[str, str]) -> Grammar:
    """A seed as a grammar of its own; raises GrammarError where it leaves something to choose."""
    within = [rules[name] for name in sorted(reachable(rules, seed.name) - {seed.name})]
    for rule in (seed, *within):
        if open_to := choice_in(rule.body):
            raise fault(
                rule.text,
                rule.source,
                rule.where,
                f"{rule.name!r} leaves a choice, {open_to}, "
                f"and the seed {seed.name!r} is one network",
            )
    named = {seed.name: replace(seed, seed=False), **{rule.name: rule for rule in within}}
    return Grammar(seed.name, named, used)


def _find(name: str) -> Path:
    if "/" in name or Path(name).suffix:
        return Path(name)
    shipped = shipped_spaces()
    if name not in shipped:
        close = get_close_matches(name, shipped, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise GrammarError(
            f"{name!r} is no shipped space. {hint}There are {', '.join(shipped)}; "
            "a file of your own is written with a slash or its suffix, as ./my.grammar"
        )
    return shipped[name]


def _gather(
    text: str, name: str, folder: Path | None, above: tuple[Path, ...], read: dict[Path, Gathered]
) -> Gathered:
    """Rules and used operators of a text and its imports, and by what weights are shared; what the
    importer says wins whole. Without a `folder` there may be no imports; each file is `read` once.

    The start is the text's first rule, or the imported grammar's where that rule replaces one
    of its own.
    """
    rules, imports, uses, share = parse(text, name)
    own: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in own:
            raise fault(
                text,
                name,
                rule.where,
                f"{rule.name!r} has two rules; the first is at line "
                f"{own[rule.name].where.line}: join them with '|'",
            )
        own[rule.name] = rule
    used = {use.name: _absolute(use.target, folder) for use in uses}
    for use in uses:
        if use.name in OPERATORS or use.name in own:
            what = "an operator of the library" if use.name in OPERATORS else "a rule"
            raise fault(text, name, use.where, f"{use.name!r} is {what}: use it as another name")
    for imported in imports:
        if folder is None:
            raise fault(text, name, imported.where, "this text stands alone: it imports nothing")
        try:
            path = _beside(imported.name, folder)
            their_rules, their_used, theirs = _imported(imported, path, above, read)
        except GrammarError as error:
            if imported.where.line and str(error).startswith(repr(imported.name)):
                raise fault(text, name, imported.where, str(error)) from None
            raise
        replaced = next((name for name in own if not own[name].seed), None) in their_rules
        own = {**their_rules, **own} if replaced else {**own, **_without(their_rules, own)}
        used, share = {**their_used, **used}, share or theirs
    return own, used, share


def _imported(
    imported: Import, path: Path, above: tuple[Path, ...], read: dict[Path, Gathered]
) -> Gathered:
    place = path.resolve()
    if place in read:
        return read[place]
    if len(above) > IMPORTS:
        raise GrammarError(f"{imported.name!r} is imported more than {IMPORTS} files deep")
    if place in above:
        names = " imports ".join(p.name for p in (*above[above.index(place) :], place))
        raise GrammarError(f"{imported.name!r} leads back to itself: {names}; remove one import")
    if path.suffix != ".grammar":  # an error shows a line of what is read: never of any other file
        reason = f"{imported.name!r} is no grammar: a file that is imported ends .grammar"
        raise GrammarError(reason)
    text = _text(path, repr(imported.name))
    read[place] = _gather(text, str(path), path.parent, (*above, place), read)
    return read[place]


def _text(path: Path, called: str) -> str:
    try:
        if path.exists() and not path.is_file():
            raise GrammarError(f"{called} is no file")
        with path.open(encoding="utf-8-sig") as file:
            return file.read(LETTERS + 1)  # where there are more, the error says so
    except OSError as error:
        raise GrammarError(f"{called} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise GrammarError(f"{called} is no UTF-8 text ({error.reason}): save it as such") from None


def _beside(name: str, folder: Path) -> Path:
    """Where an imported grammar is: shipped where its name is bare, else a file in `folder`."""
    return folder / name if "/" in name or Path(name).suffix else _find(name)


def _without(rules: Mapping[str, Rule], own: Mapping[str, Rule]) -> dict[str, Rule]:
    return {name: rule for name, rule in rules.items() if name not in own}


def _absolute(target: str, folder: Path | None) -> str:
    """A target's file made absolute, so that a grammar kept elsewhere still finds it."""
    source, _, attribute = target.rpartition(":")
    return f"{((folder or Path()) / source).resolve()}:{attribute}" if "/" in source else target


def _content(target: str) -> str:
    """A target with the digest of its file in place of its path."""
    digest = file_digest(target)
    return f"{digest}:{target.rpartition(':')[2]}" if digest else target


def _quoted(target: str) -> str:
    return f'"{target}"' if any(c.isspace() or c == "#" for c in target) else target


def bounded(function: Callable[Concatenate[Grammar, P], T]) -> Callable[Concatenate[Grammar, P], T]:
    """With an error that a person understands where rules lead too deep into each other."""

    @wraps(function)
    def checked(grammar: Grammar, /, *args: P.args, **words: P.kwargs) -> T:
        try:
            return function(grammar, *args, **words)
        except (RecursionError, TooLarge) as error:
            grammar.memory.clear()  # it may hold what was half made
            raise (error if isinstance(error, TooLarge) else _too_deep(grammar.name)) from None

    return checked


def _too_deep(name: str) -> Any:
    return GrammarError(
        f"{name}: its rules lead into each other deeper than can be followed; end them sooner, as "
        "by arguments that do not grow without end, or limit operators or depth"
    )
