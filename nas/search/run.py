"""`Run`: a folder of results. What was searched, every trial, the fronts, the networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.archive import Archive, Trial
from nas.files import refuse_links
from nas.front import Limit, Objective, ParetoFront
from nas.grammar import Derivation, Grammar
from nas.search.folder import RunError, TaskName, read_facts
from nas.search.settings import EXECUTION, Settings
from nas.task import TARGETS, Task, TaskError, load_tasks

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nas.network import Network
    from nas.supernet import Bank

TRUST = "trust.json"
FEW_SAMPLES = 5_000  # of which a network wants smaller batches, and so more steps
COSTS = ("flops", "params", "activations", "size_mb", "latency_ms")


class Run:
    """A run folder, for reading. `trials` are as the journal stands now.

    changed: settings other than in run.toml, as where it is carried on. Raises FolderError where
    the folder holds links, RunError where it is no run, SettingsError for settings that cannot be.
    """

    def __init__(self, folder: Path, *, trust_code: bool = False, **changed: Any):
        self.folder = folder
        self.trust_code = trust_code
        if folder.is_dir():
            refuse_links(folder)
        self.said = read_facts(folder)
        known = {k: v for k, v in self.said.settings.items() if k not in EXECUTION}
        self.settings = Settings.of({**known, **changed}, str(folder / "run.toml"))

    @cached_property
    def grammar(self) -> Grammar:
        path = self.folder / "space.grammar"
        grammar = Grammar.parse(
            path.read_text(encoding="utf-8"),
            name=self.settings.space,
            trust_code=self.trust_code,
            alone=True,
        )
        if self.said.grammar not in ("", grammar.hash):
            raise RunError(
                f"{path}: the space has changed since the run began (it was {self.said.grammar} "
                f"and is {grammar.hash}), or a file of operators that it uses: put back what was "
                "there, or search the new space in a run of its own"
            )
        return grammar

    @cached_property
    def tasks(self) -> list[Task]:
        try:
            return load_tasks(self.settings.tasks, trust_code=self.trust_code)
        except TaskError as error:
            if "--trust-code" in str(error):
                raise
            where = f"{self.folder / 'run.toml'} names the data, under [settings] tasks"
            raise TaskError(f"{error} ({where}; if it moved, write its path there)") from None

    @cached_property
    def named(self) -> Sequence[TaskName | Task]:
        """The tasks' names and metrics as run.toml holds them."""
        return self.said.tasks or self.tasks

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of how the run came about: machine, versions."""
        return {"machine": self.said.machine, "versions": self.said.versions}

    @property
    def trust(self) -> str:
        """What commands on this run need said: " --trust-code" where it names code, or ""."""
        uses = re.search(r"^use ", (self.folder / "space.grammar").read_text(), flags=re.M)
        named = (*self.settings.tasks, f"={self.settings.supernet.strategy}")
        code = any(re.search(r"=.*:\w+$", spec.partition("?layout=")[0]) for spec in named)
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
        return Derivation.read(self.trial(id).text, self.grammar)

    def costs(self, derivation: Derivation) -> dict[str, float] | None:
        """What can be counted of an architecture with the heads of the run's tasks; None where that
        is more than the run's limits."""
        found = costs_of(derivation, self.tasks)
        return found if kept(found, self.limits) else None

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
        """The Pareto front over the run's objectives, or over any columns that trials have."""
        trials = self.trials
        known = {*columns_of(self.named), *(name for t in trials for name in t.columns())}
        chosen = tuple(Objective.named(name, known) for name in objectives) or self.objectives
        return ParetoFront.of(trials, chosen, self.limits)

    @property
    def trivial(self) -> dict[str, float]:
        """What always saying the training prior comes to on validation, by column."""
        return {
            column(task, self.named): task.trivial
            for task in self.said.tasks
            if task.trivial is not None
        }

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

        return pd.DataFrame(
            [{"number": t.number, "id": t.id, "state": t.state, **t.columns()} for t in self.trials]
        )

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
        from nas.train import chance

        derivation, settings = self.derivation(id), self.settings
        samples = settings.supernet.samples
        with threads(1), chance(settings.seed, derivation):  # as it was measured
            if self.evaluator == "shared":
                return network_of(
                    self.bank(), derivation, self.tasks, seed=settings.seed, samples=samples
                )
            if self.evaluator == "finetuned":
                recipe = finetuning(settings, self.tasks, settings.seed)
                return finetune(self.bank(), derivation, self.tasks, recipe, samples=samples)
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


def costs_of(derivation: Derivation, tasks: Sequence[Task]) -> dict[str, float]:
    """What can be counted of an architecture with the heads of some tasks."""
    from nas.measure import costs
    from nas.plan import plan

    return {m.name: m.value for m in costs(plan(derivation, heads=tasks))}


def kept(columns: Mapping[str, float], limits: Sequence[Limit]) -> bool:
    """Whether limits are kept by those columns that are known."""
    return all(limit.keeps(columns) for limit in limits if limit.name in columns)


def load(folder: str | Path, *, trust_code: bool = False, **changed: Any) -> Run:
    """The run in a folder; raises RunError where it is none or of a newer version.

    Code of the user's own that its space or tasks name is only run with `trust_code`. `changed`
    are settings to be carried on with, as `device`.
    """
    return Run(Path(folder), trust_code=trust_code, **changed)


def column(task: TaskName | Task, tasks: Sequence[TaskName | Task]) -> str:
    """The column of a task's primary metric: plain where there is one task."""
    return task.metric if len(tasks) == 1 else f"{task.name.replace('-', '_')}_{task.metric}"


def columns_of(tasks: Sequence[TaskName | Task]) -> list[str]:
    """Every column that a run on these tasks can be asked to optimise or limit."""
    long = [f"{t.name.replace('-', '_')}_{m}" for t in tasks for m in (t.metric, "nll")]
    short = [tasks[0].metric, "nll"] if len(tasks) == 1 else []
    return [*short, *COSTS, *long]


def column_clash(tasks: Sequence[Task]) -> str:
    """Why the columns of some tasks cannot be told apart, "" where they can."""
    whose: dict[str, str] = dict.fromkeys(COSTS, "a cost")
    for task in tasks:
        for metric in TARGETS[task.target].metrics:
            for part in ("", "test_", "retrained_"):
                whose.setdefault(f"{part}{metric.name}", "a run's own")
    for task in tasks:
        name = task.name.replace("-", "_")
        for metric in TARGETS[task.target].metrics:
            for part in ("", "test_", "retrained_"):
                column = f"{name}_{part}{metric.name}"
                if column in whose:
                    return (
                        f"the task {task.name!r} would have the column {column}, which is "
                        f"{whose[column]} already: give it another name, as mine={task.spec}"
                    )
                whose[column] = f"that of {task.name!r}"
    return ""


def objectives_of(settings: Settings, tasks: Sequence[TaskName | Task]) -> tuple[Objective, ...]:
    """The objectives named, or each task's metric and FLOPs; with one task latency too."""
    known, costs = columns_of(tasks), ("flops", "latency_ms")[: 2 if len(tasks) == 1 else 1]
    names = settings.objectives or (*(column(t, tasks) for t in tasks), *costs)
    return tuple(Objective.named(name, known) for name in names)
