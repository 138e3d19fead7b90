"""Smaller networks around a trained one keep what it learned.

`python benchmarks/around.py --idx FOLDER` of Fashion-MNIST's four idx files (Xiao et al. 2017):
4,000 pictures to train on. A residual network is trained in plain torch, a space is written around
it, and a search goes on from its weights (sandwich, lr 0.015). For each of two bounds in FLOPs,
those of the same network at three quarters and at half of every width: the best by shared weights
within the bound, fine-tuned (this); the same architecture from scratch; the network of uniform
widths with the important channels of the trained one, fine-tuned. All have the same CPU time, the
whole search charged to each. Test accuracy on 4,000 others. Kept in runs/bench-around.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import byhand
import numpy as np
import torch
from garments import grey
from measure import ROOT, Kept, progress, report
from torch import Tensor, nn

from nas.around import OwnSpace, space_of
from nas.evaluate import Conditions, network_of
from nas.export import save
from nas.grammar import Derivation, derive
from nas.plan import plan
from nas.retrain import Retraining, retrain
from nas.search import Run, load, search
from nas.task import Task, load_tasks
from nas.train import Recipe

FINE = Recipe(epochs=5, lr=0.02)
WIDTHS, SHARES = (16, 32, 64), {"three quarters": 0.75, "half": 0.5}


class Block(nn.Module):
    def __init__(self, inputs: int, out: int, stride: int):
        super().__init__()
        self.first = byhand.conv(inputs, out, stride)
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        straight = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut = straight if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class Residual(nn.Module):
    """Three stages of two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, blocks, inputs = byhand.conv(1, WIDTHS[0], 2), list[nn.Module](), WIDTHS[0]
        for width in WIDTHS:
            blocks += [Block(inputs, width, 1 if width == inputs else 2), Block(width, width, 1)]
            inputs = width
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Named(nn.Module):
    def __init__(self, module: nn.Module, name: str):
        super().__init__()
        self.module, self.name = module, name

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {self.name: self.module(x)}


