"""A nested beginning: before training, subnets compute what the smallest inside them does.

Slices of a random tensor are maps that have little to do with each other: the sum over 8 of 32
random channels tells half of the sum over all. So a step that teaches one subnet unteaches others,
until what they share has been sorted out. Here what only larger subnets read begins at zero, as
Net2Net's wider and deeper networks do (Chen et al. 2016, section 2); it learns at once, since what
it reads is not zero. Blocks with a skip connection begin as that alone (Goyal et al. 2017, section
5.1; for supernets BigNAS, Yu et al. 2020, section 3.2), so that depth changes nothing either.
What remains are choices that change what is done: another resolution, a skip connection that only
some widths allow, a layer norm over an elastic width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from nas.op import Param
from nas.plan import Plan
from nas.plan.initial import initial
from nas.supernet.bank import Bank
from nas.supernet.slots import boxes, largest, named, smallest


def nest(bank: Bank, plans: Sequence[Plan], least: Iterable[Plan]) -> None:
    """Give an untrained bank a nested beginning.

    plans: those that the bank was made of; least: some among which is the smallest of each slot's.
    Where several steps of a plan share a slot, it reads the largest of their slices.
    """
    reads = [largest(pair for step in named(plan, bank.share) for pair in step) for plan in least]
    ends = _ends(plans, bank.share)
    for key, inner in smallest(
        (param, key) for read in reads for key, param in read.items()
    ).items():
        if key in ends:
            bank.tensors[key].zero_()
        elif inner.init == "fan_in" and inner.shape != bank.params[key].shape:
            _shrink(bank, key, inner)


def _shrink(bank: Bank, key: str, inner: Param) -> None:
    """Begin a weight as that of the smallest subnet: of every output only the inputs and the
    middle of the kernel that all subnets read."""
    whole = bank.params[key]
    read, _ = boxes(inner._replace(shape=(whole.shape[0], *inner.shape[1:])), whole)
    value = initial(whole._replace(fan_in=inner.fan_in), key, bank.seed)
    tensor = bank.tensors[key]
    tensor.zero_()
    for box in read:
        tensor[box] = value[box].to(tensor.device)


def _ends(plans: Iterable[Plan], share: str) -> set[str]:
    """The slots that do nothing else than end a branch beside a skip connection: of a norm its
    scale, of a map its weight. With those at zero such a block hands on what enters it."""
    ends, others = set[str](), set[str]()
    for plan in plans:
        added = _added(plan)
        for number, step in enumerate(named(plan, share)):
            (ends if number in added else others).update(_scales(step))
    return ends - others


def _scales(step: Sequence[tuple[Param, str]]) -> list[str]:
    """The slot that scales all that a step gives: a norm's scale, or the last weight."""
    for init in ("ones", "fan_in"):
        slots = [key for param, key in step if param.init == init]
        if slots:
            return slots[-1:]
    return []


def _added(plan: Plan) -> set[int]:
    """The numbers of the steps whose result goes into a sum alone, beside what has no parameters
    or is read elsewhere too: a skip connection."""
    maker = {value: i for i, step in enumerate(plan.steps) for value in step.outputs}
    read = Counter([*(v for step in plan.steps for v in step.inputs), *plan.outputs.values()])
    numbers = set[int]()
    for step in plan.steps:
        if step.operator.sums:
            branches = {
                maker[value]
                for value in step.inputs
                if read[value] == 1 and value in maker and plan.steps[maker[value]].params
            }
            numbers |= branches if len(branches) < len(step.inputs) else set()
    return numbers
