"""On digits the retrained front is not below a family of networks made by hand, at equal FLOPs.

A search of `mobile` with the default settings; members of the front, evenly in log FLOPs, are then
trained for 30 epochs from scratch. Beside them five convolutions with norm and ReLU, two of
stride 2, pooling and a linear layer, of first widths 4 to 32, trained as long by the same recipe.
Test accuracy, the mean of 2 seeds (359 samples: one is 0.0028).
Kept in runs/bench-digits: run again it carries on, and ends at once where all is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import byhand
import torch
from measure import Kept, report, searched

from nas.train import Recipe

SEEDS, MEMBERS, WIDTHS = (0, 1), 10, (4, 8, 16, 24, 32)
RECIPE = Recipe(epochs=30, lr=0.1)


def main() -> None:
    torch.set_num_threads(1)
    run = searched("digits", ["digits"])
    kept, (task,) = Kept(run.folder / "benchmark.json"), run.tasks
    front = run.front()
    ours, hands = [], []
    for trial in byhand.spread(front.trials, MEMBERS):
        found = accuracies(
            kept, f"{trial.id} scratch", lambda r, id=trial.id: byhand.from_scratch(run, id, r)
        )
        ours.append(
            {
                "network": trial.id,
                "flops": int(trial.value("flops") or 0),
                "params": int(trial.value("params") or 0),
                "valid shared": trial.value("accuracy"),
                "test": mean(found),
                "worst": min(found),
            }
        )
    for width in WIDTHS:
        params, flops = byhand.costs(lambda w=width: byhand.Classifier(task, w), task.input)
        by_seed = accuracies(kept, f"hand {width}", lambda r, w=width: hand(task, w, r))
        hands.append(
            {
                "network": f"by hand, width {width}",
                "flops": flops,
                "params": params,
                "test": mean(by_seed),
                "worst": min(by_seed),
            }
        )
    rows = sorted([*ours, *hands], key=lambda row: row["flops"])
    for row in rows:
        row["best of front so far"] = best(ours, row["flops"])
        row["best by hand so far"] = best(hands, row["flops"])
    report("digits", __doc__, rows=rows, seeds=SEEDS, **verdict(ours, hands, run))


def accuracies(
    kept: Kept, key: str, train: Callable[[Recipe], dict[str, float]], recipe: Recipe = RECIPE
) -> list[float]:
    """Test accuracy by seed; training draws its order, and a hand-made network its weights."""

    def one(seed: int) -> float:
        torch.manual_seed(seed)
        return next(iter(train(replace(recipe, seed=seed)).values()))

    return [kept(f"{key} {recipe.epochs:g} epochs seed {s}", lambda s=s: one(s)) for s in SEEDS]


def hand(task: Any, width: int, recipe: Recipe) -> dict[str, float]:
    return byhand.test(byhand.fit(byhand.Classifier(task, width), [task], recipe), [task])


def best(rows: Sequence[dict[str, Any]], flops: int) -> float | None:
    """The best test accuracy among networks of no more FLOPs."""
    return max((row["test"] for row in rows if row["flops"] <= flops), default=None)


def verdict(
    ours: Sequence[dict[str, Any]], hands: Sequence[dict[str, Any]], run: Any
) -> dict[str, Any]:
    """The figures that the aim is about."""
    fronts = {"all objectives": run.front(), "accuracy and FLOPs": run.front(["accuracy", "flops"])}
    facts = {
        name: {"points": len(front.trials), "flops span": max(flops) / min(flops)}
        for name, front in fronts.items()
        if (flops := [trial.value("flops") for trial in front.trials])
    }
    margins = {
        row["network"]: (best(ours, row["flops"]) or 0.0) - (best(hands, row["flops"]) or 0.0)
        for row in hands
    }
    short = facts["accuracy and FLOPs"]
    figure = (
        f"best {max(row['test'] for row in ours):.4f}; {facts['all objectives']['points']} points "
        f"spanning {facts['all objectives']['flops span']:.0f} times in FLOPs ({short['points']} "
        f"and {short['flops span']:.0f} over accuracy and FLOPs alone); front minus family at the "
        f"family's FLOPs: {signed(margins.values())}, "
        "where one test sample is 0.0028"
    )
    return {
        "aim": "at least 0.98, 8 points spanning 10 times in FLOPs, nowhere below the family",
        "figure": figure,
        "facts": {"fronts": facts, "margins": margins},
    }


def signed(margins: Iterable[float]) -> str:
    return ", ".join(f"{margin:+.4f}" for margin in margins)


if __name__ == "__main__":
    main()
