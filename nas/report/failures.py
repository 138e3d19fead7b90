"""What failed in a run, by kind: how often, why, and where in the code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nas.archive import Archive, Trial
from nas.search import Run

NUMBER = re.compile(r"(?<!exit code )[-+]?\d[\d.,e+-]*")
QUOTED = re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"")
RAISED = re.compile(r"[A-Za-z_]\w*(?=: )")  # the class of an exception, before its message


@dataclass
class Failure:
    """Trials that failed alike, and steps of training that were passed over: the first one's
    reason, with the first traceback that there is."""

    kind: str
    reason: str
    traceback: str = ""
    trials: list[Trial] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    @property
    def times(self) -> int:
        return len(self.trials) + len(self.steps)


def failures(run: Run, trials: Sequence[Trial]) -> list[Failure]:
    """The kinds of failures, the most frequent first. Two are of one kind where their reasons
    differ in numbers and in what stands in quotes alone."""
    kinds = dict[str, Failure]()

    def kind(reason: str) -> Failure:
        alike, raised = NUMBER.sub("#", QUOTED.sub("'…'", reason)), RAISED.match(reason)
        return kinds.setdefault(alike, Failure(raised[0] if raised else "", reason))

    for trial in trials:
        if trial.state == "failed":
            failure = kind(trial.reason or "no reason was recorded")
            failure.trials.append(trial)
            failure.traceback = failure.traceback or trial.traceback
    with Archive.open(run.folder) as archive:
        for note in archive.notes("passed"):
            kind(str(note["reason"])).steps.append(int(str(note["step"])))
    return sorted(kinds.values(), key=lambda failure: -failure.times)
