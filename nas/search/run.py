"""`Run`: a folder of results. What was searched, every trial, the fronts, the networks."""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.archive import Archive, Trial
from nas.front import Limit, Objective, ParetoFront
from nas.grammar import Derivation, Grammar
from nas.search.settings import Settings
from nas.task import Task

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nas.network import Network
    from nas.supernet import Bank

FORMAT = 1
TRUST = "trust.json"
FEW_SAMPLES = 5_000  # of which a network wants smaller batches, and so more steps
PACKAGES = ("nas-engine", "torch", "optuna", "ray", "numpy", "scikit-learn")
COSTS = ("flops", "params", "activations", "size_mb", "latency_ms")


class TaskName(NamedTuple):
    """What a run's tables need of a task, without its data."""

    name: str
    metric: str


class RunError(ValueError):
    """A run folder that is none, of a newer version, or in the way."""


class Run:
    """A run folder, for reading. `trials` are as the journal stands now."""

    def __init__(self, folder: Path, *, trust_code: bool = False):
        self.folder = folder
        self.trust_code = trust_code
        facts = _read(folder)
        self.facts: Mapping[str, Any] = {k: v for k, v in facts.items() if k != "settings"}
        self.settings = Settings.of(facts.get("settings", {}), str(folder / "run.toml"))

    @cached_property
    def grammar(self) -> Grammar:
        path = self.folder / "space.grammar"
        return Grammar.parse(
            path.read_text(encoding="utf-8"), name=self.settings.space, trust_code=self.trust_code,
            alone=True,
        )

    @cached_property
    def tasks(self) -> list[Task]:
        return [Task.load(spec, trust_code=self.trust_code) for spec in self.settings.tasks]

    @cached_property
    def named(self) -> Sequence[TaskName | Task]:
        """The tasks' names and metrics as run.toml holds them."""
        facts = self.facts.get("tasks", ())
        return [TaskName(task["name"], task["metric"]) for task in facts] or self.tasks

    @property
    def trust(self) -> str:
        """What commands on this run need said: " --trust-code" where it names code, or ""."""
        uses = re.search(r"^use ", (self.folder / "space.grammar").read_text(), flags=re.M)
        code = any(re.search(r"=.*:\w+$", spec) for spec in self.settings.tasks)
        return " --trust-code" if uses or code else ""

    @property
    def trials(self) -> tuple[Trial, ...]:
        with Archive.open(self.folder) as archive:
            return archive.trials

    def trial(self, id: str) -> Trial:
        """A trial by its id or the id's beginning; ArchiveError names the nearest."""
        with Archive.open(self.folder) as archive:
            return archive.trial(id)

    def derivation(self, id: str) -> Derivation:
        return Derivation.read(self.trial(id).derivations[""], self.grammar)

    def costs(self, derivation: Derivation) -> dict[str, float] | None:
        """What can be counted of an architecture with the heads of the run's tasks; None where that
        is more than the run's limits."""
        return costs_of(derivation, self.tasks, self.limits)

    @property
    def evaluator(self) -> str:
        """What evaluates the run's trials: as it was measured to be best, or as settings say."""
        from nas.search.worker import kind

        with Archive.open(self.folder) as archive:
            verdict = archive.notes("verdict")
        return str(verdict[0]["evaluator"]) if verdict else kind(self.settings, self.grammar)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return objectives_of(self.settings, self.named)

    @property
    def limits(self) -> tuple[Limit, ...]:
        known = columns_of(self.named)
        return tuple(Limit.parse(text, known) for text in self.settings.limits)

    def front(self, objectives: Sequence[str] = ()) -> ParetoFront:
        """The Pareto front over the run's objectives, or over the columns named."""
        known = columns_of(self.named)
        chosen = tuple(Objective.named(name, known) for name in objectives) or self.objectives
        return ParetoFront.of(self.trials, chosen, self.limits)

    def fronts(self) -> dict[str, ParetoFront]:
        """The front over everything under "", and where there are several tasks one for each:
        its metric and the costs among the objectives."""
        found = {"": self.front()}
        if len(self.named) > 1:
            costs = [o.name for o in self.objectives if o.name in COSTS] or ["flops"]
            for task in self.named:
                found[task.name] = self.front([column(task, self.named), *costs])
        return found

    def to_pandas(self) -> pd.DataFrame:
        """Every trial as a row: number, id, state, and all columns measured."""
        import pandas as pd

        return pd.DataFrame([
            {"number": t.number, "id": t.id, "state": t.state, **t.columns()} for t in self.trials
        ])  # fmt: skip

    def bank(self) -> Bank:
        """The trained shared weights; RunError where the run has none."""
        from nas.search.worker import make_bank

        path = self.folder / "bank.safetensors"
        if not path.exists():
            raise RunError(f"{self.folder} has no trained bank: nas resume {self.folder}")
        here = self.settings.model_copy(update={"device": "cpu"})
        bank = make_bank(self.grammar, self.tasks, here, trained=True)
        bank.load(path)
        return bank

    def network(self, id: str) -> Network:
        """A trial's network: its subnet's weights and statistics, as they were measured, where the
        run shares weights (trained on alone once more, where it was); freshly initialised ones
        otherwise."""
        from nas.evaluate import finetune, network_of
        from nas.measure.latency import threads
        from nas.network import Network
        from nas.search.worker import finetuning

        derivation, settings = self.derivation(id), self.settings
        if self.evaluator == "shared":
            return network_of(
                self.bank(), derivation, self.tasks, seed=settings.seed,
                samples=settings.supernet.samples,
            )  # fmt: skip
        if self.evaluator == "finetuned":
            with threads(1):  # as it was measured
                recipe = finetuning(settings, self.tasks, settings.seed)
                return finetune(
                    self.bank(), derivation, self.tasks, recipe, samples=settings.supernet.samples
                )
        return Network(derivation, heads=self.tasks, seed=settings.seed).eval()

    def extract(self, id: str) -> nn.Module:
        """A trial's network as a plain torch module that needs nothing of nas; eval mode."""
        from nas.export import plain

        return plain(self.network(id))

    def save(self, id: str, folder: str | Path) -> Network:
        """Write a trial's network to a new folder: model.py, weights.safetensors,
        architecture.json, recipe.toml. Raises ExportError where the folder is in the way."""
        from nas.export import save

        trial = self.trial(id)
        network = self.network(trial.id)
        columns: dict[str, Any] = dict(trial.columns())
        source: dict[str, Any] = {"run": self.folder.name, "trial": trial.id, "columns": columns}
        few = min(len(task.splits().train) for task in self.tasks) < FEW_SAMPLES
        batch = self.settings.retrain.batch or (32 if few else 64)
        recipe = self.settings.retrain.recipe(self.settings.seed, batch=batch)
        save(network, Path(folder), tasks=self.tasks, recipe=recipe, source=source)
        return network

    def best(self) -> str:
        """The id of the front's first trial: the best by the first objective."""
        front = self.front()
        if not front.trials:
            raise RunError(f"{self.folder} has no front yet: nas resume {self.folder}")
        return front.trials[0].id

    def __repr__(self) -> str:
        return f"<Run {self.folder}: {self.settings.space} for {', '.join(self.settings.tasks)}>"


