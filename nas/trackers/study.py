"""An Optuna study of a run: what optuna-dashboard shows, and every tool of Optuna's reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.archive import Trial
from nas.events import Event, Listener, RunEnded
from nas.grammar import Derivation

if TYPE_CHECKING:
    import optuna

    from nas.search import Run


def study(folder: Path, place: str = "") -> Listener:
    """Mirrors a search into a storage of Optuna's, by default sqlite:///FOLDER/study.db, when it
    ends; `mirrored` does the same of any run, also one that goes on."""

    def hear(event: Event) -> None:
        if isinstance(event, RunEnded):
            from nas.search import load

            mirrored(load(event.folder), place or f"sqlite:///{folder / 'study.db'}")

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
        trials = run.trials
        options = _options(run, trials)
        study.add_trials(_frozen(run, t, options) for t in trials if t.id not in known)
    finally:
        optuna.logging.set_verbosity(before)
    return study


def _options(run: Run, trials: Sequence[Trial]) -> dict[str, list[str]]:
    """What is offered at each site by some trial: Optuna wants the same of all."""
    options = dict[str, dict[str, None]]()
    for trial in trials:
        for chosen in Derivation.read(trial.text, run.grammar).choices:
            own = options.setdefault(chosen.site.name, {})
            own.update(dict.fromkeys(option.label for option in chosen.options))
    return {site: sorted(labels) for site, labels in options.items()}


def _frozen(run: Run, trial: Trial, options: dict[str, list[str]]) -> optuna.trial.FrozenTrial:
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    columns = trial.columns()
    params = Derivation.read(trial.text, run.grammar).by_site
    names = [objective.name for objective in run.objectives]
    whole = trial.state == "finished" and all(name in columns for name in names)
    facts: dict[str, Any] = {"id": trial.id, "derivation": trial.text, **columns}
    if trial.reason:
        facts["reason"] = trial.reason
    limits = run.limits if whole else ()
    return create_trial(
        state=TrialState.COMPLETE if whole else TrialState.FAIL,
        values=[columns[name] for name in names] if whole else None,
        params=dict(params),
        distributions={site: CategoricalDistribution(options[site]) for site in params},
        user_attrs=facts,
        constraints={str(m): m.excess(columns[m.name]) for m in limits if m.name in columns},
    )
