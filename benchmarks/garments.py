"""On garments the retrained front is not below networks made by hand.

`python benchmarks/garments.py --idx FOLDER [--sets fashion colours]`, of Fashion-MNIST's four idx
files (Xiao et al. 2017). Two sets: 4,000 of its pictures at 28 pixels, and 2,000 of them tinted,
scaled and laid on grounds of coloured waves at 64 pixels. A search of `mobile` over accuracy and
FLOPs; of two budgets evenly in log FLOPs the best member by validation, and five convolutions made
by hand of as many FLOPs, all trained from scratch by one recipe: without augmentation, and the grey
ones moved by up to an eighth (by default they are not), those in colours with what the task takes
by default. Test accuracy on 4,000 (2,000) others, the mean of 2 seeds; the front's best within a
budget against the best by hand within it.
Kept in runs/bench-garments: run again it carries on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import byhand
import numpy as np
import torch
from measure import ROOT, Kept, progress, report

from nas.train import Recipe

SEEDS, BUDGETS = (0, 1), 2
SETS: dict[str, dict[str, Any]] = {
    "fashion": {"trials": 120, "recipe": Recipe(epochs=15, lr=0.1), "augment": ("shift",)},
    "colours": {"trials": 80, "recipe": Recipe(epochs=12, lr=0.1), "augment": None},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--idx", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    words = parser.parse_args()
    idx = words.idx
    torch.set_num_threads(1)
    folder = ROOT / "runs" / "bench-garments"
    folder.mkdir(parents=True, exist_ok=True)
    kept, rows, margins = Kept(folder / "benchmark.json"), list[dict[str, Any]](), dict[str, Any]()
    for name, given in ((name, SETS[name]) for name in words.sets):
        data = folder / f"{name}.npz"
        if not data.exists():
            np.savez(data, **(grey if name == "fashion" else coloured)(idx))
        run = searched(folder / name, f"{name}={data}", given["trials"])
        (task,) = run.tasks
        task = replace(task, augment=given["augment"])
        members = byhand.best_within(run.front(["accuracy", "flops"]).trials, ["accuracy"], BUDGETS)
        for trial in members:
            flops = int(trial.value("flops") or 0)
            width = byhand.of_flops(lambda w, t=task: byhand.Classifier(t, w), task.input, flops)
            hand_flops = byhand.cost(lambda w, t=task: byhand.Classifier(t, w), width, task.input)
            for augment in (False, True):
                recipe = replace(given["recipe"], augment=augment)
                key = f"{name} {recipe}"
                ours = by_seed(
                    kept,
                    f"{key} {trial.id}",
                    recipe,
                    lambda r, run=run, t=task, id=trial.id: byhand.from_scratch(run, id, r, [t]),
                )
                hand = by_seed(
                    kept,
                    f"{key} width {width}",
                    recipe,
                    lambda r, t=task, w=width: byhand.test(
                        byhand.fit(byhand.Classifier(t, w), [t], r), [t]
                    ),
                )
                rows.append(
                    {
                        "set": name,
                        "augmented": ", ".join(task.augmentation) if augment else "",
                        "network": trial.id,
                        "MFLOPs": flops / 1e6,
                        "test": mean(ours),
                        "by hand": f"width {width}",
                        "its MFLOPs": hand_flops / 1e6,
                        "its test": mean(hand),
                    }
                )
        margins |= verdict(name, rows)
    said = "; ".join(
        f"{key} {', '.join(f'{m:+.4f}' for m in values)}" for key, values in margins.items()
    )
    report(
        "garments",
        __doc__,
        aim="not below at any budget",
        figure=f"front minus family, budget by budget: {said}",
        rows=rows,
        facts={"margins": margins},
        seeds=SEEDS,
    )


def verdict(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The front's best within each budget less the best by hand, with augmentation and without."""
    margins = dict[str, list[float]]()
    for augmented in (False, True):
        some = [r for r in rows if r["set"] == name and bool(r["augmented"]) == augmented]
        key = f"{name}, {'augmented' if augmented else 'as it is'}"
        for i in range(len(some)):
            ours, hand = (max(r[column] for r in some[: i + 1]) for column in ("test", "its test"))
            margins.setdefault(key, []).append(ours - hand)
    return margins


def by_seed(kept: Kept, key: str, recipe: Recipe, train: Any) -> list[float]:
    def one(seed: int) -> float:
        torch.manual_seed(seed)
        return float(next(iter(train(replace(recipe, seed=seed)).values())))

    return [kept(f"{key} seed {seed}", lambda s=seed: one(s)) for seed in SEEDS]


def searched(folder: Path, spec: str, trials: int) -> Any:
    from nas.search import resume, search

    if (folder / "run.toml").exists():
        return resume(folder, listener=progress)
    objectives = ("accuracy", "flops")
    words = {"trials": trials, "objectives": objectives, "listener": progress}
    return search("mobile", [spec], out=folder, **words)


def read(idx: Path) -> tuple[Any, Any, Any, Any]:
    from nas.task.source.idx import read_idx

    arrays = []
    for stem in ("train", "t10k"):
        arrays += [read_idx(next(idx.glob(f"{stem}-{part}*"))) for part in ("images", "labels")]
    return tuple(arrays)  # type: ignore[return-value]


def grey(idx: Path) -> dict[str, Any]:
    """4,000 pictures of train and 4,000 of test, as they are."""
    x, y, test_x, test_y = read(idx)
    return {
        "x_train": x[:4000],
        "y_train": y[:4000],
        "x_test": test_x[:4000],
        "y_test": test_y[:4000],
    }


def coloured(idx: Path) -> dict[str, Any]:
    """2,000 and 2,000 of them in colours on coloured grounds, 64 pixels a side."""
    x, y, test_x, test_y = read(idx)
    rng = np.random.default_rng(0)
    return {
        "x_train": np.stack([scene(rng, picture) for picture in x[6000:8000]]),
        "y_train": y[6000:8000],
        "x_test": np.stack([scene(rng, picture) for picture in test_x[4000:6000]]),
        "y_test": test_y[4000:6000],
    }


def scene(rng: np.random.Generator, garment: Any, side: int = 64) -> Any:
    """(side, side, 3) uint8: a garment of 36 to 60 pixels in one colour, somewhere on waves."""
    from PIL import Image

    size = int(rng.integers(36, 61))
    small = np.asarray(Image.fromarray(garment).resize((size, size))) / 255
    down, across = np.mgrid[:side, :side]
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 16)
    wave = np.sin((down * np.sin(angle) + across * np.cos(angle)) * 2 * np.pi / period)
    low, high, colour = rng.uniform(0, 1, (3, 3))
    ground = low + (high - low) * (wave[..., None] + 1) / 2
    mask = np.zeros((side, side, 1))
    top, left = rng.integers(0, side - size + 1, 2)
    mask[top : top + size, left : left + size, 0] = small
    shown = mask > 0.08
    picture = np.where(shown, colour * (0.25 + 0.75 * mask), ground)
    noise = rng.normal(0, 0.03, picture.shape)
    return (np.clip(picture + noise, 0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
