"""What some preferences and budgets come to, of a run that can be steered."""

from __future__ import annotations

import shlex
from typing import Any

from nas.report import text
from nas.report.names import Names
from nas.search import Run, RunError
from nas.search.steer import STEERING, Steering


def steered(run: Run, names: Names) -> dict[str, Any] | None:
    """A table's heads and rows, each with the command that takes its network out: of every network
    the smallest budget that it is the answer to. None of a run that cannot be steered."""
    if not (run.folder / STEERING).exists():
        return None
    try:
        known = Steering.load(run.folder)
    except RunError:  # of another's making: nas steer says what is wrong with it
        return None
    columns = [*(scale.column for scale in known.scales.values()), "flops", "params"]
    rows, met = list[dict[str, Any]](), set[tuple[Any, ...]]()
    for prefer, bound, answer in sorted(known.asked(), key=lambda asked: list(asked[0].values())):
        worth = {task: share / sum(prefer.values()) for task, share in prefer.items()}
        key = (*worth.values(), answer.encoder, *answer.decoders.items())
        if key in met:
            continue
        met.add(key)
        words = ["nas", "extract", text.shown(run.folder), "--prefer"]
        words += [",".join(f"{task}={share:.6g}" for task, share in worth.items())]
        words += ["--max", f"flops={int(bound)}", "--to", "net"]
        rows.append(
            {
                "worth": ", ".join(f"{task} {share:.0%}" for task, share in worth.items()),
                "cells": [text.human(name, answer.columns[name]) for name in columns],
                "command": shlex.join(words),
            }
        )
    return {"heads": [names.label(name) for name in columns], "rows": rows}
