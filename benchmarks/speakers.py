"""TDNNs found for a limit tell speakers apart better than those made by hand at equal FLOPs.

`python benchmarks/speakers.py` makes 100 voices of espeak-ng (variants of its English voice), 16
recordings of seven words each; `--asterisk FOLDER` takes Debian's recorded prompts in their place,
of seven people (packages asterisk-core-sounds-*-wav, asterisk-prompt-es-co and -fr-armelle).
`tdnn-small` is searched once a seed (stages kernel, depth, width, as EfficientTDNN, Wang et al.
2021); of each front the best by validation within three limits is retrained, and so is the largest
network by hand within it: one width for all, kernels of 3, three layers, aggregated at three times
the width, as ECAPA-TDNN. EER on test: pairs of speakers that neither training nor validation heard.
What is told apart are a synthesiser's voices; of the people, of whom two are tested, language and
line as well.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import ROOT, Kept, progress, report

from nas.export import Recipe, save
from nas.grammar import Derivation, Grammar, derive
from nas.network import Network
from nas.plan import plan
from nas.retrain import Retraining, retrain
from nas.search import load, search
from nas.task import Task, load_tasks

SPACE, LIMITS = "tdnn-small", (6e6, 12e6, 24e6)
VOICES, RECORDINGS, WORDS = 100, 16, 7
SPOKEN = "zero one two three four five six seven eight nine ten eleven twelve hundred open close "
SPOKEN += "morning evening water river mountain garden table window yellow purple orange silver "
SPOKEN += "number letter please thank goodbye again forward backward quickly slowly answer question"


def voices(folder: Path) -> Path:
    """Recordings of a synthesiser's voices, always the same."""
    program = shutil.which("espeak-ng")
    if not program:
        raise SystemExit("espeak-ng is not there: install it, or name a folder as --voices")
    listed = subprocess.run([program, "--voices=variant"], capture_output=True, text=True).stdout
    files = [line.split()[4] for line in listed.splitlines()[1:]]
    names = sorted({file.rpartition("/")[2] for file in files if file.startswith("!v/")})[:VOICES]
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        rng = random.Random(name)
        for i in range(RECORDINGS):
            text = " ".join(rng.sample(SPOKEN.split(), WORDS))
            target = folder / name / f"{i}.wav"
            say = [program, "-v", f"en+{name}", "-s", f"{rng.randint(140, 190)}"]
            say += ["-p", f"{rng.randint(45, 55)}", "-w", f"{target}", text]
            if not target.exists():
                subprocess.run(say, check=True)
    return folder


PEOPLE = {
    "allison": ("en_US_f_Allison", "es_MX_f_Allison"),
    "june": ("fr_CA_f_June",),
    "menardi": ("it_IT_f_Menardi",),
    "carlo": ("it_IT_m_Carlo",),
    "ivrvoice": ("ru_RU_f_IvrvoiceRU",),
}
PACKED = {"colombia": "es", "armelle": "fr"}  # in GSM


def prompts(source: Path, folder: Path) -> Path:
    """Debian's prompts, a sub-folder a person; one who speaks two languages is one person."""
    import soundfile

    for name, places in PEOPLE.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place in places:
            for file in sorted((source / place).rglob("*.wav")):
                words = "-".join(file.relative_to(source).parts)
                target = folder / name / words
                if "silence" not in words and not target.exists():
                    target.symlink_to(file)
    for name, place in PACKED.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in sorted((source / place).rglob("*.gsm")):
            target = folder / name / f"{'-'.join(file.relative_to(source).parts)}.wav"
            if not target.exists() and file.stat().st_size > 300:
                words = {"format": "RAW", "subtype": "GSM610", "samplerate": 8000, "channels": 1}
                soundfile.write(target, soundfile.read(file, **words)[0], 8000)
    return folder


def by_hand(task: Task, limit: float) -> Derivation:
    """The largest network of one width within a limit."""
    within = [d for width in range(16, 65, 4) if flops(d := uniform(task, width), task) <= limit]
    return within[-1]


def uniform(task: Task, width: int) -> Derivation:
    """One width, kernels of 3, three layers, aggregated at about three times the width."""

    def choose(site: Any, options: Sequence[Any]) -> int:
        labels = [option.label for option in options]
        sizes = [
            int(text) if (text := label.rpartition("=")[2]).isdigit() else None for label in labels
        ]
        if sizes[0] is None:
            deeper = [i for i, label in enumerate(labels) if label.startswith("clone")]
            return deeper[0] if ":three" in f":{site.rule}" else 1 - deeper[0]
        wanted = 3 * width if len(sizes) == 4 else 3 if len(sizes) == 3 else width
        return min(range(len(sizes)), key=lambda i: abs((sizes[i] or 0) - wanted))

    return derive(Grammar.load(SPACE), choose, input=task.input)


def flops(derivation: Derivation, task: Task) -> int:
    return plan(derivation, heads=[task]).flops


