"""A search space around a user's module: a grammar whose largest network it is, and its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.around.attention import attentions
from nas.around.error import TooManyError, UnreadError
from nas.around.layers import LAYERS
from nas.around.reading import Applied, Read, Reader, Reading
from nas.around.terms import Term, in_order, terms_of
from nas.around.text import Elastic, Writer, innermost
from nas.around.trace import evaluating, trace
from nas.around.weights import by_importance, fill
from nas.files import write
from nas.grammar import Derivation, Grammar, GrammarError
from nas.grammar.count import count, cover, extreme
from nas.grammar.error import TooLarge
from nas.network import Network
from nas.plan import Plan, plan
from nas.supernet import Bank
from nas.supernet.bank_file import save_bank
from nas.supernet.slots import keys
from nas.task import TARGETS, Task
from nas.task.store import cache_folder

NAME = "own"  # of the task that stands for whichever a search will be for
TOLERANCE = 1e-4  # of the largest output, between the module and its space's largest network
BATCHES = (1, 4)
PROBED = 8  # samples from which the norms of a probe have their statistics
TOO_MANY = "a concatenation reads it, and free there would be too many to work out"
PARTS = "_parts.py"  # ends the name of the file of functions
IMPORTS = "import torch\nfrom torch import Tensor\n"
SETTINGS = """\
# {name}: from the weights of one's own network, gently.
space = {grammar}

[supernet]
weights = {weights}
strategy = "sandwich"
lr = 0.015
"""


@dataclass(frozen=True)
class OwnSpace:
    """What was read of a module, and the space around it.

    difference: between what the module and the largest network give, in shares of the largest
    output.
    """

    name: str
    input: tuple[int, ...]
    text: str
    reading: Reading
    trunk: tuple[Term, ...]
    head: tuple[Applied, ...]
    elastic: Elastic
    difference: float = 0.0

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar; functions that it uses lie in the user's cache, by their content."""
        if not self.parts:
            return Grammar.parse(self.text, name=self.name)
        digest = hashlib.blake2b(self.parts.encode(), digest_size=8).hexdigest()
        file = cache_folder() / "parts" / f"{digest}.py"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file, self.parts.encode())
        text = self.text.replace(f"use ./{self.name}{PARTS}:", f"use {file}:")
        return Grammar.parse(text, name=self.name, trust_code=True)

    @property
    def parts(self) -> str:
        """The Python file of the functions that the grammar uses, "" where it uses none."""
        return "\n\n".join([IMPORTS, *self.reading.parts.values()]) if self.reading.parts else ""

    @property
    def classes(self) -> int:
        return int(self.head[-1].tensors["weight"].tensor.shape[0])

    @cached_property
    def largest(self) -> Derivation:
        """The module itself."""
        try:
            return extreme(self.grammar, input=self.input, of="params")
        except TooLarge as error:
            raise TooManyError(
                f"the space holds too much to be worked out: {error}; let fewer widths be elastic, "
                "as --widths .5,1 or --pin PART"
            ) from None
        except GrammarError as error:
            raise UnreadError(f"what was written cannot be derived, a fault: {error}") from None

    @property
    def task(self) -> Task:
        """A task with the module's head, without data."""
        target = TARGETS["class"]
        classes = tuple(map(str, range(self.classes)))

        def loader() -> None:
            raise UnreadError("the task of a module has no data: name one's own")

        return Task(
            NAME,
            self.input,
            "class",
            classes,
            target.head,
            "accuracy",
            "",
            "",
            NAME,
            loader,  # type: ignore[arg-type]
        )

    def network(self) -> Network:
        """The module as a network of nas, with its weights and statistics."""
        network = Network(self.largest, heads=[self.task])
        tensors = network.tensors()
        self._fill(network.plan, lambda number, step, name: tensors[number].get(name))
        return network.eval()

    def bank(self) -> Bank:
        """A bank of the whole space, which holds the module's weights."""
        heads = [self.task]
        plans = [plan(d, heads=heads) for d in cover(self.grammar, input=self.input)]
        bank, own = Bank.of(plans, optimizer=None), plan(self.largest, heads=heads)
        slots = [{param.name: key for param, key in keys(step)} for step in own.steps]

        def target(number: int, step: object, name: str) -> Tensor | None:
            return bank.tensors[slots[number][name]] if name in slots[number] else None

        self._fill(own, target)
        return bank

    def _fill(self, planned: Plan, target: object) -> None:
        applied, groups = [*in_order(self.trunk), *self.head], self.reading.groups
        fill(planned, applied, target, by_importance(applied, groups), groups)  # type: ignore[arg-type]

    def save(self, path: Path) -> list[Path]:
        """Write path (a .grammar), beside it the bank, settings of a search from its weights, and
        what is kept of the module's own functions. Raises UnreadError where any is there."""
        if path.suffix != ".grammar" or not path.absolute().parent.is_dir():
            raise UnreadError(f"{path}: a space is a file as my.grammar, in a folder that there is")
        parts = path.with_name(f"{path.stem}{PARTS}")
        weights, settings = path.with_suffix(".safetensors"), path.with_suffix(".toml")
        files = [path, weights, settings, *([parts] if self.parts else [])]
        if there := [file for file in files if file.exists()]:
            raise UnreadError(f"{there[0]} is there already: name another --out")
        text = self.text.replace(f"use ./{self.name}{PARTS}:", f"use ./{path.stem}{PARTS}:")
        places = {"grammar": path, "weights": weights}
        words = {name: json.dumps(str(place.absolute())) for name, place in places.items()}
        bank = self.bank()
        try:
            save_bank(bank, weights)
            if self.parts:
                write(parts, self.parts.encode())
            write(path, text.encode())
            write(settings, SETTINGS.format(name=path.stem, **words).encode())
        except BaseException:
            for file in files:
                file.unlink(missing_ok=True)
            raise
        return files

    def report(self) -> list[dict[str, object]]:
        """Each width in the order in which it is met: whose it is, and what it may be."""
        writer, rows = Writer(self.reading, self.elastic), dict[int, dict[str, object]]()
        for applied in in_order(self.trunk):
            if applied.says is None:
                continue
            group = self.reading.groups.find(applied.says[1])
            path = applied.path or applied.operator
            if group in rows:
                rows[group]["modules"] = f"{rows[group]['modules']}, {path}"
                continue
            sizes = writer.sizes(group)
            rows[group] = {
                "modules": path,
                "width": sizes[-1],
                "may be": ", ".join(map(str, sizes[:-1])) or "as it is",
                "because": self.reading.groups.pinned(group),
            }
        return list(rows.values())

    def facts(self) -> dict[str, float]:
        """How many networks the space holds, and what the largest and the smallest cost."""
        heads, smallest = [self.task], extreme(self.grammar, input=self.input, largest=False)
        whole, least = (plan(d, heads=heads) for d in (self.largest, smallest))
        return {
            "architectures": count(self.grammar, input=self.input),
            "params": whole.params,
            "flops": whole.flops,
            "least_flops": least.flops,
            "difference": self.difference,
        }


