"""An Optuna study of a run: what optuna-dashboard shows, and every tool of Optuna's reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.archive import Trial
from nas.events import Event, Listener, RunEnded, TrialDone
from nas.grammar import Derivation
from nas.grammar.count import table
from nas.search.suggest import parameter

OFTEN = 20  # trials after which a study is brought up to date

if TYPE_CHECKING:
    import optuna

    from nas.search import Run


def study(folder: Path, place: str = "") -> Listener:
    """Mirrors a search into a storage of Optuna's while it goes on, by default into
    sqlite:///FOLDER/study.db; `mirrored` does the same of any run."""

    def hear(event: Event) -> None:
        whole = isinstance(event, RunEnded)
        if whole or (isinstance(event, TrialDone) and event.done % OFTEN == 0):
            from nas.search import load

            mirrored(load(folder), place or f"sqlite:///{folder / 'study.db'}")

    return hear


def mirrored(run: Run, storage: str) -> optuna.Study:
    """The study of a run's name in a storage, with every trial that it lacks: sites as categorical
    parameters, objectives as values, limits as constraints, all columns as user attributes."""
    import optuna
    from optuna.study import StudyDirection

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        objectives = run.objectives
        study = optuna.create_study(
            study_name=run.folder.resolve().name,
            storage=storage,
            directions=[up if o.maximize else down for o in objectives],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective.name for objective in objectives])
        known = {trial.user_attrs.get("id") for trial in study.get_trials(deepcopy=False)}
        study.add_trials(_frozen(run, t) for t in run.trials if t.id not in known)
    finally:
        optuna.logging.set_verbosity(before)
    return study


def _params(derivation: Derivation) -> dict[str, tuple[str, list[str]]]:
    """Of each site its label and all labels there are. Optuna wants the same of all trials: of a
    finite space those of its table, of another a parameter for each way in which a site is met."""
    if derivation.grammar.finite:
        labels = table(derivation.grammar, input=derivation.input)
        return {site: (label, list(labels[site])) for site, label in derivation.by_site.items()}
    met = ((c.site, c.label, [option.label for option in c.options]) for c in derivation.choices)
    return {parameter(site, options): (label, options) for site, label, options in met}


def _frozen(run: Run, trial: Trial) -> optuna.trial.FrozenTrial:
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    columns = trial.columns()
    params = _params(Derivation.read(trial.text, run.grammar))
    names = [objective.name for objective in run.objectives]
    whole = trial.state == "finished" and all(name in columns for name in names)
    facts: dict[str, Any] = {"id": trial.id, "derivation": trial.text, **columns}
    if trial.reason:
        facts["reason"] = trial.reason
    limits = run.limits if whole else ()
    return create_trial(
        state=TrialState.COMPLETE if whole else TrialState.FAIL,
        values=[columns[name] for name in names] if whole else None,
        params={name: label for name, (label, _) in params.items()},
        distributions={name: CategoricalDistribution(o) for name, (_, o) in params.items()},
        user_attrs=facts,
        constraints={str(m): m.excess(columns[m.name]) for m in limits if m.name in columns},
    )
