"""What a search has recorded: the trials by what no two of them share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from nas.archive import Archive, Trial
from nas.grammar import Derivation, Grammar
from nas.search.job import Job, Outcome

TRIES = 2  # times that an evaluation may be under way when the search dies


class Recorded:
    """The archive's trials by key, and how often evaluations were begun that never ended."""

    def __init__(self, archive: Archive, grammar: Grammar, key: Callable[[Derivation], str]):
        self.archive = archive
        self.trials = {key(Derivation.read(trial.text, grammar)): trial for trial in archive.trials}
        self._ids = {trial.id for trial in archive.trials}
        self._unended = unended(archive)

    def __len__(self) -> int:
        return len(self.trials)

    def numbers(self, fresh: Sequence[str], known: int) -> dict[str, int]:
        """The numbers of a generation's new trials by key, where `known` were told before; those
        recorded keep theirs, also where a run that was extended goes another way than before."""
        taken = {trial.number for trial in self.trials.values()}
        numbers = dict[str, int]()
        for i, key in enumerate(fresh):
            number = known + i
            if key in self.trials:
                number = self.trials[key].number
            elif number in taken:
                number = max(taken) + 1
            taken.add(number)
            numbers[key] = number
        return numbers

    def given_up(self, job: Job) -> Outcome | None:
        """The failure of a job under way whenever the search died; None while it may be tried."""
        if self._unended[job.derivation] < TRIES:
            return None
        reason = (
            f"it was begun {TRIES} times and never ended: the search died while it was evaluated"
        )
        return Outcome(job.number, (), reason, 0.0)

    def add(
        self, outcome: Outcome, key: str, derivation: Derivation, *, drawn: bool = False
    ) -> Trial:
        """Record an outcome as a trial; on disk when this returns."""
        text = str(derivation)
        id = identity(text, self._ids)
        self._ids.add(id)
        trial = Trial(
            outcome.number,
            id,
            {"": text},
            "failed" if outcome.reason else "stopped" if outcome.stopped else "finished",
            outcome.reason,
            outcome.measurements,
            outcome.seconds,
            outcome.cpu_s,
            drawn,
            outcome.losses,
            outcome.traceback,
        )
        self.archive.record(trial)
        self.trials[key] = trial
        return trial


def unended(archive: Archive) -> Counter[str]:
    """How often the search died while a derivation was evaluated: begun, and never stopped."""
    begun: Counter[str] = Counter()
    for note in archive.notes():
        if note["kind"] == "begun":
            begun[str(note["derivation"])] += 1
        elif note["kind"] in ("stopped", "ended"):
            begun.clear()
    return begun


def identity(text: str, taken: Collection[str] = ()) -> str:
    """A trial's id: as much of its derivation's hash as tells it from those taken."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return next(digest[:n] for n in (8, 12, 16, 64) if digest[:n] not in taken)