def space_of(
    module: nn.Module,
    input: Sequence[int],
    *,
    name: str = "own",
    widths: Sequence[float] | Mapping[str, Sequence[float]] = (0.25, 0.5, 0.75, 1),
    depth: str = "last",
    kernels: bool = False,
    pin: Sequence[str] = (),
) -> OwnSpace:
    """A space whose largest network is the module, in evaluation, and whose widths and depths are
    elastic.

    input: the shape of one sample, as (3, 224, 224). widths: shares of each width, or by module
    path, "" for all others. depth: `last` lets the last blocks of a row be left out, `none` does
    not. kernels: whether depthwise kernels of 5 and more may be smaller. pin: paths of modules
    whose widths stay. Raises UnreadError for what cannot be read, naming where, and where the
    largest network does not give what the module gives.
    """
    elastic = _elastic(module, widths, depth, kernels, pin)
    try:
        return _proven(module, tuple(input), name, elastic)
    except TooManyError:
        return _proven(module, tuple(input), name, replace(elastic, joined=False))


def _proven(module: nn.Module, input: tuple[int, ...], name: str, elastic: Elastic) -> OwnSpace:
    """The space, whose largest network gives what the module gives."""
    probe = _disturbed(module, input)  # norms as they were begun would hide errors
    _checked(_written(probe, input, name, elastic), probe)
    return _checked(_written(module, input, name, elastic), module)


def _elastic(
    module: nn.Module,
    widths: Sequence[float] | Mapping[str, Sequence[float]],
    depth: str,
    kernels: bool,
    pin: Sequence[str],
) -> Elastic:
    given = widths if isinstance(widths, Mapping) else {"": widths}
    usual = {"": (1.0,)} if isinstance(widths, Mapping) and "" not in widths else {}
    paths = {path for path, _ in module.named_modules()}
    for path in (*given, *pin):
        if path not in paths:
            first = ", ".join(sorted(p for p in paths if "." not in p and p)[:12])
            raise UnreadError(f"the module has no part {path!r}; it has {first}")
    for shares in given.values():
        if not shares or not all(0 < share <= 1 for share in shares):
            raise UnreadError(f"widths {list(shares)}: shares of a width are above 0 and at most 1")
    if depth not in ("last", "none"):
        raise UnreadError(f"depth {depth!r} is neither last nor none")
    return Elastic(usual | dict(given), depth, kernels, pin)


