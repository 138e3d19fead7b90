"""What searches are compared on: published tables, of which all is known, and a supernet."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from measure import ROOT, progress
from scipy.stats import kendalltau

from nas.dominance import hypervolume
from nas.evaluate import EVALUATORS
from nas.grammar import Derivation, Grammar
from nas.supernet import Space

MACRO = """
net       = conv(32) batchnorm relu stage2(64) stage3(128) stage3(256) last output(coarse)
last      = pointwise(1280) batchnorm relu
stage2(c) = first(c) rest(c)
stage3(c) = first(c) rest(c) rest(c)
first(c)  = plain(c) | small(c, 2) | large(c, 2)
plain(c)  = conv(c, kernel=1, stride=2) batchnorm
rest(c)   = identity | small(c, 1) | large(c, 1)
small(c, s) = mbconv(c, s, kernel=3, expand=3, act=relu)
large(c, s) = mbconv(c, s, kernel=5, expand=6, act=relu)
"""
CELL = """
net  = edge edge edge edge edge edge output(coarse)
edge = identity | relu | tanh | silu | gelu
"""
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
Losses = tuple[float, float]


class Problem(Protocol):
    """A space, what is minimised of each of its networks (a loss and a cost), as a search is told
    and as it is, and the columns that a search would be told."""

    name: str
    space: Space
    cost: str

    def columns(self, derivation: Derivation) -> dict[str, float]: ...
    def told(self, derivation: Derivation) -> Losses: ...
    def losses(self, derivation: Derivation) -> Losses: ...
    def close(self) -> None: ...


class Table:
    """A published table: an accuracy and a cost by what is chosen at a network's sites."""

    def __init__(self, name: str, space: Space, cost: str, known: Mapping[tuple[int, ...], Losses]):
        self.name, self.space, self.cost, self.known = name, space, cost, known

    def columns(self, derivation: Derivation) -> dict[str, float]:
        accuracy, cost = self.known[_indices(derivation)]
        return {"accuracy": accuracy, self.cost: cost}

    def told(self, derivation: Derivation) -> Losses:
        return self.losses(derivation)

    def losses(self, derivation: Derivation) -> Losses:
        return self._scaled[_indices(derivation)]

    def close(self) -> None:
        pass

    @cached_property
    def _scaled(self) -> dict[tuple[int, ...], Losses]:
        accuracies, costs = zip(*self.known.values(), strict=True)
        worst, best, low, high = min(accuracies), max(accuracies), min(costs), max(costs)
        return {
            key: ((best - accuracy) / (best - worst), math.log(cost / low) / math.log(high / low))
            for key, (accuracy, cost) in self.known.items()
        }

    @cached_property
    def whole(self) -> float:
        return hypervolume(list(self._scaled.values()), (1.0, 1.0))


class Simulated(Table):
    """A table behind the errors of a supernet: what a search is told of a network's accuracy is off
    by something for every choice at every site, which is what shared weights favour, and by
    something of its own; in deviations of the accuracies' logits over the table."""

    BIAS, NOISE = 0.6, 0.3

    def __init__(self, table: Table, seed: int = 0):
        super().__init__(
            f"{table.name} by a simulated supernet", table.space, table.cost, table.known
        )
        rng = np.random.default_rng(seed)
        codes = np.array(list(self.known))
        accuracy, costs = np.array(list(self.known.values())).T
        favours = rng.standard_normal((codes.shape[1], codes.max() + 1))
        bias = favours[np.arange(codes.shape[1]), codes].sum(axis=1)
        error = self.BIAS * bias / bias.std() + self.NOISE * rng.standard_normal(len(codes))
        logits = np.log(accuracy / (1 - accuracy))
        shared = 1 / (1 + np.exp(-logits - logits.std() * error))
        self.tau = float(kendalltau(shared, accuracy).statistic)
        pairs = zip(shared.tolist(), costs.tolist(), strict=True)
        known = dict(zip(self.known, pairs, strict=True))
        self.supernet = Table(self.name, self.space, self.cost, known)

    def columns(self, derivation: Derivation) -> dict[str, float]:
        return self.supernet.columns(derivation)

    def told(self, derivation: Derivation) -> Losses:
        return self.supernet.losses(derivation)


class Supernet:
    """Subnets of a trained bank, each evaluated once, whoever asks."""

    name, cost, whole = "mobile on digits", "flops", 1.0

    def __init__(self) -> None:
        from nas.search import resume, search

        folder = ROOT / "runs" / "bench-fronts"
        words = {"objectives": ("accuracy", "flops"), "trials": 2, "listener": progress}
        if (folder / "run.toml").exists():
            run = resume(folder, listener=progress)
        else:
            run = search("mobile", ["digits"], out=folder, **words)  # type: ignore[arg-type]
        self.problem = run.problem
        self.space = self.problem.space
        settings = run.settings.model_copy(update={"evaluate_in": "onnxruntime"})
        self.conditions = self.problem.with_settings(settings).conditions(run.bank())
        self.path = folder / "evaluations.json"
        self.known: dict[str, dict[str, float]] = {}
        if self.path.exists():
            self.known = json.loads(self.path.read_text(encoding="utf-8"))
        self.ends = [self.columns(end) for end in self.space.ends()]

    def columns(self, derivation: Derivation) -> dict[str, float]:
        text = str(derivation)
        if text not in self.known:
            figures = EVALUATORS["shared"].measure(derivation, self.conditions).measurements
            columns = {m.name: m.value for m in figures}
            self.known[text] = {name: columns[name] for name in ("accuracy", "nll", "flops")}
        return dict(self.known[text])

    def close(self) -> None:
        """Keep what was evaluated."""
        self.path.write_text(json.dumps(self.known), encoding="utf-8")

    def told(self, derivation: Derivation) -> Losses:
        return self.losses(derivation)

    def losses(self, derivation: Derivation) -> Losses:
        """The likelihood in shares of the smallest network's, FLOPs from it to the largest's."""
        small, large = self.ends
        columns = self.columns(derivation)
        cost = math.log(columns["flops"] / small["flops"])
        return columns["nll"] / small["nll"], cost / math.log(large["flops"] / small["flops"])


def _indices(derivation: Derivation) -> tuple[int, ...]:
    return tuple(chosen.index for chosen in derivation.choices)


def macro(folder: Path) -> Table:
    rows = pd.read_csv(folder / "nas-bench-macro.csv.gz", dtype={"code": str})
    accuracy = rows[[f"test_accuracy_seed{i}" for i in range(3)]].mean(axis=1) / 100
    known = {
        tuple(map(int, code)): (float(a), float(macs))
        for code, a, macs in zip(rows["code"], accuracy, rows["macs"], strict=True)
    }
    space = Space(Grammar.parse(MACRO, name="macro"), (3, 32, 32))
    return Table("NAS-Bench-Macro", space, "flops", known)


def cells(folder: Path) -> Table:
    rows = pd.read_csv(folder / "nas-bench-201.csv.gz")
    accuracy, latency = rows["cifar10_valid_200ep"] / 100, rows["cifar10_edgegpu_latency"]
    known = {}
    for cell, a, ms in zip(rows["cell"], accuracy, latency, strict=True):
        edges = [edge.partition("~")[0] for edge in cell.replace("+", "").split("|") if edge]
        known[tuple(OPERATIONS.index(edge) for edge in edges)] = float(a), float(ms)
    space = Space(Grammar.parse(CELL, name="cell"), (8,))
    return Table("NAS-Bench-201, edge GPU", space, "latency_ms", known)
