"""What the tasks of a run chose where each finds its own architecture, for its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from nas.archive import Trial
from nas.front import ParetoFront
from nas.grammar import Derivation, GrammarError
from nas.search import Run, RunError

Shares = Mapping[str, Mapping[str, float]]  # of each label at each site


def choices(run: Run, fronts: Mapping[str, ParetoFront]) -> dict[str, Any] | None:
    """By site what each task wants most and how much, the sites at which tasks differ most first;
    and how alike two tasks are. None where one architecture serves all, or they have no site in
    common.
    """
    if not run.settings.per_task:
        return None
    try:
        learned: Mapping[str, Shares] = run.preferences
        by_task = learned or {task: _of_front(run, front.trials) for task, front in fronts.items()}
    except (RunError, GrammarError):  # of a folder from elsewhere
        return None
    tasks = tuple(by_task)
    common = [s for s in next(iter(by_task.values())) if all(s in by_task[t] for t in tasks)]
    if not common:
        return None
    pairs = list(combinations(tasks, 2))
    overlaps = {s: [_overlap(by_task[a][s], by_task[b][s]) for a, b in pairs] for s in common}
    rows = []
    for site in sorted(common, key=lambda site: sum(overlaps[site])):
        most = [_most(by_task[task][site]) for task in tasks]
        shown = [(label, f"{share:.0%}") for label, share in most]
        rows.append((site, shown, len(dict(most)) > 1))
    means = [sum(overlaps[site][i] for site in common) / len(common) for i in range(len(pairs))]
    alike = [(*pair, f"{mean:.0%}") for pair, mean in zip(pairs, means, strict=True)]
    return {"learned": bool(learned), "tasks": tasks, "rows": rows, "alike": alike}


def _of_front(run: Run, trials: Sequence[Trial]) -> Shares:
    """How often each label is chosen on a front, of those that have its site."""
    counts = dict[str, Counter[str]]()
    for trial in trials:
        for site, label in Derivation.read(trial.text, run.grammar).by_site.items():
            counts.setdefault(site, Counter())[label] += 1
    return {s: {label: n / c.total() for label, n in c.items()} for s, c in counts.items()}


def _overlap(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """The probability that two distributions have in common."""
    return sum(min(share, b.get(label, 0.0)) for label, share in a.items())


def _most(shares: Mapping[str, float]) -> tuple[str, float]:
    label = max(shares, key=lambda name: shares[name])
    return label, shares[label]
