"""What an architecture costs: one record a cost, exact ones by integer arithmetic over a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from nas.archive import Measurement
from nas.measure.energy import energy_uj

if TYPE_CHECKING:
    from nas.plan import Plan


@dataclass(frozen=True)
class Cost:
    """Something of which less is better, for a batch of one.

    `of` a plan it is exact; without it the cost is measured on a device, which its measurements
    name. A run that measures it on several devices has a column for each, `latency_ms@pi4`; the
    bare name is that of the run's own. `counted` is what it comes to by `nas.Limits`: so many
    units of its own are `per` of those, where numbers have 32 bits; what is `packed` is less where
    they have fewer.
    """

    name: str
    unit: str
    words: str  # in a table or a report
    source: str  # the evaluator that its measurements name
    of: Callable[[Plan], float] | None = None
    counted: str = ""
    per: float = 1.0
    packed: bool = False
    count: bool = False  # whether it is a whole number of things
    seldom: bool = False  # drawn only where it is asked for: another cost says the same


COUNTED = "arithmetic"  # what the measurements of exact costs name as their evaluator
CLOCK = "clock"  # and those of latencies
PROFILE = "profile"  # and those that are predicted for a device elsewhere
COSTS: dict[str, Cost] = {  # in the order of tables
    cost.name: cost
    for cost in (
        Cost("flops", "FLOPs", "FLOPs", COUNTED, attrgetter("flops"), "flops", count=True),
        Cost(
            "params",
            "parameters",
            "parameters",
            COUNTED,
            attrgetter("params"),
            "params",
            count=True,
        ),
        Cost("latency_ms", "ms", "latency", CLOCK),
        Cost("latency_wall_ms", "ms", "latency by the wall's clock", CLOCK, seldom=True),
        Cost(
            "activations",
            "numbers",
            "activations",
            COUNTED,
            attrgetter("activations"),
            "activations",
            count=True,
            seldom=True,
        ),
        Cost(
            "size_mb",
            "MB",
            "size",
            COUNTED,
            attrgetter("size_mb"),
            "params",
            1e6 / 4,  # parameters of 32 bits in a megabyte
            packed=True,
            seldom=True,
        ),
        Cost(
            "memory_kb",
            "kB",
            "memory of activations",
            COUNTED,
            attrgetter("memory_kb"),
            seldom=True,
        ),
        Cost("energy_uj", "µJ", "energy, estimated", COUNTED, energy_uj, seldom=True),
    )
}
MEANINGS = {  # of what their measurements name as evaluator
    COUNTED: "counted, not measured; a multiply-add is 2 FLOPs",
    CLOCK: "the time that nine of ten blocks of runs take at least; on one thread of a CPU "
    "that of the CPU. The spread is half the range of those of four rounds",
    PROFILE: "by a device's profile, predicted from networks that were timed there",
}


def costs(plan: Plan, task: str | None = None) -> list[Measurement]:
    """The exact costs of a plan, trunk and heads together; or of what a task takes of it."""
    plan = plan.only(task) if task else plan
    return [
        Measurement(cost.name, float(cost.of(plan)), cost.unit, task, evaluator=cost.source)
        for cost in COSTS.values()
        if cost.of is not None
    ]


def cost_columns(columns: Iterable[str]) -> list[str]:
    """Those of some columns that are costs, in the order of tables; of a cost on several devices
    the run's own first."""
    order = {cost: place for place, cost in enumerate(COSTS.values())}
    named = [(order[cost], name) for name in columns if (cost := cost_named(name)) is not None]
    return [name for _, name in sorted(named)]


def cost_named(column: str) -> Cost | None:
    """The cost that a column holds, on whatever device and of a network for whatever task; None
    where it holds none."""
    name = column.partition("@")[0]
    return next((c for c in COSTS.values() if name == c.name or name.endswith(f"_{c.name}")), None)
