"""A run's calibration: random architectures trained from scratch, against which its evaluators are
measured. Every score is noted in the archive at once, apart from the trials.

The set is drawn from the space alone. What a search found is never in it: an architecture that was
chosen for its score has a score that flatters it, and those it is compared with are gone, so τ over
chosen ones says nothing about the choice.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import log1p
from typing import Any

from nas.archive import Archive, Measurement, plain
from nas.grammar import Derivation
from nas.search.run import Run
from nas.search.settings import Settings
from nas.search.shared import chained, space_of
from nas.search.worker import BANKED, Job, Pool, short_steps
from nas.supernet.bank import facts_of
from nas.supernet.chain import evenly
from nas.supernet.strategies import spread
from nas.trust.evaluators import BASELINES
from nas.trust.table import ALONE, Calibration, Scored

VAIN = 8  # blocks of draws that bring nothing new, after which there are no more
BLOCK = 32  # architectures that are taken of some random draws:
DRAWS = {True: 256, False: 64}  # of a finite grammar; of a recursive one, where a draw takes long


def architectures(run: Run) -> Iterator[str]:
    """The architectures to calibrate with, distinct and in a fixed order, so that more extend
    fewer: random draws within the run's limits, of a finite space small and large ones as often as
    those between, thinned so that the logarithm of their FLOPs is spread evenly; for a front asks
    for all sizes. They end where draw after draw brings nothing new within the limits."""
    if members := chained(run.settings, run.grammar, run.tasks):
        yield from map(str, members)
        return
    met, vain = set[str](), 0
    for block in range(1_000):
        rng = random.Random(f"{run.settings.seed}/trust/{block}")
        sizes = {str(one): log1p(flops) for one, flops in _allowed(run, rng)}
        for text in met:
            sizes.pop(text, None)
        vain = 0 if sizes else vain + 1
        if vain == VAIN:
            return
        low, high = min(sizes.values(), default=0), max(sizes.values(), default=0)
        for i in range(1, min(BLOCK, len(sizes)) + 1):
            wanted = low + (high - low) * evenly(i)
            taken = min(sizes, key=lambda text: (abs(sizes[text] - wanted), text))
            del sizes[taken]
            met.add(taken)
            yield taken


def _allowed(run: Run, rng: random.Random) -> Iterator[tuple[Derivation, float]]:
    """Random draws that keep the run's limits on what can be counted, with their FLOPs."""
    draw = spread(space_of(run.settings, run.grammar, run.tasks), 1)
    for _ in range(DRAWS[run.grammar.finite]):
        (one,) = draw(0, rng).derivations
        if found := run.costs(one):
            yield one, found["flops"]


class Scores:
    """The scores of a run's calibration: those the archive holds, and those still to be made."""

    def __init__(self, run: Run, settings: Settings, archive: Archive, pool: Pool | None = None):
        self.run, self.settings, self.archive, self.pool = run, settings, archive, pool
        self.metrics = {task.name: task.metric for task in run.named}
        first, seeds = settings.seed, settings.trust.seeds
        bank = run.folder / "bank.safetensors"
        version = f"{facts_of(bank)['version']} supernet steps" if bank.exists() else ""
        alone = f"{settings.standalone.epochs:g} epochs"
        more = f"{settings.trust.finetune} alone"
        short = f"{short_steps(settings, run.tasks)} steps"
        # of standalone seeds of their own: what shares its chance with the truth would agree more
        self.wanted: list[tuple[str, int, str]] = [
            *(
                (("shared", first, version), ("finetuned", first, f"{version} and {more}"))
                if version
                else ()
            ),
            ("short", first, short),
            *((ALONE, first + 1 + i, alone) for i in range(seeds)),
            *((name, first, "") for name in BASELINES),
        ]
        self.known = {
            (note["derivation"], note["evaluator"], note["seed"], note["made"]): _scored(note)
            for note in archive.notes("scored")
        }

    def of(self, texts: Iterable[str]) -> list[Scored]:
        """What is known of some architectures."""
        return [self.known[key] for text in texts for key in self._keys(text) if key in self.known]

    def whole(self, text: str) -> bool:
        return all(key in self.known for key in self._keys(text))

    def make(self, texts: Sequence[str], *, only: str = "") -> None:
        """Make the scores of some architectures that are missing, or of one evaluator of them;
        each is on disk before the next begins."""
        assert self.pool is not None
        keys = [
            key
            for text in texts
            for key in self._keys(text)
            if key not in self.known and only in ("", key[1])
        ]
        jobs = [Job(i, text, name, seed) for i, (text, name, seed, _) in enumerate(keys)]
        for out in self.pool.evaluate(jobs):
            text, name, seed, made = keys[out.number]
            measured: Any = [plain(m) for m in out.measurements]
            self.archive.note(
                "scored",
                derivation=text,
                evaluator=name,
                seed=seed,
                made=made,
                measurements=measured,
                reason=out.reason,
                seconds=out.seconds,
                cpu_s=out.cpu_s,
            )
            self.known[text, name, seed, made] = Scored(
                text, name, seed, out.measurements, out.reason, out.seconds, out.cpu_s
            )

    def calibration(
        self, texts: Sequence[str], more: Mapping[str, Scored] | None = None
    ) -> Calibration:
        """All that is known of some architectures, and `more` of them by derivation."""
        trained = spent(self.archive, "bank")
        known = [*self.of(texts), *(more[text] for text in texts if more and text in more)]
        return Calibration.of(known, self.metrics, dict.fromkeys(BANKED, trained))

    def _keys(self, text: str) -> list[tuple[str, str, int, str]]:
        return [(text, *one) for one in self.wanted]


def _scored(note: dict[str, Any]) -> Scored:
    found = tuple(Measurement(**one) for one in note["measurements"])
    return Scored(
        note["derivation"],
        note["evaluator"],
        note["seed"],
        found,
        note["reason"],
        note["seconds"],
        note["cpu_s"],
    )


def spent(archive: Archive, *kinds: str) -> float:
    """Seconds that a run's notes of some kinds tell of."""
    return sum(float(str(note["seconds"])) for one in kinds for note in archive.notes(one))


def inherited(archive: Archive) -> dict[str, Scored]:
    """The trials that went on from their parents' weights, by derivation, in an order that has
    nothing to do with how good they are: that of their derivations' hashes."""
    found = {}
    for trial in sorted(archive.trials, key=lambda trial: trial.id):
        mine = tuple(m for m in trial.measurements if m.evaluator == "inherited")
        if mine:
            text = trial.text
            found[text] = Scored(
                text, "inherited", 0, mine, seconds=trial.seconds, cpu_s=trial.cpu_s
            )
    return found


def batches(texts: Iterator[str], size: int, most: int) -> Iterator[list[str]]:
    """The first texts, at most so many, as many at a time as keep the workers busy."""
    for done in range(0, most, size):
        batch = list(islice(texts, min(size, most - done)))
        if not batch:
            return
        yield batch
