"""A network as a folder: model.py, weights.safetensors, architecture.json, recipe.toml, card.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from nas.export.card import write_card
from nas.export.code import model_source
from nas.export.error import ExportError
from nas.export.plain_model import COUNTER, difference, outputs, plain, under, weights_of
from nas.export.preparing import preparing_source
from nas.export.recipe import read_recipe, recipe_text
from nas.export.record import GrammarRecord, Record, TaskRecord, checked_record
from nas.files import metadata, new_folder, refuse_links, write
from nas.grammar import Derivation, Grammar
from nas.journal import JSON, finite
from nas.network import Network
from nas.op import Shape
from nas.plan import run
from nas.task import Splits, Task, load_tasks
from nas.task.task import Known
from nas.train import Recipe

FORMAT = 1
MODEL, WEIGHTS = "model.py", "weights.safetensors"
ARCHITECTURE, RECIPE = "architecture.json", "recipe.toml"
FACTS = "facts"  # the name in the metadata of weights
TOLERANCE = 1e-5  # in shares of the largest output, where that is above 1


class Data:
    """The data of a network's tasks, read together and once, when it is first asked for: a folder
    loads where its data is not."""

    def __init__(self, specs: Sequence[str], alike: Sequence[str], trust_code: bool):
        self.specs, self.trust_code = tuple(specs), trust_code
        self.others = [spec for spec in dict.fromkeys(alike) if spec and spec not in specs]

    @cached_property
    def tasks(self) -> list[Task]:
        """Those of the specs, cut as they were beside others."""
        tasks = load_tasks([*self.others, *self.specs], trust_code=self.trust_code)
        return tasks[len(self.others) :]


@dataclass(frozen=True)
class Reading:
    """Reads one task's splits; the same object at every call."""

    data: Data
    number: int
    classes: tuple[str, ...]
    known: Known | None = None

    def __call__(self) -> Splits:
        task = self.data.tasks[self.number]
        if task.classes != self.classes:
            raise ExportError(
                f"{task.spec} now has the classes {', '.join(task.classes)}, and the network was "
                f"made for {', '.join(self.classes)}: give the data it was made for"
            )
        splits = task.splits()
        if self.known and (
            task.preparation.numbers != self.known.preparation.numbers
            or task.units != self.known.units
        ):
            raise ExportError(
                f"{task.spec}: its data has changed since the network was extracted, and with it "
                "mean and deviation, by which the network's samples are prepared: give the data "
                "it was made for, or extract a network of a search on the new data"
            )
        return splits


def save(
    network: Network,
    folder: Path,
    *,
    tasks: Sequence[Task],
    recipe: Recipe,
    source: Mapping[str, JSON],
) -> None:
    """Write a network to a new or empty folder.

    `tasks` are those whose heads it has, none for a bare trunk; `source` says where it comes from.
    Raises ExportError where the folder holds something, or where the text of model.py does not
    compute what the network does.
    """
    folder = Path(folder)
    named = list(network.plan.outputs)
    if tasks and [task.name for task in tasks] != named:
        raise ExportError(
            f"the network gives {', '.join(named)}, and the tasks are "
            f"{', '.join(task.name for task in tasks)}: give the tasks whose heads it has, in order"
        )
    model = _same_as_plain(network)
    recipe_toml, title = recipe_text(recipe), _title(network, tasks, source)
    record = _record(network, tasks, title, source)
    with new_folder(folder) as part:
        text = model_source(network.plan, title=title, beside=preparing_source(tasks))
        write(part / MODEL, text.encode())
        write(part / RECIPE, recipe_toml.encode())
        save_weights(network, part, names=list(model.state_dict()))
        _write_record(part, record)
        write_card(part, record, record.source)


def load(
    folder: Path, *, trust_code: bool = False
) -> tuple[Network, list[Task], Recipe, dict[str, JSON]]:
    """The network in eval mode, its tasks, its recipe and its `source` with all that was noted.

    Data is read when a task's splits are. Raises ExportError where a file is missing or broken, or
    weights are others than the architecture's; GrammarError where the space has operators of
    the user's own and `trust_code` is off.
    """
    folder = Path(folder)
    record = read_record(folder)
    grammar = Grammar.parse(
        record.grammar.text, name=record.grammar.name, trust_code=trust_code, alone=True
    )
    alike = [task_record.alike for task_record in record.tasks]
    data = Data([task_record.spec for task_record in record.tasks], alike, trust_code)
    tasks = [
        task_record.task(Reading(data, i, task_record.classes, task_record.known))
        for i, task_record in enumerate(record.tasks)
    ]
    derivation = Derivation.read(record.derivation, grammar)
    network = Network(derivation, Shape.read(record.input), heads=tasks or None)
    noted = _fill(network, folder / WEIGHTS)
    source = {**record.source, **noted}
    return network.eval(), tasks, read_recipe(folder / RECIPE), source


