"""What evaluators seem worth against training from scratch that is short, and longer.

The run of digits.py (`mobile`, default settings) and 32 random architectures, trained from scratch
with two seeds for the default's 4 epochs, and for 20: `nas trust`. τ with accuracy from scratch, by
whichever of accuracy and NLL has the greater; and the accuracies they come to on validation, on
average. Kept in runs/bench-digits: run again it carries on.
"""

from __future__ import annotations

from statistics import mean
from typing import Any

import torch
from measure import progress, report, searched

EPOCHS, ARCHITECTURES = (4, 20), 32
SHOWN = ("shared", "short", "standalone", "flops", "params")


def main() -> None:
    from nas.search import trust

    torch.set_num_threads(1)
    run = searched("digits", ["digits"])
    told = {
        epochs: trust(run.folder, standalone=ARCHITECTURES, epochs=epochs, listener=progress)
        for epochs in EPOCHS
    }
    rows = [row(epochs, facts, name) for epochs, facts in told.items() for name in SHOWN]
    report(
        "epochs",
        __doc__,
        rows=rows,
        seeds=(1, 2),
        aim="none: what a short truth does",
        figure="; ".join(
            f"from scratch for {epochs} epochs: "
            + ", ".join(f"{r['evaluator']} {r['τ']:.2f}" for r in rows if r["epochs"] == epochs)
            + f" (the verdict: {facts['verdict']['evaluator']})"
            for epochs, facts in told.items()
        ),
    )


def row(epochs: int, facts: dict[str, Any], name: str) -> dict[str, Any]:
    task = facts["tasks"]["digits"]
    mine = [one for one in task["rows"] if one["evaluator"] == name]
    best = max(mine, key=lambda one: one["tau"][0])
    accuracy = [mean(one["scores"]) for one in mine if one["score"] == "accuracy"]
    value, low, high = best["tau"]
    return {
        "epochs": epochs,
        "evaluator": best["words"],
        "by": best["score"],
        "τ": value,
        "interval": f"{low:.2f} to {high:.2f}",
        "mean accuracy": accuracy[0] if accuracy else None,
        "CPU s": best["cpu_s"],
    }


if __name__ == "__main__":
    main()
