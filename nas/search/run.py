"""`Run`: a folder of results. What was searched, every trial, the fronts."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter

from nas.archive import Archive, Trial
from nas.files import refuse_links
from nas.front import Limit, Objective, ParetoFront
from nas.grammar import Derivation, Grammar
from nas.measure import cost_named
from nas.measure.profile import Profile
from nas.plan import plan
from nas.search.columns import Aim, Named, aims_of, column, columns_of, own_column
from nas.search.error import RunError
from nas.search.folder import kept_profiles, read_facts
from nas.search.gain import Gain, gain
from nas.search.pick import picked
from nas.search.problem import Problem
from nas.search.settings import EXECUTION, Settings
from nas.search.steer import STEERING, Answer, Steering
from nas.supernet.decoders import parts
from nas.task import Task, TaskError, load_tasks

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nas.network import Network
    from nas.supernet import Bank

TRUST, PREFERENCES = "trust.json", "preferences.json"
Shares = Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]


class Run:
    """A run folder, for reading. `trials` are as the journal stands now.

    changed: settings other than in run.toml, as where it is carried on. Raises FolderError where
    the folder holds links, RunError where it is no run, SettingsError for settings that cannot be.
    """

    def __init__(self, folder: Path, *, trust_code: bool = False, **changed: Any):
        self.folder = folder
        self.trust_code = trust_code
        self.profiles: tuple[Profile, ...] = ()  # of devices whose latencies trials have too
        if folder.is_dir():
            refuse_links(folder)
        self.written = read_facts(folder)
        known = {k: v for k, v in self.written.settings.items() if k not in EXECUTION}
        for table in ("supernet", "standalone", "retrain"):  # runs of before did not augment
            if isinstance(known.get(table), dict):
                known[table] = {"augment": False, **known[table]}
        settings = Settings.of({**known, **changed}, str(folder / "run.toml"))
        profiles = kept_profiles(folder, settings.profiles)
        self.settings = settings.model_copy(update={"profiles": profiles})

    @cached_property
    def grammar(self) -> Grammar:
        path = self.folder / "space.grammar"
        grammar = Grammar.parse(
            path.read_text(encoding="utf-8"),
            name=self.settings.space,
            trust_code=self.trust_code,
            alone=True,
        )
        if self.written.grammar not in ("", grammar.hash):
            raise RunError(
                f"{path}: the space has changed since the run began (it was "
                f"{self.written.grammar} and is {grammar.hash}), or a file of operators that it "
                "uses: put back what was there, or search the new space in a run of its own"
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
    def problem(self) -> Problem:
        """What is searched, the data of its tasks included."""
        return Problem(self.settings, self.grammar, tuple(self.tasks))

    @cached_property
    def named(self) -> Named:
        """The tasks' names and metrics as run.toml holds them."""
        return self.written.tasks or self.tasks

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of how the run came about: machine, versions."""
        return {"machine": self.written.machine, "versions": self.written.versions}

    @property
    def trust(self) -> str:
        """What commands on this run need said: " --trust-code" where it names code, or ""."""
        uses = re.search(r"^use ", (self.folder / "space.grammar").read_text(), flags=re.M)
        settings = self.settings
        named = (*settings.tasks, f"={settings.supernet.strategy}", f"={settings.sampler}")
        code = any(re.search(r"=(?!hf:).*:\w+$", spec.partition("?")[0]) for spec in named)
        return " --trust-code" if uses or code else ""

    @property
    def trials(self) -> tuple[Trial, ...]:
        with Archive.open(self.folder) as archive:
            trials = archive.trials
        return tuple(map(self._predicted, trials)) if self.profiles else trials

    def _predicted(self, trial: Trial) -> Trial:
        """A trial with what profiles of devices predict."""
        if trial.state == "failed":
            return trial
        derivation = Derivation.read(trial.text, self.grammar)
        planned = plan(derivation, heads=self.tasks)
        more = (profile.measurement(planned) for profile in self.profiles)
        return replace(trial, measurements=(*trial.measurements, *more))

    def on_devices(self, paths: Sequence[str | Path]) -> Run:
        """The same run with what profiles of devices predict of every trial, as latency_ms@NAME.
        Raises ProfileError for one that tells nothing of the run's space."""
        settings = self.settings.model_copy(update={"profiles": tuple(map(str, paths))})
        run = copy(self)
        run.profiles = tuple(Problem(settings, self.grammar, tuple(self.tasks)).profiles.values())
        return run

    def trial(self, id: str) -> Trial:
        """A trial by its id or the id's beginning; ArchiveError names the nearest."""
        with Archive.open(self.folder) as archive:
            return archive.trial(id)

    def derivation(self, id: str) -> Derivation:
        return Derivation.read(self.trial(id).text, self.grammar)

    @property
    def evaluator(self) -> str:
        """What evaluates the run's trials: as it was measured to be best, or as settings say."""
        with Archive.open(self.folder) as archive:
            verdict = archive.notes("verdict")
        return str(verdict[0]["evaluator"]) if verdict else self.problem.evaluator

    @cached_property
    def aims(self) -> tuple[Aim, ...]:
        """What architectures are chosen by: one aim for all tasks, or one for each."""
        return aims_of(self.settings, self.named)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those of every aim."""
        return tuple(dict.fromkeys(o for aim in self.aims for o in aim.objectives))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Those of every aim."""
        return tuple(dict.fromkeys(limit for aim in self.aims for limit in aim.limits))

    def aim(self, task: str = "") -> Aim:
        """What a task's architectures are chosen by; without one, what those for all tasks are.

        Raises RunError for a task that is none of the run's, and without one where each task finds
        its own.
        """
        names = [named.name for named in self.named]
        if task not in names and (task or self.settings.per_task):
            why = f"{task!r} is no task of {self.folder}" if task else "each task has its own front"
            raise RunError(f"{why}: say which, of {', '.join(names)} (--task {names[0]})")
        own = {aim.task: aim for aim in self.aims}
        if task in own:
            return own[task]
        named = next(named for named in self.named if named.name == task)
        metric = column(named, self.named, named.own_metric)
        costs = [o for o in self.aims[0].objectives if cost_named(o.name)]
        return Aim(
            (Objective.named(metric, [metric]), *(costs or [Objective("flops", False)])),
            self.aims[0].limits,
            task,
        )

    def front(self, objectives: Sequence[str] = (), *, task: str = "") -> ParetoFront:
        """The Pareto front over the run's objectives, or a task's, or any columns that trials have;
        of a task a bare name is its own column, where there is one. Raises RunError where each task
        has its own and none is named."""
        trials, aim = self.trials, self.aim(task)
        known = set(columns_of(self.settings, self.named))
        known.update(name for trial in trials for name in trial.columns())
        if named := next((named for named in self.named if named.name == task), None):
            own = [own_column(named, name) for name in objectives]
            objectives = [o if o in known else n for o, n in zip(own, objectives, strict=True)]
        chosen = tuple(Objective.named(name, known) for name in objectives) or aim.objectives
        return ParetoFront.of(trials, chosen, aim.limits)

    @property
    def gain(self) -> Gain | None:
        """What the sampler brought over the search's own random draws, None of too few."""
        with Archive.open(self.folder) as archive:
            varied = {str(note["id"]) for note in archive.notes("varied")}  # by no sampler
        return gain([trial for trial in self.trials if trial.id not in varied], self.aims)

    @property
    def trivial(self) -> dict[str, float]:
        """What always saying the training prior comes to on validation, by column."""
        return {
            column(task, self.named): task.trivial
            for task in self.written.tasks
            if task.trivial is not None
        }

    def fronts(self) -> dict[str, ParetoFront]:
        """The front over everything under "", but where each task finds its own architecture; and
        where there are several tasks one for each."""
        fronts = {} if self.settings.per_task else {"": self.front()}
        if len(self.named) > 1:
            fronts |= {task.name: self.front(task=task.name) for task in self.named}
        return fronts

    @property
    def verdict(self) -> str:
        """What was measured of its evaluators against training from scratch, "" where nothing."""
        with Archive.open(self.folder) as archive:
            verdict = archive.notes("verdict")
        return str(verdict[0].get("says", "")) if verdict else ""

    def pick(self, how: str = "best", limits: Sequence[str] = (), *, task: str = "") -> str:
        """The id of a trial of a front: the `best`, the `knee`, where no objective can be bettered
        without losing much of another, or the least by a column; of those that keep limits, as
        flops<=2M. Raises RunError where there is none."""
        return picked(self.front(task=task), how, limits).id

    def to_pandas(self) -> pd.DataFrame:
        """Every trial as a row: number, id, state, and all columns measured."""
        import pandas as pd

        rows = (
            {"number": t.number, "id": t.id, "state": t.state, **t.columns()} for t in self.trials
        )
        return pd.DataFrame(list(rows))

    @cached_property
    def preferences(self) -> dict[str, dict[str, dict[str, float]]]:
        """By task, site and label the probabilities that were learned while the shared weights were
        trained; {} where the strategy learns none. Raises RunError for a file that is none."""
        path = self.folder / PREFERENCES
        if not path.exists():
            return {}
        try:
            known = TypeAdapter(dict[str, dict[str, Shares]]).validate_json(path.read_bytes())
        except ValueError as error:
            raise RunError(f"{path}: {str(error).splitlines()[0]}: it holds no shares") from None
        missing = {named.name for named in self.named} - known.keys()
        if missing:
            raise RunError(f"{path}: holds nothing of {', '.join(sorted(missing))}")
        return known

    def bank(self) -> Bank:
        """The trained shared weights; RunError where the run has none."""
        from nas.search.extract import trained_bank

        return trained_bank(self.problem, self.folder)

    def network(self, id: str, task: str = "") -> Network:
        """A trial's network, as it was measured where its weights can be had again; with a task,
        what that one takes of it. Raises RunError where each task finds its own and none is named.
        """
        from nas.search.extract import network_of

        self.aim(task)
        derivation = self.derivation(id)
        return network_of(self.problem, self.folder, self.evaluator, derivation, task)

    def steer(self, prefer: Mapping[str, float], limits: Sequence[str] = ()) -> Answer:
        """The network that preferences and limits on costs come to, where the run's space has a
        decoder for each task: at once, from what was measured. prefer: by task what it is worth
        beside the others; {} is all alike. limits: as flops<=2M. Raises RunError for what cannot
        be."""
        return Steering.load(self.folder).answer(prefer, limits)

    def extract(self, id: str, task: str = "") -> nn.Module:
        """A trial's network as a plain torch module that needs nothing of nas; eval mode."""
        from nas.export import plain

        return plain(self.network(id, task))

    def save(
        self, id: str | Answer, folder: str | Path, *, task: str = "", checked: bool = True
    ) -> Network:
        """Write a trial's network, or one that preferences came to, to a new folder: model.py,
        weights.safetensors, architecture.json, recipe.toml; with a task, a network for that one
        alone. Raises ExportError where the folder is in the way, RunError where a network of shared
        weights is evaluated again and is not as good as it was (unless it is not to be `checked`).
        """
        from nas.search.extract import check, measured_of, network_of, save

        source: dict[str, Any] = {"run": self.folder.name}
        if isinstance(id, Answer):
            derivation, columns = id.derivation(self.grammar), dict(id.columns)
            called, scores = "what preferences came to", id.scores
            if parts(derivation) != (id.encoder, id.decoders):
                raise RunError(f"{self.folder / STEERING} names choices that the space has not")
            measured = {(t.name, t.own_metric or t.metric): scores[t.name] for t in self.named}
        else:
            trial = self.trial(id)
            derivation, columns = self.derivation(trial.id), dict(trial.columns())
            called, measured = f"trial {trial.id}", dict(measured_of(trial))
            source["trial"] = trial.id
        self.aim(task)
        network = network_of(self.problem, self.folder, self.evaluator, derivation, task)
        if checked:
            check(network, self.problem, measured, called)
        source["columns"] = columns
        if says := self.verdict:
            source["verdict"] = says
        save(network, Path(folder), self.problem, source)
        return network

    def _repr_html_(self) -> str:
        """Its fronts as tables, in a notebook."""
        parts = [f"<p>{html.escape(repr(self))}</p>"]
        for task, front in self.fronts().items():
            title = f"<p>{html.escape(task)}</p>" if task else ""
            parts.append(title + front._repr_html_())
        return "".join(parts)

    def __repr__(self) -> str:
        return f"<Run {self.folder}: {self.settings.space} for {', '.join(self.settings.tasks)}>"


def load(folder: str | Path, *, trust_code: bool = False, **changed: Any) -> Run:
    """The run in a folder; raises RunError where it is none or of a newer version.

    Code of the user's own that its space or tasks name is only run with `trust_code`. `changed`
    are settings to be carried on with, as `device`.
    """
    return Run(Path(folder), trust_code=trust_code, **changed)
