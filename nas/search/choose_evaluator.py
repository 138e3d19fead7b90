"""Which evaluator a run uses: measured in the search where there is a budget for it, and by
`nas trust` whenever somebody wants to know.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf
from pathlib import Path
from typing import Any

from nas.archive import Archive
from nas.evaluate import BANKED, INHERITED, SHORT
from nas.events import Listener, Progress, Told, silent
from nas.files import write as write_file
from nas.search.calibration import Scores, architectures, batches, inherited, spent
from nas.search.error import RunError
from nas.search.job import Pool
from nas.search.pools import make_pool
from nas.search.problem import Problem
from nas.search.run import TRUST, Run, load
from nas.search.settings import Settings
from nas.trust.table import Calibration, Row
from nas.trust.verdict import ELIGIBLE, FEWEST, Verdict, facts, judge, outdone, said

LEAST_S = 10.0  # of a share in which there may be time to train anything alone
MARGIN = 1.3  # of a budget that is advised: architectures differ in size, and machines are shared


def choose_evaluator(run: Run, archive: Archive, pool: Pool, listener: Listener) -> str:
    """The evaluator of a run's trials. Where the settings leave it open and there is a budget, a
    part of that goes to a calibration, and the verdict is noted for good: a run that has trials
    keeps what evaluated them."""
    settings, usual = run.settings, run.problem.evaluator
    noted = archive.notes("verdict")
    if noted:
        return str(noted[0]["evaluator"])
    budgeted = settings.budget_s is not None and settings.budget_s < inf
    wanted = settings.evaluator == "auto" and budgeted and settings.trust.share
    wanted = wanted and not run.problem.chain
    if not wanted or archive.trials:
        return usual
    begun, before = time.perf_counter(), spent(archive, "scored")
    verdict = _calibrated(run, archive, pool, listener, usual)
    took = time.perf_counter() - begun + before / pool.workers
    archive.note(
        "verdict",
        evaluator=verdict.evaluator,
        reason=verdict.reason,
        warning=verdict.warning,
        seconds=took,
    )
    listener(Told(said(verdict)))
    return verdict.evaluator


def _calibrated(run: Run, archive: Archive, pool: Pool, listener: Listener, usual: str) -> Verdict:
    settings, given = run.settings, run.settings.trust
    share_s = given.share * (settings.budget_s or 0.0)
    if share_s < LEAST_S:
        return Verdict(
            usual,
            (
                f"too few architectures can be trained from scratch in {given.share:.0%} of the "
                f"budget, which is {share_s:.1f} s, so it is the space's default"
            ),
        )
    if settings.standalone.child_epochs:
        return Verdict(usual, "children inherit weights, and nothing to measure has inherited yet")
    scores = Scores(run, run.problem, archive, pool)
    texts, needed_s = _fitting(run, scores, listener)
    measured = scores.calibration(texts)
    if not measured.derivations and run.limits:
        return Verdict(
            usual, "no random architecture keeps the run's limits, so it is the space's default"
        )
    if len(measured.derivations) < given.least and not outdone(measured):
        why, fix = "can be trained from scratch", ""
        if needed_s:
            why += f" in {given.share:.0%} of the budget"
            fix = f" (a budget of {ceil(MARGIN * needed_s / 60)} minutes would do)"
        return Verdict(
            usual,
            (
                f"too few architectures {why}, {len(measured.derivations)} where {given.least} are "
                f"needed, so it is the space's default{fix}"
            ),
        )
    left = (settings.budget_s or 0.0) - spent(archive, "bank")
    left -= spent(archive, "scored") / pool.workers
    asked = {o.name for o in run.objectives}
    by = {
        t.name: ["nll"] if asked & {"nll", f"{t.name.replace('-', '_')}_nll"} else [t.metric]
        for t in run.named
    }
    verdict, table = judge(
        measured,
        default=usual,
        left_s=dict.fromkeys(ELIGIBLE, left),
        most=_most(run.problem, ELIGIBLE, settings.trials),
        workers=pool.workers,
        scores=by,
    )
    write(run, measured, verdict, table)
    return verdict


def _most(problem: Problem, evaluators: Iterable[str], trials: int = 0) -> dict[str, float]:
    """The evaluations that there can be by each: as many as the space holds, or as are asked for.
    A bank that was trained as a chain has nothing to say of others than its members."""
    held = problem.architectures or inf
    most = dict.fromkeys(evaluators, min(held, trials or held))
    if problem.chain:
        most |= {name: len(problem.chain) for name in BANKED if name in most}
    return most


def _fitting(run: Run, scores: Scores, listener: Listener) -> tuple[list[str], float]:
    """Calibrate with as many architectures as fit the share of the budget, or as show that training
    from scratch is no truth: which they are, and, where the share ended them, the seconds of a
    budget whose share would do for the fewest."""
    assert scores.pool is not None
    given, workers = run.settings.trust, scores.pool.workers
    share_s = given.share * (run.settings.budget_s or 0.0)
    ends, fitting = time.perf_counter() + share_s, list[str]()
    costs = list[float]()
    for batch in batches(architectures(run.problem), workers, given.architectures):
        if not costs:
            scores.make(batch[:1], only=SHORT)
        known = costs or [_foretold(scores, batch[0])]
        fewest = given.least * sum(known) / len(known)
        over = sum(costs) + len(batch) * max(known) > share_s * workers
        over = over or hopeless(costs, given.least, share_s * workers)
        if (over or time.perf_counter() > ends) and not all(map(scores.whole, batch)):
            return fitting, fewest / workers / given.share
        scores.make(batch)
        fitting += batch
        costs += [sum(known.seconds for known in scores.of([text])) for text in batch]
        listener(Progress("calibration", len(fitting), given.architectures))
        if outdone(scores.calibration(fitting)):
            break
    return fitting, 0.0


def hopeless(costs: Sequence[float], least: int, share_s: float) -> bool:
    """Whether `least` architectures would take more than twice the share, if all took what some did
    on average. Twice, since one large among a few may double their average."""
    return bool(costs) and least * sum(costs) / len(costs) > 2 * share_s


def _foretold(scores: Scores, text: str) -> float:
    """Seconds that calibrating with an architecture will take, from those of its short training."""
    problem = scores.problem
    (short_s,) = (known.seconds for known in scores.of([text]) if known.evaluator == SHORT)
    conditions = problem.conditions()
    alone = problem.settings.trust.seeds * conditions.recipe.steps(problem.tasks)
    more = conditions.finetune_steps if problem.banked else 0
    return short_s * (1 + (alone + more) / conditions.short_steps)


def trust(
    folder: str | Path,
    *,
    standalone: int = 32,
    epochs: float | None = None,
    budget_s: float | None = None,
    listener: Listener | None = None,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Measure how far a run's evaluators can be trusted: train so many random architectures from
    scratch, score them by every evaluator, and write RUN/trust.json, whose facts come back.

    What was scored before is not done again, so more architectures extend fewer. epochs: of a
    training from scratch, by default the run's. budget_s: the search for which the verdict is, by
    default the run's own. Of a run whose children inherit, the architectures are random trials
    among those children, since there alone is an inherited score. Raises RunError for a run
    without its bank, and where fewer than 8 architectures could be trained.
    """
    if standalone < FEWEST:
        raise RunError(
            f"standalone is {standalone}: at least {FEWEST} architectures are needed to tell "
            "anything"
        )
    run, hear = load(folder, trust_code=trust_code), listener or silent
    settings = run.settings
    if epochs is not None:
        given = settings.standalone.model_dump() | {"epochs": epochs}
        settings = Settings.of(settings.model_dump() | {"standalone": given})
    problem = run.problem.with_settings(settings)
    usual = problem.evaluator
    if problem.banked:
        run.bank()  # which says where there is none
    with Archive.open(run.folder, write=True) as archive:
        pool = make_pool(run.folder, settings, trust_code=trust_code)
        try:
            calibration = _measured(Scores(run, problem, archive, pool), standalone, hear)
        finally:
            pool.close()
        trained = spent(archive, "finalist") + sum(t.seconds for t in archive.trials)
        took = spent(archive, "bank") + trained / pool.workers
    whole_s = budget_s or settings.budget_s or took
    left = {name: whole_s - calibration.before_s.get(name, 0.0) for name in (*ELIGIBLE, INHERITED)}
    verdict, table = judge(
        calibration, default=usual, left_s=left, most=_most(problem, left), workers=pool.workers
    )
    return write(run, calibration, verdict, table)


def _measured(scores: Scores, standalone: int, listener: Listener) -> Calibration:
    """So many architectures scored by everything: children that inherited where there are some."""
    assert scores.pool is not None
    heirs = inherited(scores.archive)
    if len(heirs) < FEWEST:
        heirs = {}
    texts = list[str]()
    stream = iter(heirs) if heirs else architectures(scores.problem)
    for batch in batches(stream, scores.pool.workers, standalone):
        scores.make(batch)
        texts += batch
        listener(Progress("calibration", len(texts), standalone))
    whole = scores.calibration(texts, heirs)
    if len(whole.derivations) < FEWEST:
        if not texts:
            raise RunError("no random architecture keeps the run's limits: allow it more")
        raise RunError(
            f"{len(whole.derivations)} of {len(texts)} architectures could be trained from "
            f"scratch: at least {FEWEST} are needed to tell anything"
        )
    return whole


def write(
    run: Run, calibration: Calibration, verdict: Verdict, table: Mapping[str, list[Row]]
) -> dict[str, Any]:
    """Write a calibration, its table and the verdict to the run's trust.json; the same as facts."""
    told = facts(calibration, verdict, table)
    write_file(run.folder / TRUST, json.dumps(told, indent=1, allow_nan=False).encode())
    return told