def save_weights(
    network: Network,
    folder: Path,
    facts: Mapping[str, JSON] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Replace the weights in a folder by the network's, and with them what is known of these, both
    at once or not at all; by the names of its model.py: `names`, or those that stand there."""
    facts_text = {"format": "pt"}
    if facts:
        facts_text[FACTS] = json.dumps(finite(facts, str), allow_nan=False)
    path = Path(folder) / WEIGHTS
    tensors = under(_read_weights(path) if names is None else names, weights_of(network))
    write(path, tensor_bytes(tensors, facts_text))


def note(folder: Path, **facts: JSON) -> None:
    """Add facts to what architecture.json says of the source; a known name gets the new value."""
    folder = Path(folder)
    record = read_record(folder)
    record = replace(record, source={**record.source, **facts})
    _write_record(folder, record)
    write_card(folder, record, {**record.source, **_known_of_weights(folder / WEIGHTS)})


def facts(folder: Path) -> dict[str, Any]:
    """The `source` of a folder's network with all that was noted, and what is known of its weights,
    without loading it."""
    return {**read_record(Path(folder)).source, **_known_of_weights(Path(folder) / WEIGHTS)}


def _known_of_weights(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(metadata(path).get(FACTS, "{}"))
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: {error}; save the weights again") from None
    return dict(known) if isinstance(known, dict) else {}


def _same_as_plain(network: Network) -> nn.Module:
    """The network as its model.py has it; raises ExportError where that computes something else."""
    model = plain(network)
    x = torch.randn(2, *network.plan.input.dims, generator=torch.Generator().manual_seed(0))
    tensors = [{k: v.cpu() for k, v in step.items()} for step in network.tensors()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wanted = run(network.plan, tensors, x)
    gap = difference(outputs(model, x, list(wanted)), wanted)
    if gap > TOLERANCE:
        raise ExportError(
            f"model.py would differ from the network by {gap:.2g}, and {TOLERANCE:g} is allowed: "
            "an operator's code() does not say what its forward does"
        )
    return model


def _title(network: Network, tasks: Sequence[Task], source: Mapping[str, JSON]) -> str:
    title = Path(network.derivation.grammar.name).stem
    if tasks:
        title += f" for {', '.join(task.name for task in tasks)}"
    origin = [f"{k} {source[k]}" for k in ("run", "trial") if isinstance(source.get(k), str | int)]
    return title + (f" ({', '.join(origin)})" if origin else "")


def _record(
    network: Network, tasks: Sequence[Task], title: str, source: Mapping[str, JSON]
) -> Record:
    derivation, planned = network.derivation, network.plan
    grammar = derivation.grammar
    return Record(
        format=FORMAT,
        name=title,
        input=str(planned.input),
        outputs={name: str(shape) for name, shape in planned.output_shapes().items()},
        params=planned.params,
        flops=planned.flops,
        network=derivation.network_text,
        derivation=str(derivation),
        tasks=tuple(TaskRecord.of(task) for task in tasks),
        grammar=GrammarRecord(grammar.name, grammar.hash, grammar.text),
        source=dict(source),
    )


def _write_record(folder: Path, record: Record) -> None:
    text = json.dumps(finite(asdict(record), str), indent=2, ensure_ascii=False, allow_nan=False)
    write(folder / ARCHITECTURE, (text + "\n").encode())


def read_record(folder: Path) -> Record:
    """What architecture.json holds. Raises ExportError where it is none, or of another format, and
    FolderError where there are links in the folder."""
    path = folder / ARCHITECTURE
    if folder.is_dir():
        refuse_links(folder)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(
            f"{path}: {error.strerror}; give a folder that `nas extract` wrote"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: cannot be read as JSON: {error}; save it again") from None
    format = record.get("format") if isinstance(record, dict) else None
    if format != FORMAT:
        raise ExportError(
            f"{path}: format {format!r:.60} is not {FORMAT}, which this version reads; use the "
            "version of nas that wrote it, or save it again"
        )
    return checked_record(record, path)


def fill_by_name(network: Network, path: Path) -> str:
    """Load what a file, or a network's folder, has of a network's tensors by name and shape; what
    came of it, in words. Raises ExportError where it has none of them."""
    path = path / WEIGHTS if path.is_dir() else path
    own = network.state_dict()
    given = under(own, _read_weights(path))
    fitting = [n for n, value in own.items() if n in given and given[n].shape == value.shape]
    others = [name for name in own if name not in fitting]
    if not fitting:
        raise ExportError(
            f"{path}: has none of this network's tensors, as {', '.join(list(own)[:3])}; there are "
            f"{', '.join(list(given)[:3]) or 'none'}: give weights of a network like this one"
        )
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(given[name])
    fresh = f"; new are {', '.join(others[:6])}{' …' * (len(others) > 6)}" if others else ""
    return f"{len(fitting)} of {len(own)} tensors begin with those of {path}{fresh}"


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; raises ExportError where it cannot be read."""
    try:
        return read_tensors(path.read_bytes())
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}; save the weights again") from None
    except SafetensorError as error:
        raise ExportError(f"{path}: {error}; save the weights again") from None


def _fill(network: Network, path: Path) -> dict[str, Any]:
    """Load weights by name, shapes compared, and give what is known of them; raises ExportError and
    changes nothing."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = under(wanted, _read_weights(path))
    there = {name: tuple(value.shape) for name, value in given.items() if COUNTER not in name}
    wrong = [
        f"{name} is {there.get(name, 'missing')}, the architecture has {wanted.get(name, 'none')}"
        for name in sorted(wanted.keys() | there.keys())
        if there.get(name) != wanted.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ExportError(
            f"{path} holds the weights of another network: {'; '.join(wrong[:3])}{more}"
        )
    network.load_state_dict({name: given[name] for name in wanted})
    return _known_of_weights(path)