class Seed:
    """One search, and what is retrained of it."""

    def __init__(self, folder: Path, task: Task, seed: int, words: argparse.Namespace):
        self.folder, self.task, self.seed, self.words = folder / str(seed), task, seed, words
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept = Kept(self.folder / "kept.json")
        if not (self.folder / "run" / "run.toml").exists():
            search(
                SPACE,
                task.spec,
                out=self.folder / "run",
                trials=words.trials,
                seed=seed,
                objectives=("eer", "flops"),
                limits=(f"flops<={LIMITS[-1]:.0f}",),
                supernet={"steps": words.steps, "strategy": words.strategy},
                listener=progress,
            )
        self.run = load(self.folder / "run")

    def rows(self, limit: float) -> list[dict[str, Any]]:
        within = [t for t in self.run.trials if (t.value("flops") or math.inf) <= limit]
        best = min(within, key=lambda trial: trial.value("eer") or 1.0)

        def ours(folder: Path) -> None:
            self.run.save(best.id, folder)

        def theirs(folder: Path) -> None:
            network = Network(by_hand(self.task, limit), heads=[self.task], seed=self.seed)
            recipe = Recipe(seed=self.seed)
            save(network.eval(), folder, tasks=[self.task], recipe=recipe, source={})

        rows = []
        for way, begin in (("found", ours), ("by hand", theirs)):
            eer, cost = self.kept(
                f"{way} {limit:.0f}", lambda b=begin, w=way: self._tested(b, f"{w} {limit:.0f}")
            )
            rows.append(
                {"seed": self.seed, "limit": limit / 1e6, "way": way, "eer": eer, "MFLOPs": cost}
            )
        return rows

    def _tested(self, begin: Any, name: str) -> list[float]:
        folder = self.folder / name.replace(" ", "-")
        if not folder.exists():
            begin(folder)
        _, after = retrain(folder, Retraining(self.words.epochs, device="cpu"))
        (eer,) = (m.value for m in after if m.name == "eer" and m.split == "test")
        (cost,) = (m.value for m in after if m.name == "flops")
        return [eer, cost / 1e6]


def saved(rows: Sequence[dict[str, Any]]) -> list[float]:
    """The share of FLOPs that what is found saves at the EER of what is made by hand, a seed and
    limit each, by interpolation in logarithms; NaN where it is nowhere as good."""
    shares = []
    for row in (row for row in rows if row["way"] == "by hand"):
        found = sorted(
            (r["MFLOPs"], r["eer"])
            for r in rows
            if r["way"] == "found" and r["seed"] == row["seed"]
        )
        costs, errors = (np.array(column) for column in zip(*found, strict=True))
        best = np.minimum.accumulate(errors)
        if best[-1] > row["eer"]:
            shares.append(math.nan)
            continue
        cost = math.exp(np.interp(-row["eer"], -best, np.log(costs)))
        shares.append(1 - cost / row["MFLOPs"])
    return shares


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--asterisk", type=Path, help="As /usr/share/asterisk/sounds.")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--strategy", default="progressive")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    words = parser.parse_args()
    torch.set_num_threads(1)
    name = "people" if words.asterisk else "voices"
    folder = ROOT / "runs" / f"bench-speakers-{name}"
    make = partial(prompts, words.asterisk) if words.asterisk else voices
    place = make(folder / "recordings")
    (task,) = load_tasks([f"who={place}?predict=speaker&rate=8000&skip_corrupt=true"])
    print(task.describe(), flush=True)
    rows = list[dict[str, Any]]()
    for number in range(words.seeds):
        seed = Seed(folder, task, number, words)
        for limit in LIMITS:
            rows += seed.rows(limit)
            print(rows[-2:], flush=True)
    means = list[dict[str, Any]]()
    for limit in LIMITS:
        for way in ("found", "by hand"):
            errors = [r["eer"] for r in rows if (r["limit"], r["way"]) == (limit / 1e6, way)]
            spread = statistics.stdev(errors) / len(errors) ** 0.5 if len(errors) > 1 else 0.0
            means.append(
                {"limit": limit / 1e6, "way": way, "eer": statistics.mean(errors), "±": spread}
            )
    shares = saved(rows)
    report(
        "speakers",
        __doc__,
        aim="a lower EER than by hand at each limit",
        figure="; ".join(
            f"{m['limit']:.0f} MFLOPs {m['way']} {m['eer']:.2%} ± {m['±']:.2%}" for m in means
        )
        + f"; FLOPs saved at equal EER {np.nanmean(shares):.0%} "
        + f"({sum(map(math.isnan, shares))} of {len(shares)} nowhere as good)",
        rows=[*rows, *means],
        seeds=list(range(words.seeds)),
        space="people" if words.asterisk else "",
        words="--asterisk /usr/share/asterisk/sounds --steps 400 --trials 60 --epochs 8"
        if words.asterisk
        else "",
        facts={"epochs": words.epochs, "steps": words.steps, "saved": shares},
    )


if __name__ == "__main__":
    main()
