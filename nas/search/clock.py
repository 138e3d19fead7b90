"""The time that a search has."""

from __future__ import annotations

import time


class Clock:
    """When a search's time is over, and how far it will come by then.

    ends: by `time.perf_counter`; infinite without a budget. before: the trials there were.
    """

    def __init__(self, ends: float, before: int):
        self.begun, self.before, self.ends = time.perf_counter(), before, ends

    def over(self, spare_s: float = 0.0) -> bool:
        """Whether no more than `spare_s` seconds are left."""
        return time.perf_counter() + spare_s > self.ends

    @property
    def end(self) -> float:
        """When time is over, by `time.monotonic`."""
        return time.monotonic() + self.ends - time.perf_counter()

    def expected(self, done: int, wanted: int) -> int:
        """The trials there will be when time is over, at the pace so far."""
        now = time.perf_counter()
        pace = (done - self.before) / max(now - self.begun, 1e-9)
        return int(min(wanted, done + max(0.0, self.ends - now) * pace))
