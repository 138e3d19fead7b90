"""A network is written to ONNX a hundred times sooner than torch's exporter does it, and as well.

`python benchmarks/written.py`. Random networks of every shipped space with random statistics: CPU
time to write one directly and by torch's dynamo exporter (of two in each space), and the largest
difference of ONNX Runtime from torch on batches of 1 and 5, in shares of the largest output.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from measure import report

from nas.export.plain_model import difference, plain
from nas.grammar import Grammar, Limits, sample
from nas.measure.runtime import RUNTIMES, onnx_bytes
from nas.network import Network

SPACES = {
    "mobile": (3, 32, 32),
    "fbnetv5-small": (3, 32, 32),
    "fbnetv5": (3, 64, 64),
    "vit": (1, 28, 28),
    "series": (3, 64),
    "tdnn-small": (40, 197),
    "mlp": (30, 1),
    "einspace": (3, 32, 32),
}
NETWORKS, BY_TORCH = 20, 2


def main() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = [row(space, input) for space, input in SPACES.items()]
    ratios = [row["ratio"] for row in rows]
    report(
        "written",
        __doc__,
        aim="equal to 1e-4 in every space, a hundred times sooner",
        figure=f"{statistics.median(r['ms'] for r in rows):.1f} ms a network (median of spaces), "
        f"{min(ratios):.0f} to {max(ratios):.0f} times sooner; largest difference "
        f"{max(r['difference'] for r in rows):.1g}",
        rows=rows,
        seeds=list(range(NETWORKS)),
    )


def row(space: str, input: tuple[int, ...]) -> dict[str, object]:
    networks = [network(space, input, seed) for seed in range(NETWORKS)]
    direct = [spent(lambda n=n: onnx_bytes(n.plan, n.tensors())) for n in networks]
    by_torch = [spent(lambda n=n: exported(n)) for n in networks[:BY_TORCH]]
    worst = max(map(gap, networks))
    ms, seconds = 1e3 * statistics.median(direct), statistics.mean(by_torch)
    return {
        "space": space,
        "operators": round(statistics.mean(len(n.plan.steps) for n in networks)),
        "ms": ms,
        "torch's exporter s": seconds,
        "ratio": seconds / ms * 1e3,
        "difference": worst,
    }


def network(space: str, input: tuple[int, ...], seed: int) -> Network:
    grammar = Grammar.load(space)
    limits = None if grammar.finite else Limits(128, params=1_000_000, flops=20_000_000)
    made = Network(sample(grammar, random.Random(seed), input=input, limits=limits)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in made.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
    return made


def spent(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def exported(network: Network) -> object:
    model, x = plain(network), torch.randn(2, *network.plan.input.dims)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return torch.onnx.export(model, (x,), dynamo=True, verbose=False, dynamic_shapes=shapes)


def gap(network: Network) -> float:
    forward = RUNTIMES["onnxruntime"].load(network.plan, network.tensors(), 1, "cpu")
    generator = torch.Generator().manual_seed(0)
    gaps = []
    for batch in (1, 5):
        x = torch.randn(batch, *network.plan.input.dims, generator=generator)
        with torch.inference_mode():
            gaps.append(difference(forward(x), network(x)))
    return max(gaps)


if __name__ == "__main__":
    main()