class Comparison:
    """One seed."""

    def __init__(self, folder: Path, task: Task, seed: int, steps: int):
        self.folder, self.task, self.seed, self.steps = folder / str(seed), task, seed, steps
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept = Kept(self.folder / "kept.json")
        self.module, file = Residual(), self.folder / "module.pt"
        if not file.exists():
            torch.manual_seed(seed)
            self.module, recipe = Residual(), Recipe(epochs=20, lr=0.1, seed=seed)
            named = Named(self.module, task.name)
            byhand.fit(named, [task], recipe)
            self.kept("module", lambda: byhand.test(named, [task])[task.name])
            torch.save(self.module.state_dict(), file)
        self.module.load_state_dict(torch.load(file))
        self.space: OwnSpace = space_of(self.module, task.input)
        self.run, self.seconds = self._searched()

    def _searched(self) -> tuple[Run, float]:
        grammar, out = self.folder / "own.grammar", self.folder / "run"
        if not grammar.exists():
            self.space.save(grammar)
        begun = time.process_time()
        if not (out / "run.toml").exists():
            weights = f"{grammar.with_suffix('.safetensors')}"
            supernet = {"steps": self.steps, "strategy": "sandwich", "lr": 0.015}
            search(
                f"{grammar}",
                self.task.spec,
                out=out,
                trials=100,
                seed=self.seed,
                objectives=("accuracy", "flops"),
                supernet={**supernet, "weights": weights, "threads": 1},
                workers=1,
                listener=progress,
            )
        return load(out), self.kept("search", lambda: time.process_time() - begun)

    def uniform(self, share: float) -> Derivation:
        """All widths at the nearest share, all blocks there."""

        def choose(site: Any, options: Sequence[Any]) -> int:
            if ":repeat" in site.suffix:
                return len(options) - 1
            return round(share * len(options)) - 1 if len(options) > 1 else 0

        return derive(self.space.grammar, choose, input=self.task.input)

    def flops(self, derivation: Derivation) -> int:
        return plan(derivation, heads=[self.task]).flops

    def tuned(self, name: str, begin: Callable[[Path], None], recipe: Recipe, own: bool) -> Any:
        """The accuracy of a network that is begun in a folder, and seconds that it took."""

        def work() -> list[float]:
            folder = self.folder / name
            if not folder.exists():
                begin(folder)
            begun = time.process_time()
            weights = folder if own else None
            options = Retraining(recipe.epochs, recipe.lr, weights, device="cpu")
            _, after = retrain(folder, options)
            (accuracy,) = (m.value for m in after if m.name == "accuracy")
            return [accuracy, time.process_time() - begun]

        return self.kept(f"{name} {recipe.epochs:.1f}", work)

    def row(self, words: str) -> dict[str, Any]:
        uniform = self.uniform(SHARES[words])
        bound, recipe = self.flops(uniform), replace(FINE, seed=self.seed)
        within = [t for t in self.run.trials if (t.value("flops") or bound + 1) <= bound]
        best = max(within, key=lambda trial: trial.value("accuracy") or 0)
        ours, seconds = self.tuned(
            f"this {words}", lambda f: self.run.save(best.id, f), recipe, own=True
        )
        epochs = FINE.epochs * (self.seconds + seconds) / seconds
        scratch, _ = self.tuned(
            f"scratch {words}",
            lambda f: self.run.save(best.id, f),
            replace(recipe, epochs=epochs, lr=0.1),
            own=False,
        )

        def begin(folder: Path) -> None:
            conditions = Conditions([self.task], recipe, self.space.bank())
            network = network_of(self._bank(), uniform, conditions, 512)
            save(network, folder, tasks=[self.task], recipe=recipe, source={})

        pruned, _ = self.tuned(f"uniform {words}", begin, replace(recipe, epochs=epochs), own=True)
        facts = {"MFLOPs": (best.value("flops") or 0) / 1e6, "bound": bound / 1e6}
        accuracies = {"this": ours, "from scratch": scratch, "uniform": pruned}
        return {"widths": words, **facts, **accuracies, "epochs": epochs}

    def _bank(self) -> Any:
        from nas.search.problem import Problem
        from nas.supernet.bank_file import begin_bank

        problem: Problem = self.run.problem
        bank = problem.bank(trained=True)
        begin_bank(bank, self.folder / "own.safetensors")
        return bank


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--idx", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(1)
    folder = ROOT / "runs" / "bench-around"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "fashion.npz").exists():
        np.savez(folder / "fashion.npz", **grey(words.idx))
    (task,) = load_tasks([f"fashion={folder / 'fashion.npz'}"])
    rows, modules = list[dict[str, Any]](), list[float]()
    for seed in range(words.seeds):
        comparison = Comparison(folder, task, seed, words.steps)
        modules.append(comparison.kept.figures["module"])
        rows += [{"seed": seed, **comparison.row(share)} for share in SHARES]
        print(rows[-2:], flush=True)
    means = [
        {
            "widths": share,
            **{
                key: statistics.mean(row[key] for row in rows if row["widths"] == share)
                for key in ("MFLOPs", "bound", "this", "from scratch", "uniform", "epochs")
            },
        }
        for share in SHARES
    ]
    report(
        "around",
        __doc__,
        aim="ahead of both others at both bounds",
        figure=f"the network itself {statistics.mean(modules):.3f}; "
        + "; ".join(
            f"{r['widths']} of its widths, {r['bound']:.1f} MFLOPs: this {r['this']:.3f}, from "
            f"scratch {r['from scratch']:.3f}, uniform {r['uniform']:.3f}"
            for r in means
        ),
        rows=[*rows, *means],
        seeds=list(range(words.seeds)),
        facts={"steps": words.steps, "module": modules},
    )


if __name__ == "__main__":
    main()
