"""FBNetV5's two sizes: what their networks cost, and that they run as counted."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.grammar import Derivation, Grammar
from nas.grammar.count import extreme
from nas.grammar.derive import derive
from nas.network import Network
from nas.plan import plan
from nas.task import TARGETS, Head, Task

LARGE, SMALL = Grammar.load("fbnetv5"), Grammar.load("fbnetv5-small")
IMAGENET = (3, 224, 224)
LAST_LAYERS = "pointwise(1344) batchnorm hardswish pool linear(1984) hardswish linear(classes)"


def task(input: tuple[int, ...], classes: int, head: Head = TARGETS["class"].head) -> Task:
    return Task(
        "t",
        input,
        "class",
        tuple(map(str, range(classes))),
        head,
        "accuracy",
        "",
        "",
        "t",
        lambda: pytest.fail("a plan needs no data"),
    )


def largest(grammar: Grammar, input: tuple[int, ...], *, most: bool = True) -> Derivation:
    return extreme(grammar, input=input, largest=most)


def test_trunk_alone_is_fbnetv3_a() -> None:
    """Dai et al. 2021 publish 357 M multiply-adds and 8.6 M parameters. Their code pads two strided
    blocks less, so that the last grids are of 13 and 6, which comes to 355 M; here they are of 14
    and 7, since streams are halves of each other."""
    trunk = derive(LARGE, lambda site, options: 0, input=IMAGENET)
    assert {c.label for c in trunk.choices} == {"block(c,k,e,q)", "x0"}
    own = plan(trunk, heads=[task(IMAGENET, 1000, Head(("coarse",), LAST_LAYERS))])
    assert own.flops // 2 == 407_468_800
    assert own.params == 8_560_616
    assert 1.0 < own.flops / 2 / 0.36e9 < 1.15


def test_extremes_at_the_papers_scale_are_as_the_text_says() -> None:
    head = [task(IMAGENET, 1000)]
    macs = [plan(largest(LARGE, IMAGENET, most=m), heads=head).flops / 2 for m in (False, True)]
    assert [round(n / 1e9, 2) for n in macs] == [0.13, 0.80]


def test_largest_of_the_papers_scale_runs_on_meta_as_it_is_counted() -> None:
    network = Network(largest(LARGE, IMAGENET)).eval()
    assert sum(p.numel() for p in network.parameters()) == network.plan.params
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        results = network.to("meta")(torch.empty(1, *IMAGENET, device="meta"))
    assert counter.get_total_flops() == network.plan.flops
    assert {name: tuple(y.shape[1:]) for name, y in results.items()} == {
        "p4": (24, 56, 56),
        "fine": (24, 56, 56),
        "p8": (40, 28, 28),
        "middle": (40, 28, 28),
        "p16": (120, 14, 14),
        "p32": (224, 7, 7),
        "coarse": (224, 7, 7),
    }


@pytest.mark.parametrize("input", [(1, 14, 14), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_small_networks_differ_ten_times_and_more_in_cost(input: tuple[int, ...]) -> None:
    head = [task(input, 10)]
    low, high = (plan(largest(SMALL, input, most=m), heads=head).flops for m in (False, True))
    assert high > 14 * low
    assert input != (1, 14, 14) or 2e6 < high / 2 < 4e6


@pytest.mark.parametrize("side", [8, 9, 14, 15, 28, 31, 48])
def test_small_networks_take_odd_sizes_with_every_fusion(side: int) -> None:
    network = Network(largest(SMALL, (1, side, side + 3))).eval()
    sums = [step for step in network.plan.steps if step.operator.name == "upsample_add"]
    assert len(sums) == 2 + 3 + 3 + 4
    with torch.no_grad():
        results = network(torch.randn(2, 1, side, side + 3))
    assert {name: tuple(y.shape[1:]) for name, y in results.items()} == {
        name: shape.dims for name, shape in network.plan.output_shapes().items()
    }
