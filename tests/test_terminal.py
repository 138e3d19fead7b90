"""What a person sees of a run's progress where there is no terminal to draw on."""

from __future__ import annotations

import re

import pytest

from nas.events import Progress
from nas.progress import Live


def test_a_line_comes_each_tenth_also_where_more_turns_out_to_be_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    live = Live()
    for done in range(1, 41):
        live(Progress("trials", done, 20 if done < 10 else 40, {"best accuracy": 0.5}))
    lines = capsys.readouterr().err.splitlines()
    told = [
        re.match(r"evaluating subnets: (\d+)/(\d+)  ETA \d+ s  best accuracy 0\.5", line)
        for line in lines
    ]
    assert [found and found.groups() for found in told] == [
        ("1", "20"),
        ("2", "20"),
        ("4", "20"),
        ("6", "20"),
        ("8", "20"),
        *((f"{done}", "40") for done in (20, 24, 28, 32, 36, 40)),
    ]
