"""A network as a folder: model.py, weights.safetensors, architecture.json, recipe.toml."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from nas.export.code import ExportError, model_source
from nas.grammar import Derivation, Grammar
from nas.journal import JSON
from nas.network import Network
from nas.op import Shape
from nas.optimizer import OPTIMIZERS
from nas.plan import run
from nas.task import Head, Splits, Task
from nas.train import Recipe

__all__ = [
    "ExportError", "Recipe", "difference", "facts", "load", "note", "outputs", "plain",
    "read_record", "save", "save_weights", "write",
]  # fmt: skip

FORMAT = 1
MODEL, WEIGHTS = "model.py", "weights.safetensors"
ARCHITECTURE, RECIPE = "architecture.json", "recipe.toml"
COUNTER = "num_batches_tracked"  # torch's BatchNorm keeps it, a Network has no use for it
TOLERANCE = 1e-5  # in shares of the largest output, where that is above 1
_RULES: dict[str, tuple[float, float, bool, str]] = {  # least, most, whole, what it says
    "epochs": (0, math.inf, False, "passes over the training data"),
    "lr": (0, math.inf, False, "the highest learning rate, reached after the warm-up"),
    "momentum": (0, 1, False, "share of the last update that is kept"),
    "weight_decay": (0, math.inf, False, "pull of the weights to zero; norms, biases have none"),
    "batch": (1, math.inf, True, "samples in a step"),
    "warmup": (0, 1, False, "share of the steps in which the learning rate rises"),
    "label_smoothing": (0, 1, False, "share of each target that is spread over all classes"),
    "clip": (0, math.inf, False, "the largest norm of a gradient; a longer one is shortened"),
    "seed": (0, math.inf, True, "decides the order of the samples"),
    "optimizer": (0, 0, False, f"how weights move: {' or '.join(OPTIMIZERS)}"),
}


@dataclass(frozen=True)
class Reading:
    """Reads a task's data when it is asked for: a folder loads where its data is not."""

    spec: str
    classes: tuple[str, ...]
    trust_code: bool

    def __call__(self) -> Splits:
        found = Task.load(self.spec, trust_code=self.trust_code)
        if found.classes != self.classes:
            raise ExportError(
                f"{self.spec} now has the classes {', '.join(found.classes)}, and the network was "
                f"made for {', '.join(self.classes)}: give the data it was made for"
            )
        return found.splits()


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
    _refuse_full(folder)
    named = list(network.plan.outputs)
    if tasks and [task.name for task in tasks] != named:
        raise ExportError(
            f"the network gives {', '.join(named)}, and the tasks are "
            f"{', '.join(task.name for task in tasks)}: give the tasks whose heads it has, in order"
        )
    _same_as_plain(network)
    said, title = _recipe_text(recipe), _title(network, tasks, source)
    record = _record(network, tasks, title, source)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / MODEL, model_source(network.plan, title=title).encode())
    write(folder / RECIPE, said.encode())
    save_weights(network, folder)
    _write_record(folder, record)  # last: what holds one is whole


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
    try:
        text, name = record["grammar"]["text"], record["grammar"]["name"]
        derived, input = record["derivation"], Shape.read(record["input"])
        tasks = [_read_task(each, trust_code) for each in record["tasks"]]
        source = dict(record["source"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{folder / ARCHITECTURE}: {error} is missing or of another type; save it again"
        ) from None
    grammar = Grammar.parse(text, name=name, trust_code=trust_code, alone=True)
    derivation = Derivation.read(derived, grammar)
    network = Network(derivation, input, heads=tasks or None)
    _fill(network, folder / WEIGHTS)
    return network.eval(), tasks, _read_recipe(folder / RECIPE), source


def save_weights(network: Network, folder: Path) -> None:
    """Replace the weights in a folder by the network's, at once or not at all."""
    write(Path(folder) / WEIGHTS, tensor_bytes(_weights(network), {"format": "pt"}))


def note(folder: Path, **facts: JSON) -> None:
    """Add facts to what architecture.json says of the source; a known name gets the new value."""
    record = read_record(Path(folder))
    record["source"] = {**record["source"], **facts}
    _write_record(Path(folder), record)


def facts(folder: Path) -> dict[str, Any]:
    """The `source` of a folder's network with all that was noted, without loading it."""
    return dict(read_record(Path(folder))["source"])


def plain(network: Network) -> nn.Module:
    """The network as model.py has it: a module of torch alone, in eval mode, on the CPU."""
    module = ModuleType("model")
    text = model_source(network.plan, title="model")
    exec(compile(text, "<model.py>", "exec"), module.__dict__)
    model: nn.Module = module.Model()
    counters = {k: v for k, v in model.state_dict().items() if k.endswith(COUNTER)}
    model.load_state_dict(counters | _weights(network))
    return model.eval()


def outputs(model: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """What a plain model gives for x (batch, *input), by name; nothing is remembered for
    gradients, and chance in it starts from one seed."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        result = model(x)
    return dict(result) if isinstance(result, dict) else {names[0]: result}


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The largest difference of two results, in shares of the largest number in the second where
    that is above 1. NaN equals NaN; results of other names or shapes differ by infinity."""
    if list(a) != list(b):
        return math.inf
    worst = 0.0
    for x, y in zip(a.values(), b.values(), strict=True):
        if x.shape != y.shape:
            return math.inf
        same = (x == y) | (x.isnan() & y.isnan())
        gap = torch.where(same, 0.0, (x - y).abs().double()).nan_to_num(math.inf, math.inf)
        scale = y[y.isfinite()].abs().max().item() if y.isfinite().any() else 1.0
        worst = max(worst, gap.max().item() / max(1.0, scale))
    return worst


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash."""
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with waiting.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(waiting, path)
    finally:
        waiting.unlink(missing_ok=True)


def _refuse_full(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is a file; give a folder that does not exist yet")
    if folder.is_dir() and any(folder.iterdir()):
        whole = (folder / ARCHITECTURE).exists()
        held = "a network" if whole else "files, and none is overwritten"
        raise ExportError(f"{folder} already holds {held}: give another folder, or empty this one")


def _weights(network: Network) -> dict[str, Tensor]:
    """Parameters and statistics by name, as copies of their own on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def _same_as_plain(network: Network) -> None:
    x = torch.randn(2, *network.plan.input.dims, generator=torch.Generator().manual_seed(0))
    tensors = [{k: v.cpu() for k, v in each.items()} for each in network.tensors()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wanted = run(network.plan, tensors, x)
    gap = difference(outputs(plain(network), x, list(wanted)), wanted)
    if gap > TOLERANCE:
        raise ExportError(
            f"model.py would differ from the network by {gap:.2g}, and {TOLERANCE:g} is allowed: "
            "an operator's code() does not say what its forward does"
        )


def _title(network: Network, tasks: Sequence[Task], source: Mapping[str, JSON]) -> str:
    title = Path(network.derivation.grammar.name).stem
    if tasks:
        title += f" for {', '.join(task.name for task in tasks)}"
    origin = [f"{k} {source[k]}" for k in ("run", "trial") if isinstance(source.get(k), str | int)]
    return title + (f" ({', '.join(origin)})" if origin else "")


def _record(
    network: Network, tasks: Sequence[Task], title: str, source: Mapping[str, JSON]
) -> dict[str, Any]:
    derivation = network.derivation
    grammar = derivation.grammar
    return {
        "format": FORMAT,
        "name": title,
        "input": str(network.plan.input),
        "outputs": {name: str(shape) for name, shape in network.plan.output_shapes().items()},
        "params": network.plan.params,
        "flops": network.plan.flops,
        "network": derivation.network_text,
        "derivation": str(derivation),
        "tasks": [_task_record(task) for task in tasks],
        "grammar": {"name": grammar.name, "hash": grammar.hash, "text": grammar.text},
        "source": dict(source),
    }


_TASK = ("name", "spec", "input", "target", "classes", "metric", "source", "licence", "title")


def _task_record(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in _TASK} | {"head": asdict(task.head)}


def _read_task(record: Mapping[str, Any], trust_code: bool) -> Task:
    said = {name: record[name] for name in _TASK}
    classes = tuple(said["classes"])
    head = Head(tuple(record["head"]["reads"]), record["head"]["term"])
    loader = Reading(said["spec"], classes, trust_code)
    made = {"input": tuple(said["input"]), "classes": classes, "head": head, "loader": loader}
    return Task(**{**said, **made})


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False)
    write(folder / ARCHITECTURE, (text + "\n").encode())


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: they become the texts nan, inf, -inf."""
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_record(folder: Path) -> dict[str, Any]:
    path = folder / ARCHITECTURE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(
            f"{path}: {error.strerror}; give a folder that `nas extract` wrote"
        ) from None
    except ValueError as error:
        raise ExportError(f"{path}: cannot be read as JSON: {error}; save it again") from None
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise ExportError(
            f"{path}: format {found!r} is not {FORMAT}, which this version reads; use the version "
            "of nas that wrote it, or save it again"
        )
    return dict(record)


def _fill(network: Network, path: Path) -> None:
    """Load weights by name, shapes compared; raises ExportError and changes nothing."""
    try:
        given = read_tensors(path.read_bytes())
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}; save the weights again") from None
    except SafetensorError as error:
        raise ExportError(f"{path}: {error}; save the weights again") from None
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in given.items() if COUNTER not in name}
    wrong = [
        f"{name} is {found.get(name, 'missing')}, the architecture has {wanted.get(name, 'none')}"
        for name in sorted(wanted.keys() | found.keys())
        if found.get(name) != wanted.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ExportError(
            f"{path} holds the weights of another network: {'; '.join(wrong[:3])}{more}"
        )
    network.load_state_dict({name: given[name] for name in wanted})


def _recipe_text(recipe: Recipe) -> str:
    lines = ["# How `nas retrain` trains this network. Change a value and retrain."]
    for name, value in asdict(recipe).items():
        _allow(name, value)
        lines += ["", f"# {_RULES[name][3]}", f"{name} = {value!r}"]
    return "\n".join(lines) + "\n"


def _read_recipe(path: Path) -> Recipe:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        for name, value in table.items():
            _allow(name, value)
        return Recipe(**table)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}; put a recipe there") from None
    except ValueError as error:
        raise ExportError(f"{path}: {error}; correct the file") from None


def _allow(name: str, value: Any) -> None:
    """Raise ExportError where a recipe cannot hold this value."""
    if name not in _RULES:
        raise ExportError(f"{name} is no value of a recipe; there are {', '.join(_RULES)}")
    least, most, whole, said = _RULES[name]
    if name == "optimizer":
        if value not in OPTIMIZERS:
            raise ExportError(f"optimizer = {value!r} must say {said}")
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ExportError(f"{name} = {value!r} must be a {'whole ' if whole else ''}number")
    if not least <= value <= most or math.isinf(value):
        bounds = f"from {least} to {most}" if most < math.inf else f"at least {least}"
        raise ExportError(f"{name} = {value} must be {bounds}")
