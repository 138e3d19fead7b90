"""Batches of pictures come faster than training takes them, and than a plain torch loader's.

JPEG files of unequal sizes, made here; batches of 64, cut to 64x64 and to 224x224. Beside the
batches a second of a split that is mapped from its store (and of one that is kept prepared, where
it is small), in this process: a torch DataLoader of two workers that opens each file with Pillow,
cuts, scales and normalises it, from its second epoch on; and the steps a second of training
`mobile` at that size by single-path on two threads. The first epoch of a store, which decodes every
file, is listed apart, beside the loader's.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import report
from PIL import Image
from torch.utils.data import DataLoader, Dataset

SEED, BATCH, ROUNDS = 0, 64, 3
SETS = {64: (1920, (80, 160)), 224: (768, (240, 400))}  # size: pictures, their sides
STEPS = 6


def make_pictures(folder: Path, n: int, sides: tuple[int, int], seed: int) -> None:
    """n JPEG files of two classes: coloured gradients with some noise."""
    rng = np.random.default_rng(seed)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(n):
        height, width = rng.integers(*sides, 2)
        down, across = np.mgrid[:height, :width]
        waves = np.sin(down[..., None] / rng.uniform(3, 30, 3) + across[..., None] / 20)
        noise = rng.integers(-20, 20, (height, width, 1))
        pixels = np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)
        name = "ab"[number % 2]
        Image.fromarray(pixels).save(folder / name / f"{number:06}.jpg", quality=85)


class Plain(Dataset[tuple[torch.Tensor, int]]):
    """What one writes by hand: a file opened, cut, scaled and normalised each time."""

    def __init__(self, folder: Path, side: int):
        self.files, self.side = sorted(folder.glob("*/*.jpg")), side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        file = self.files[number]
        image = Image.open(file).convert("RGB")
        scale = self.side / min(image.size)
        sides = [max(self.side, round(side * scale)) for side in image.size]
        image = image.resize((sides[0], sides[1]), Image.Resampling.BILINEAR)
        left, top = ((side - self.side) // 2 for side in image.size)
        image = image.crop((left, top, left + self.side, top + self.side))
        x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
        return (x - 0.5) / 0.25, int(file.parent.name == "b")


def rate(epoch: Callable[[], Iterator[Any]]) -> float:
    """Batches a second of an epoch."""
    begun, n = time.perf_counter(), sum(1 for _ in epoch())
    return n / (time.perf_counter() - begun)


def main() -> None:
    torch.set_num_threads(2)
    rows = []
    for side, (n, sides) in SETS.items():
        with tempfile.TemporaryDirectory() as made:
            os.environ["NAS_CACHE"] = f"{made}/cache"
            make_pictures(Path(made) / "photos", n, sides, SEED)
            rows.append(row(Path(made) / "photos", side))
    told = ", ".join(
        f"{r['mapped']:.0f} batches a second at {r['pixels']} pixels, {r['/ plain']:.1f} times the "
        f"plain loader and {r['/ step']:.0f} times the steps of training"
        for r in rows
    )
    report(
        "loader",
        __doc__,
        aim="never the bottleneck, at least twice the plain loader from the second epoch on",
        figure=told,
        rows=rows,
        seeds=[SEED],
    )


def row(photos: Path, side: int) -> Mapping[str, Any]:
    from nas.task import Task, preparation

    begun = time.perf_counter()
    task = Task.load(f"photos={photos}?size={side}")
    train = task.splits().train
    first_s = time.perf_counter() - begun
    begun = time.perf_counter()
    Task.load(f"photos={photos}?size={side}")
    again_s = time.perf_counter() - begun
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))

    def ours() -> Iterator[Any]:
        for at in order.split(BATCH):
            yield train.x_at(at), train.y_at(at)

    loader = DataLoader(
        Plain(photos, side), BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    begun = time.perf_counter()
    for _ in loader:
        pass
    plain_first_s = time.perf_counter() - begun
    kept = 4 * train.inputs.size * len(train) <= preparation.KEPT
    usual, preparation.KEPT = preparation.KEPT, 0
    mapped, plain = [], []
    for _ in range(ROUNDS):
        mapped.append(rate(ours))
        plain.append(rate(lambda: iter(loader)))
    preparation.KEPT = usual
    prepared = [rate(ours) for _ in range(ROUNDS + 1)][1:] if kept else []
    steps = step_rate(task)
    ratios = [a / b for a, b in zip(mapped, plain, strict=True)]
    return {
        "pixels": side,
        "files": len(loader.dataset),  # type: ignore[arg-type]
        "first s": first_s,
        "plain first s": plain_first_s,
        "again s": again_s,
        "mapped": statistics.median(mapped),
        "kept": statistics.median(prepared) if prepared else None,
        "plain": statistics.median(plain),
        "steps": steps,
        "/ plain": statistics.median(ratios),
        "/ step": statistics.median(mapped) / steps,
    }


def step_rate(task: Any) -> float:
    """Steps a second of training `mobile` at random subnets."""
    from nas.grammar import Grammar
    from nas.grammar.count import cover
    from nas.plan import plan
    from nas.supernet import Bank, Space
    from nas.train import Recipe, Trainer, Turn

    grammar = Grammar.load("mobile")
    space = Space(grammar, task.input)
    bank = Bank.of([plan(d, heads=[task]) for d in cover(grammar, input=task.input)])
    trainer, rng = Trainer(bank, [task], Recipe(batch=BATCH), 100), random.Random(SEED)
    times = []
    for step in range(STEPS):
        turn = Turn((space.draw(rng),))
        begun = time.perf_counter()
        trainer.step(step, turn)
        times.append(time.perf_counter() - begun)
    return 1 / statistics.median(times[1:])


if __name__ == "__main__":
    main()