def _written(module: nn.Module, input: tuple[int, ...], name: str, elastic: Elastic) -> OwnSpace:
    reading = Reader(trace(module, input)).read(LAYERS, attentions)
    for applied in reading.applied:
        if applied.says and (path := innermost(applied.path, elastic.pinned)):
            reading.groups.pin(applied.says[1], f"{path} was to stay")
        if applied.operator == "concat" and not elastic.joined:
            reading.groups.pin(reading.streams[applied.output].width.group, TOO_MANY)
    trunk, head = _headed(reading)
    uses = "".join(f"use ./{name}{PARTS}:{part} as {part}\n" for part in reading.parts)
    text = f"{uses}{Writer(reading, elastic).text(trunk)}"
    return OwnSpace(name, input, text, reading, trunk, head, elastic)


def _headed(reading: Reading) -> tuple[tuple[Term, ...], tuple[Applied, ...]]:
    """The trunk, and the head that a task of classes has: the last linear map, and a mean over
    space before it. Where a module ends in none its head is the map that changes nothing."""
    terms, stream = terms_of(reading), reading.streams[reading.result]
    if stream.kind not in ("vector", "point"):
        raise UnreadError(
            f"the module gives {list(stream.shape)} for each sample, and a task of classes wants "
            "features: give the part that does, or a module with a mean over space behind it"
        )
    last, size = terms[-1] if terms else None, stream.shape[0]
    if isinstance(last, Applied) and last.operator == "linear":
        terms = terms[:-1]
        zeros = {"bias": Read(torch.zeros(size), ((0, stream.width),))}
        last = replace(last, args={**last.args, "bias": 1}, tensors=zeros | dict(last.tensors))
    else:
        tensors = {"weight": Read(torch.eye(size)), "bias": Read(torch.zeros(size))}
        last = Applied("linear", {"bias": 1}, (reading.result,), -1, "", None, tensors)
    if terms and isinstance(pool := terms[-1], Applied) and pool.operator == "pool":
        return terms[:-1], (pool, last)
    return terms, (last,)


def _disturbed(module: nn.Module, input: tuple[int, ...]) -> nn.Module:
    """A copy whose norms are not as they were begun, nor what begins as one number, but so that
    what goes through the module neither vanishes nor grows."""
    copy, generator = deepcopy(module).eval(), torch.Generator().manual_seed(0)
    norms = [m for m in copy.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    begun = [p for p in copy.parameters() if p.numel() > 1 and bool((p == p.flatten()[0]).all())]
    with torch.no_grad():
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
            begun += [p for p in (norm.weight, norm.bias) if p is not None]
        for parameter in begun:
            low, high = (-0.2, 0.2) if parameter.flatten()[0] == 0 else (0.5, 1.5)
            parameter.uniform_(low, high, generator=generator)
        try:
            copy(torch.randn(PROBED, *input, generator=generator))
        except Exception:  # tracing will say what is wrong
            return copy.eval()
    return copy.eval()


def _checked(space: OwnSpace, module: nn.Module) -> OwnSpace:
    """The space with how far its largest network is from the module. Raises UnreadError where that
    is too far."""
    network, difference = space.network(), 0.0
    generator = torch.Generator().manual_seed(1)
    for batch in BATCHES:
        x = torch.randn(batch, *space.input, generator=generator)
        with torch.no_grad(), evaluating(module):
            wanted, given = module(x), network(x)[NAME]
        if not isinstance(wanted, Tensor) or wanted.shape != given.shape:
            raise UnreadError(
                f"the module gives {getattr(wanted, 'shape', type(wanted).__name__)}, and a head "
                f"{list(given.shape)}: wrap it in a module whose forward gives that"
            )
        if not (wanted.isfinite().all() and given.isfinite().all()):
            raise UnreadError("what the module gives is not finite: look at its weights")
        largest = float(wanted.abs().max()) or 1.0
        difference = max(difference, float((wanted - given).abs().max()) / largest)
    if not difference <= TOLERANCE:
        raise UnreadError(
            f"the largest network differs from the module by {difference:.2g} of its largest "
            f"output, and {TOLERANCE:g} may be: please report the module"
        )
    said = (
        f"# {space.name}: the largest network is the module that it was written around, to\n"
        f"# {difference:.0e} of its largest output, for samples of {list(space.input)}.\n\n"
    )
    return replace(space, text=said + space.text, difference=difference)
