"""Successive halving: candidates are trained for a few epochs, and the best of them for longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from nas.archive import Archive, Measurement, Trial, plain
from nas.front import losses_of
from nas.search.columns import Aim
from nas.search.job import Job, Outcome, Pool
from nas.search.parts import Standalone
from nas.search.tree import best_first
from nas.trial import checked_event


class HalvingPool:
    """A pool whose jobs climb rungs: all are trained for the fewest epochs, one in `reduction` of
    a rung so many times longer, up to the recipe's. Those that go on are the best of all that ever
    were on the rung, by fronts and crowding, so that no one objective decides (Schmucker et al.
    2021, "Multi-objective asynchronous successive halving", arXiv 2106.12639). Each rung trains
    from scratch, with a schedule that comes to its end.

    It goes on when all jobs it was given at once are on a rung: what comes of them does not depend
    on who is quick. Every result is noted at once.
    """

    def __init__(self, pool: Pool, archive: Archive, given: Standalone, aims: Sequence[Aim]):
        self.pool, self.archive, self.given = pool, archive, given
        self.aims = aims
        self.rungs = rungs(given)
        self.known: list[dict[str, Outcome]] = [{} for _ in self.rungs]
        for note in archive.notes("rung"):
            known = checked_event(note)
            if known.rung < len(self.rungs):
                self.known[known.rung][known.derivation] = Outcome(
                    0,
                    tuple(known.measurements),
                    known.reason,
                    known.seconds,
                    cpu_s=known.cpu_s,
                    losses=known.losses,
                    traceback=known.traceback,
                )

    @property
    def workers(self) -> int:
        return self.pool.workers

    @property
    def parallel(self) -> int:
        return self.pool.parallel

    def evaluate(
        self,
        jobs: Sequence[Job],
        *,
        begun: Callable[[Job], None] = lambda job: None,
        ends: float = float("inf"),
    ) -> Iterator[Outcome]:
        """What each job came to on all its rungs, when it is known that it goes no further."""
        climbing = list(jobs)
        for rung, epochs in enumerate(self.rungs):
            results = self.known[rung]
            todo = [replace(j, epochs=epochs) for j in climbing if j.derivation not in results]
            by_number = {job.number: job.derivation for job in todo}
            for outcome in self.pool.evaluate(todo, begun=begun, ends=ends):
                self._note(rung, by_number[outcome.number], outcome)
            if any(job.derivation not in results for job in climbing):
                return  # time is over
            best = self._best(rung)
            staying = [job for job in climbing if job.derivation not in best]
            yield from (self._whole(job, rung) for job in staying)
            climbing = [job for job in climbing if job.derivation in best]
        yield from (self._whole(job, len(self.rungs) - 1) for job in climbing)

    def close(self) -> None:
        self.pool.close()

    def _note(self, rung: int, derivation: str, outcome: Outcome) -> None:
        self.known[rung][derivation] = outcome
        measurements: Any = [plain(measurement) for measurement in outcome.measurements]
        self.archive.note(
            "rung",
            rung=rung,
            derivation=derivation,
            measurements=measurements,
            reason=outcome.reason,
            seconds=outcome.seconds,
            cpu_s=outcome.cpu_s,
            losses=list(outcome.losses),
            traceback=outcome.traceback,
        )

    def _best(self, rung: int) -> set[str]:
        """The derivations of a rung that go on to the next; on the last, all that did not fail."""
        results = {text: o for text, o in self.known[rung].items() if not o.reason}
        if rung == len(self.rungs) - 1:
            return set(results)
        columns = [_columns(outcome.measurements) for outcome in results.values()]
        most, texts = -(-len(results) // self.given.reduction), list(results)
        by_aim = [_best_for(aim, columns, most) for aim in self.aims]
        in_turn = dict.fromkeys(i for row in zip_longest(*by_aim) for i in row if i is not None)
        return {texts[i] for i in list(in_turn)[:most]}

    def _whole(self, job: Job, last: int) -> Outcome:
        """A job's outcome with all that was measured of it up to a rung."""
        outcomes = [self.known[rung][job.derivation] for rung in range(last + 1)]
        return Outcome(
            job.number,
            tuple(measurement for outcome in outcomes for measurement in outcome.measurements),
            outcomes[-1].reason,
            sum(outcome.seconds for outcome in outcomes),
            cpu_s=sum(outcome.cpu_s for outcome in outcomes),
            stopped=last < len(self.rungs) - 1 and not outcomes[-1].reason,
            losses=outcomes[-1].losses,
            traceback=outcomes[-1].traceback,
        )


def rungs(given: Standalone) -> tuple[float, ...]:
    """The epochs of each rung, the fewest first."""
    steps = range(given.rungs - 1, -1, -1)
    return tuple(given.epochs / given.reduction**step for step in steps)


def _best_for(aim: Aim, columns: Sequence[Mapping[str, float]], most: int) -> list[int]:
    """The best by an aim, best first, by what all have of its objectives and limits."""
    names = [o for o in aim.objectives if all(o.name in entry for entry in columns)]
    points = [losses_of(entry, names) for entry in columns]
    beyond = [
        sum(max(0.0, m.excess(entry[m.name])) for m in aim.limits if m.name in entry)
        for entry in columns
    ]
    return best_first(points, beyond, most)


def _columns(measurements: Sequence[Measurement]) -> dict[str, float]:
    return Trial(0, "0", {}, "finished", measurements=tuple(measurements)).columns()
