"""Parameters and FLOPs by arithmetic equal torch's FlopCounterMode and come much faster.

From a derivation to both numbers: a new plan each time, first with what `nas.op.infer` remembers
cleared (cold), then kept (warm, as within a search). Beside it torch's counter, warm, one forward
pass of the network on the meta device, the network built beforehand. Bare convolutions are the
counter's best case: a norm takes it some milliseconds.
"""

from __future__ import annotations

import random

import torch
from measure import interleaved, ms, ratio, report
from torch.utils.flop_counter import FlopCounterMode

import nas.op.base
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.plan import plan

SEED, ROUNDS, INPUT = 0, 60, (3, 32, 32)
SPACES = {
    "30 bare convolutions": """
net = conv(16){10} conv(32, stride=2) conv(32){9} conv(64, stride=2) conv(64){9} output(coarse)
""",
    "30 convolutions": """
net = (conv(16) batchnorm relu){10} conv(32, stride=2) batchnorm relu
      (conv(32) batchnorm relu){9} conv(64, stride=2) batchnorm relu
      (conv(64) batchnorm relu){9} output(coarse)
""",
    "30 layers, convolutions and inverted residuals": """
net = (conv(16) batchnorm relu){5} mbconv(24, 2, 3, 4) mbconv(24, 1, 3, 4){11}
      mbconv(40, 2, 5, 4, se=4) mbconv(40, 1, 5, 4, se=4){12} output(coarse)
""",
    "30 layers, the last 6 attention": """
net = (conv(16) batchnorm relu){12} conv(32, stride=2) batchnorm relu
      mbconv(32, 1, 3, 4){11} tokens (layernorm attention(4)){6} output(coarse)
""",
}


def main() -> None:
    torch.set_num_threads(1)
    rows = [row(name, Grammar.parse(text, name="thirty")) for name, text in SPACES.items()]
    equal = all(r["equal"] == "yes" for r in rows)
    times = "; ".join(
        f"{r['network']} {r['warm ratio']:.0f} ({r['cold ratio']:.0f} cold)" for r in rows
    )
    report(
        "arithmetic",
        __doc__,
        aim="at least 20 times faster, and equal",
        rows=rows,
        seeds=[SEED],
        figure=f"{'equal' if equal else 'NOT equal'}; times faster, warm: {times}",
    )


def row(name: str, grammar: Grammar) -> dict[str, object]:
    """Both ways on one network: medians in milliseconds of CPU time, and their ratios."""
    derivation = sample(grammar, random.Random(SEED), input=INPUT)
    network = Network(derivation).eval().to("meta")
    x = torch.zeros((1, *INPUT), device="meta")

    def arithmetic() -> tuple[int, int]:
        found = plan(derivation)
        return found.params, found.flops

    def cold() -> tuple[int, int]:
        nas.op.base._infer.cache_clear()
        return arithmetic()

    def counter() -> tuple[int, int]:
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            network(x)
        return sum(p.numel() for p in network.parameters()), counted.get_total_flops()

    equal = cold() == arithmetic() == counter()
    for _ in range(3):
        counter()
    # Cold and warm apart: in one round the one would fill or empty what the other finds.
    chilled = interleaved({"arithmetic": cold, "torch": counter}, ROUNDS)
    warm = interleaved({"arithmetic": arithmetic, "torch": counter}, ROUNDS)
    params, flops = arithmetic()
    return {
        "network": name,
        "params": params,
        "flops": flops,
        "equal": "yes" if equal else "NO",
        "cold ms": ms(chilled["arithmetic"]),
        "warm ms": ms(warm["arithmetic"]),
        "torch ms": ms(warm["torch"]),
        "cold ratio": ratio(chilled["torch"], chilled["arithmetic"]),
        "warm ratio": ratio(warm["torch"], warm["arithmetic"]),
    }


if __name__ == "__main__":
    main()
