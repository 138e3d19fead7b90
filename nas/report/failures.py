"""What failed in a run, by kind: how often, why, and where in the code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nas.archive import Archive, Trial
from nas.search import Run

NUMBER, QUOTED = re.compile(r"[-+]?\d[\d.,e+-]*"), re.compile(r"'[^']*'|\"[^\"]*\"")
RAISED = re.compile(r"[A-Za-z_]\w*(?=: )")  # the class of an exception, before its message


class Failure(NamedTuple):
    """Trials that failed alike, or steps of training that were passed over: the first one's reason,
    with its traceback where that is known."""

    kind: str
    reason: str
    traceback: str
    trials: tuple[Trial, ...]
    steps: tuple[int, ...]

    @property
    def times(self) -> int:
        return len(self.trials) + len(self.steps)


def failures(run: Run, trials: Sequence[Trial]) -> list[Failure]:
    """The kinds of failures, the most frequent first. Two are of one kind where their reasons
    differ in numbers and in what stands in quotes alone."""
    kinds = dict[str, Failure]()
    for trial in trials:
        if trial.state == "failed":
            _add(kinds, trial.reason or "no reason was recorded", trial)
    with Archive.open(run.folder) as archive:
        for note in archive.notes("passed"):
            _add(kinds, str(note["reason"]), int(str(note["step"])))
    return sorted(kinds.values(), key=lambda kind: -kind.times)


def _add(kinds: dict[str, Failure], reason: str, failed: Trial | int) -> None:
    alike = NUMBER.sub("#", QUOTED.sub("'…'", reason))
    raised = RAISED.match(reason)
    known = kinds.get(alike) or Failure(raised[0] if raised else "", reason, "", (), ())
    if isinstance(failed, int):
        known = known._replace(steps=(*known.steps, failed))
    else:
        traceback = known.traceback or failed.traceback
        known = known._replace(trials=(*known.trials, failed), traceback=traceback)
    kinds[alike] = known
