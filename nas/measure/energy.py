"""The energy of an inference, estimated from what is counted.

By Horowitz 2014, "Computing's energy problem (and what we can do about it)", ISSCC, figure 1.1.9 (a
45 nm process at 0.9 V): a multiplication and an addition of 32-bit floats take 3.7 and 0.9 pJ, of
8-bit integers with a 32-bit sum 0.2 and 0.1; 64 bits from a cache of 1 MB take 100 pJ, from DRAM
1,300 at least. It tells networks apart by what they compute and move; no device's battery is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.plan import Plan

MULTIPLY_ADD_PJ = {32: 3.7 + 0.9, 8: 0.2 + 0.1}  # by bits
CACHE_PJ, DRAM_PJ = 100 / 8, 1300 / 8  # a byte


def energy_uj(plan: Plan) -> float:
    """Microjoules for a batch of one: multiply-adds in their bits, weights read once from DRAM,
    activations written to a cache and read again."""
    bits = plan.precision.bits
    computed = plan.flops / 2 * MULTIPLY_ADD_PJ[bits]
    weights = plan.size_mb * 1e6 * DRAM_PJ
    activations = 2 * plan.activations * bits / 8 * CACHE_PJ
    return (computed + weights + activations) / 1e6
