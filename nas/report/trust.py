"""What a run's calibration told, for its page: a table, and ranks against ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.report import text

COLUMNS = {
    "tau": "Kendall τ",
    "given_flops": "τ given FLOPs",
    "given_params": "τ given params",
    "given_both": "τ given both",
    "regret_1": "regret@1",
    "regret_5": "regret@5",
    "behind": "τ behind the best",
}
SIDE = 100.0  # of a scatter, in its own units


def trust(path: Path) -> dict[str, Any] | None:
    """What the page says of a run's trust.json; None where there is none that can be read."""
    try:
        return _page(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _page(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "architectures": len(facts["architectures"]),
        "seeds": facts["seeds"],
        "says": facts["verdict"]["says"],
        "heads": list(COLUMNS.values()),
        "tasks": [_task(name, task) for name, task in facts["tasks"].items()],
    }


def _task(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    rows = facts["rows"]
    surest: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        held = surest.get(row["evaluator"])
        if held is None or _low(row) > _low(held):
            surest[row["evaluator"]] = row
    return {
        "name": name,
        "metric": text.label(facts["metric"]),
        "ceiling": text.estimate(facts["ceiling"]),
        "rows": [
            {
                "words": row["words"],
                "score": _score(row),
                "cells": [text.estimate(row[key], decimals(key)).partition(" ") for key in COLUMNS],
                "cpu": text.digits(row["cpu_s"]),
                "before": text.duration(row["before_s"]),
            }
            for row in rows
        ],
        "plots": [
            {
                "title": row["words"],
                "score": _score(row),
                "tau": text.estimate(row["tau"]),
                "points": list(zip(ranks(row["scores"]), ranks(facts["truth"]), strict=True)),
            }
            for row in surest.values()
            if row["evaluator"] != "standalone"
        ],
    }


def decimals(column: str) -> int:
    """Of a statistic: a regret is a difference of metrics."""
    return 3 if column.startswith("regret") else 2


def _score(row: Mapping[str, Any]) -> str:
    return "" if row["score"] == row["evaluator"] else text.label(row["score"])


def _low(row: Mapping[str, Any]) -> float:
    low = row["tau"][1]
    return -2.0 if low is None else float(low)


def ranks(values: Sequence[float]) -> list[float]:
    """Where each value stands among all, from 0 to `SIDE`; equal ones at the same mean place."""
    places = [
        (sum(other < value for other in values) + sum(other <= value for other in values) - 1) / 2
        for value in values
    ]
    return [round(SIDE * place / max(1, len(values) - 1), 2) for place in places]
