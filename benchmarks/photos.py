"""Fashion-MNIST as 70,000 PNG files of unequal sizes: from a folder to a retrained network.

`python benchmarks/photos.py --idx FOLDER`, of the four idx files (Xiao et al. 2017). They are
written as PNG files of 24 to 56 pixels a side, in train/ and test/ by class. Then the commands that
a person types, timed one by one: nas search mobile with a budget of ten minutes, nas extract, nas
retrain, nas predict on five files, nas export. On all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measure import ROOT, report
from PIL import Image

SEED, SIDES, BUDGET, EPOCHS = 0, (24, 57), "10m", 8
CLASSES = "tshirt trouser pullover dress coat sandal shirt sneaker bag boot".split()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--idx", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    idx = parser.parse_args().idx
    with tempfile.TemporaryDirectory(dir=os.environ.get("NAS_BENCH_TMP")) as made:
        folder = Path(made)
        os.environ["NAS_CACHE"] = f"{made}/cache"
        files = write_pictures(idx, folder / "fashion")
        run, net = folder / "run", folder / "net"
        search = ["search", "mobile", "--task", f"fashion={folder / 'fashion'}", "--size", "28"]
        steps = {
            "search": [*search, "--budget", BUDGET, "--out", str(run)],
            "extract": ["extract", str(run), "--to", str(net)],
            "retrain": ["retrain", str(net), "--epochs", str(EPOCHS)],
            "predict": ["predict", str(net), *map(str, files[:5]), "--json"],
            "export": ["export", str(net), "--onnx"],
        }
        rows, said = [], dict[str, str]()
        for name, words in steps.items():
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "nas", *words],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            said[name] = done.stdout
            rows.append({"command": f"nas {name}", "s": time.perf_counter() - begun})
        facts = outcome(said, files)
    whole = sum(row["s"] for row in rows) / 60
    report(
        "photos",
        __doc__,
        aim="within 30 minutes on two cores, the figure of a sound network (0.90 and more)",
        figure=f"{whole:.0f} minutes, test accuracy {facts['accuracy']:.3f} after retraining "
        f"{EPOCHS} epochs; {facts['right']} of 5 files predicted rightly",
        rows=rows,
        facts=facts,
        seeds=[SEED],
    )


def write_pictures(idx: Path, folder: Path) -> list[Path]:
    """All pictures as files; those of the test split in an order that mixes the classes."""
    from nas.task.source.idx import read_idx

    rng, tests = np.random.default_rng(SEED), list[Path]()
    for split, stem in (("train", "train"), ("test", "t10k")):
        x, y = (next(idx.glob(f"{stem}-{part}*")) for part in ("images", "labels"))
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
        for number, (pixels, label) in enumerate(zip(read_idx(x), read_idx(y), strict=True)):
            side = int(rng.integers(*SIDES))
            image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
            file = folder / split / CLASSES[label] / f"{number:05}.png"
            image.save(file, compress_level=1)
            if split == "test":
                tests.append(file)
    return tests


def outcome(said: Mapping[str, str], files: list[Path]) -> dict[str, Any]:
    """Test accuracy before and after retraining, and how many of five files were seen rightly."""
    line = next(line for line in said["retrain"].splitlines() if " accuracy " in line)
    before, after = map(float, re.findall(r"[\d.]+(?=\s|$)", line)[-2:])
    predictions = [json.loads(text) for text in said["predict"].splitlines()]
    right = sum(
        next(iter(prediction["fashion"])) == file.parent.name
        for prediction, file in zip(predictions, files, strict=False)
    )
    return {"accuracy before": before, "accuracy": after, "right": right}


if __name__ == "__main__":
    main()