def costs_of(
    derivation: Derivation, tasks: Sequence[Task], limits: Sequence[Limit]
) -> dict[str, float] | None:
    """What can be counted of an architecture with the heads of some tasks; None where that is more
    than limits allow."""
    from nas.measure import costs
    from nas.plan import plan

    found = {m.name: m.value for m in costs(plan(derivation, heads=tasks))}
    kept = all(found[one.name] <= one.at_most for one in limits if one.name in found)
    return found if kept else None


def load(folder: str | Path, *, trust_code: bool = False) -> Run:
    """The run in a folder; raises RunError where it is none or of a newer version.

    Code of the user's own that its space or tasks name is only run with `trust_code`.
    """
    return Run(Path(folder), trust_code=trust_code)


def create(
    folder: Path, settings: Settings, grammar: Grammar, tasks: Sequence[Task] = ()
) -> None:
    """Make a run folder: run.toml and space.grammar; the journal comes with the search.

    Raises RunError where the folder holds anything already.
    """
    import tomli_w

    if folder.exists() and any(folder.iterdir()):
        known = (folder / "run.toml").exists()
        fix = f"nas resume {folder}" if known else "name another with --out"
        raise RunError(f"{folder} exists and is not empty: {fix}, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.grammar").write_text(grammar.text, encoding="utf-8")
    facts = {
        "format": FORMAT,
        "grammar": grammar.hash,
        "versions": versions(),
        "machine": machine(),
        "tasks": [{"name": task.name, "metric": task.metric} for task in tasks],
        "settings": settings.model_dump(mode="json", exclude_none=True),
    }
    part = folder / "run.toml.part"
    part.write_text(tomli_w.dumps(facts), encoding="utf-8")
    part.replace(folder / "run.toml")


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "run.toml"
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder} is no run: it has no run.toml; nas search makes one") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if facts.get("format", 0) > FORMAT:
        raise RunError(
            f"{folder} was written by a newer nas (run format {facts['format']}, this one reads "
            f"{FORMAT}): pip install -U nas-engine"
        )
    return facts


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the run was made on, without names of hosts or users."""
    import os

    return {
        "system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count() or 1,
        "processor": _processor(),
    }  # fmt: skip


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def column(task: TaskName | Task, tasks: Sequence[TaskName | Task]) -> str:
    """The column of a task's primary metric: plain where there is one task."""
    return task.metric if len(tasks) == 1 else f"{task.name.replace('-', '_')}_{task.metric}"


def columns_of(tasks: Sequence[TaskName | Task]) -> list[str]:
    """Every column that a run on these tasks can be asked to optimise or limit."""
    long = [f"{t.name.replace('-', '_')}_{m}" for t in tasks for m in (t.metric, "nll")]
    short = [tasks[0].metric, "nll"] if len(tasks) == 1 else []
    return [*short, *COSTS, *long]


def objectives_of(
    settings: Settings, tasks: Sequence[TaskName | Task]
) -> tuple[Objective, ...]:
    """The objectives named, or each task's metric and FLOPs; with one task latency too."""
    known, costs = columns_of(tasks), ("flops", "latency_ms")[: 2 if len(tasks) == 1 else 1]
    names = settings.objectives or (*(column(t, tasks) for t in tasks), *costs)
    return tuple(Objective.named(name, known) for name in names)
