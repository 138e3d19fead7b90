"""What a click on a point of the page shows: a trial's figures, network and commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nas.archive import Archive, Measurement, Trial
from nas.front import ParetoFront
from nas.grammar import Derivation, Grammar, GrammarError
from nas.op import ShapeError
from nas.plan import plan
from nas.report import text
from nas.report.blocks import HEADS, blocks_of, drawing, table
from nas.report.names import Names, column
from nas.search import Run
from nas.trial import checked_event

DRAWN_NETWORKS = 300  # of a front, by their blocks
SPELLED_OUT = 1000  # more trials than these: operators are written for those of a front alone
LARGEST = 10_000  # operators of a network that is drawn
FOR_TASKS = "heads of the tasks"


def details(
    run: Run,
    trials: Sequence[Trial],
    fronts: Mapping[str, ParetoFront],
    names: Names,
    columns: Sequence[str],
) -> list[dict[str, Any] | None]:
    """What a click on a point shows, a trial each; None for one that failed."""
    grammar, trust = _grammar(run), run.trust
    whose = dict[str, list[str]]()
    for task, front in fronts.items():
        for trial in front.trials:
            whose.setdefault(trial.id, []).append(task)
    chosen = set(whose)
    spelled = {t.id for t in trials} if len(trials) <= SPELLED_OUT else chosen
    shares = shares_of(run)
    blocked = set([trial.id for trial in trials if trial.id in chosen][:DRAWN_NETWORKS])
    listed = list[dict[str, Any] | None]()
    for trial in trials:
        if trial.state != "finished":
            listed.append(None)
            continue
        looked = trial.id in spelled or trial.id in blocked
        read = [_read(t, grammar) if looked else None for t in trial.derivations.values()]
        shown = trial.id in blocked and "" in trial.derivations
        listed.append(
            {
                "id": trial.id,
                "number": trial.number,
                "seconds": text.duration(trial.seconds),
                "front": trial.id in chosen,
                "columns": _measured(trial, names),
                "values": _values(trial, columns),
                "derivations": list(trial.derivations.items()),
                "operators": [derivation.network_text if derivation else "" for derivation in read]
                if trial.id in spelled
                else [],
                "network": _network(trial, read[0], shares.get(trial.id, {})) if shown else None,
                "commands": text.commands(
                    run.folder,
                    trial.id,
                    trust,
                    whose.get(trial.id, list(fronts)) if run.settings.per_task else [""],
                ),
            }
        )
    return listed


def _grammar(run: Run) -> Grammar | None:
    """The run's grammar, None where it cannot be read: it may need code that is not trusted."""
    try:
        return run.grammar
    except (GrammarError, OSError):
        return None


def _read(text_of: str, grammar: Grammar | None) -> Derivation | None:
    """A derivation; None where the space, or it, cannot be read."""
    if grammar is None:
        return None
    try:
        return Derivation.read(text_of, grammar)
    except GrammarError:
        return None


def shares_of(run: Run) -> dict[str, Mapping[str, float]]:
    """Of trials whose network was profiled the share of its latency that each step takes."""
    with Archive.open(run.folder) as archive:
        notes = [checked_event(note) for note in archive.notes("shares")]
    return {note.id: note.steps for note in notes}


def _network(
    trial: Trial, derivation: Derivation | None, times: Mapping[str, float]
) -> dict[str, Any] | None:
    """A trial's network by its blocks, heads left out; None where its derivation was not read, or
    is too large to be looked at."""
    if derivation is None or derivation.size > LARGEST:
        return None
    try:
        planned = plan(derivation)
    except ShapeError:
        return None
    blocks = blocks_of(planned)
    rows = table(planned, blocks, times)
    beside = max(0.0, 1 - sum(times.get(step.name, 0.0) for step in planned.steps))
    for i, name in enumerate(("params", "flops")):
        more = trial.columns().get(name, 0.0) - getattr(planned, name)
        if more > 0:
            last = [f"{100 * beside:.0f} %"] if times else []
            heads = rows[-1] if rows and rows[-1][0] == FOR_TASKS else [FOR_TASKS, *[""] * 6, *last]
            heads[3 + i] = text.scaled(more)
            rows = [*(row for row in rows if row is not heads), heads]
    shown = HEADS if times else HEADS[:-1]
    return {"heads": shown, "rows": rows, "drawing": drawing(planned, blocks)}


def _measured(trial: Trial, names: Names) -> list[list[str]]:
    """Label, short value, exact value and how it came about, of each column measured."""
    newest: dict[str, Measurement] = {}
    for measurement in trial.measurements:
        newest[column(measurement, names.tasks, names.columns)] = measurement
    rows = []
    for name in names.columns:
        if name in newest:
            measurement = newest[name]
            how = ", ".join(
                part
                for part in (measurement.split, measurement.evaluator, measurement.fidelity)
                if part
            )
            short = text.human(name, measurement.value, measurement.spread)
            rows.append(
                [names.label(name), short, f"{text.exact(name, measurement.value)} · {how}"]
            )
    return rows


def _values(trial: Trial, columns: Sequence[str]) -> list[float | None]:
    """A trial's columns as numbers; None for what was not measured or is no number."""
    values = trial.columns()
    return [value if math.isfinite(value := values.get(c, math.nan)) else None for c in columns]
