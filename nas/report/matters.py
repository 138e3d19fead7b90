"""Which choices matter: what each site tells of a metric, or what a front chose more often."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from statistics import mean
from typing import Any, NamedTuple

from nas.archive import Trial
from nas.front import Objective, ParetoFront
from nas.grammar import Derivation, GrammarError
from nas.measure import cost_named
from nas.search import Run

MOST, LOOKED_AT = 12, 800  # rows that are shown, trials that are looked at
FEWEST = 12  # trials of which anything is said


class Site(NamedTuple):
    """A site: the share of a metric's variance over trials that its labels tell, beyond what as
    many labels tell by chance (ω², Hays 1963); each label's mean, the best first."""

    name: str
    told: float
    means: tuple[tuple[str, float, int], ...]  # label, mean, trials


class Option(NamedTuple):
    """An option of a rule: its share of the rule's uses, on the front and in general."""

    rule: str
    label: str
    front: float
    general: float


def matters(run: Run, trials: Sequence[Trial], front: ParetoFront) -> dict[str, Any] | None:
    """What is said of a front's choices: of a finite space by sites, of an open one by the options
    of its rules. None where there are too few trials, or each task has its own architecture."""
    finished = [t for t in trials if t.state == "finished" and "" in t.derivations]
    metrics = [o for o in front.objectives if cost_named(o.name) is None]
    if len(finished) < FEWEST or not metrics:
        return None
    chosen = {trial.id for trial in front.trials}
    every = -(-len(finished) // LOOKED_AT)
    looked = [t for i, t in enumerate(finished) if i % every == 0 or t.id in chosen]
    try:
        finite = run.grammar.finite
        read = [(trial, Derivation.read(trial.text, run.grammar)) for trial in looked]
    except (GrammarError, OSError):  # of a folder from elsewhere
        return None
    metric = metrics[0]
    if finite:
        pairs = [
            (derivation.by_site, value)
            for trial, derivation in read
            if isfinite(value := trial.columns().get(metric.name, nan))
        ]
        rows = sites(pairs, metric)[:MOST]
        return {"metric": metric.name, "sites": rows, "options": []} if rows else None
    drawn = [d for trial, d in read if trial.drawn]
    general = drawn if len(drawn) >= FEWEST else [d for _, d in read]
    options = compared([d for t, d in read if t.id in chosen], general)[:MOST]
    return {"metric": metric.name, "sites": [], "options": options} if options else None


def sites(pairs: Sequence[tuple[Mapping[str, str], float]], metric: Objective) -> list[Site]:
    """The sites by what they tell of a metric, the most first; those that tell nothing are left
    out."""
    names = dict.fromkeys(name for by_site, _ in pairs for name in by_site)
    told = list[Site]()
    for name in names:
        groups = dict[str, list[float]]()
        for by_site, value in pairs:
            if name in by_site:
                groups.setdefault(by_site[name], []).append(value)
        share = omega(list(groups.values()))
        if share > 0:
            means = [(label, mean(values), len(values)) for label, values in groups.items()]
            means.sort(key=lambda row: row[1], reverse=metric.maximize)
            told.append(Site(name, share, tuple(means)))
    return sorted(told, key=lambda site: -site.told)


def omega(groups: Sequence[Sequence[float]]) -> float:
    """The share of variance that groups tell, less what chance would; 0 where there is none."""
    values = [value for group in groups for value in group]
    whole, n, k = mean(values), len(values), len(groups)
    total = sum((value - whole) ** 2 for value in values)
    if k < 2 or n <= k or not total:
        return 0.0
    between = sum(len(group) * (mean(group) - whole) ** 2 for group in groups)
    within = (total - between) / (n - k)
    return max(0.0, (between - (k - 1) * within) / (total + within))


def compared(front: Sequence[Derivation], general: Sequence[Derivation]) -> list[Option]:
    """The options of rules, those whose share on the front differs most from the general first."""
    here, there = (_shares(derivations) for derivations in (front, general))
    options = [
        Option(rule, label, here[rule].get(label, 0.0), share)
        for rule, labels in there.items()
        if rule in here
        for label, share in labels.items()
    ]
    differing = [option for option in options if option.front != option.general]
    return sorted(differing, key=lambda option: -abs(option.front - option.general))


def _shares(derivations: Sequence[Derivation]) -> dict[str, dict[str, float]]:
    """Of each rule how often each of its options is chosen, in shares."""
    counts = dict[str, Counter[str]]()
    for derivation in derivations:
        for site, label in derivation.by_site.items():
            place, _, asked = site.rpartition("/")[2].rpartition(":")
            place = re.sub(r"\.\d+", "", place)
            rule = asked if place in ("", asked) else f"{place}:{asked}"
            counts.setdefault(rule, Counter())[label] += 1
    return {
        rule: {label: n / of_rule.total() for label, n in of_rule.items()}
        for rule, of_rule in counts.items()
    }
