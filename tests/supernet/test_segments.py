"""What reads joined streams of elastic widths: a segment of its slot for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nas.grammar import Derivation, Grammar, derive
from nas.grammar.count import cover, enumerate_all, extreme
from nas.network import Network
from nas.plan import Plan, plan, run
from nas.supernet import Bank
from nas.supernet.bank_file import begin_bank, save_bank
from nas.supernet.nested import nest
from nas.train import Recipe, update

JOINED = Grammar.parse(
    """
net = clone(2) [conv({4, 8}) batchnorm; conv({2, 6})] concat batchnorm relu depthwise
      squeeze_excite(inner=3) flatten linear(5) output(coarse)
"""
)
INPUT = (3, 2, 2)
CHANNELS = [*range(4), *range(8, 10)]  # of the smallest network in the largest
FEATURES = [4 * channel + place for channel in CHANNELS for place in range(4)]
READ = {  # by operator and parameter: along which axis those channels or features lie
    ("depthwise", "weight"): (0, CHANNELS),
    ("squeeze_excite", "reduce.weight"): (1, CHANNELS),
    ("squeeze_excite", "expand.weight"): (0, CHANNELS),
    ("squeeze_excite", "expand.bias"): (0, CHANNELS),
    ("linear", "weight"): (1, FEATURES),
}


def bank_of(grammar: Grammar) -> Bank:
    return Bank.of([plan(d) for d in cover(grammar, input=INPUT)])


def end(largest: bool) -> Plan:
    return plan(extreme(JOINED, input=INPUT, of="params", largest=largest))


def test_a_narrow_network_reads_the_first_of_each_stream() -> None:
    whole, narrow, bank, checked = end(True), end(False), bank_of(JOINED), 0
    views = zip(narrow.steps, bank.views(whole), bank.views(narrow), strict=True)
    for step, theirs, own in views:
        for name, view in own.items():
            if (step.operator.name, name) in READ:
                axis, places = READ[step.operator.name, name]
                wanted = theirs[name].index_select(axis, torch.tensor(places))
                assert torch.equal(view, wanted)
                checked += 1
    assert checked == len(READ)


def test_the_largest_network_is_no_copy() -> None:
    whole, bank = end(True), bank_of(JOINED)
    for step, views in zip(whole.steps, bank.views(whole), strict=True):
        for name, view in views.items():
            assert view.data_ptr() == bank.tensors[f"{step.slot}.{name}"].data_ptr()


def test_what_a_network_computes_is_what_its_extracted_one_does() -> None:
    bank, x = bank_of(JOINED), torch.randn(3, *INPUT)
    for derivation in enumerate_all(JOINED, input=INPUT):
        planned = plan(derivation)
        network = Network(derivation).eval()
        with torch.no_grad():
            for tensors, views in zip(network.tensors(), bank.views(planned), strict=True):
                for name, view in views.items():
                    tensors[name].copy_(view)
            statistics = [
                {name: tensors[name] for name in step.operator.statistics}
                for step, tensors in zip(planned.steps, network.tensors(), strict=True)
            ]
            params = [{**v, **s} for v, s in zip(bank.views(planned), statistics, strict=True)]
            torch.testing.assert_close(network(x), run(planned, params, x))


def test_a_step_leaves_everything_outside_its_segments_bit_identical() -> None:
    narrow, bank = end(False), bank_of(JOINED)
    before = {key: tensor.clone() for key, tensor in bank.tensors.items()}
    lease = bank.lease([narrow])
    (params,) = lease.params
    run(narrow, params, torch.randn(4, *INPUT))["coarse"].square().sum().backward()
    update(lease, Recipe(weight_decay=0.1, clip=0), 0.1)
    for step in narrow.steps:
        for param in step.params:
            key = f"{step.slot}.{param.name}"
            moved = (bank.tensors[key] != before[key]).nonzero()
            axis, places = READ.get((step.operator.name, param.name), (0, None))
            if places is not None and len(moved):
                assert set(moved[:, axis].tolist()) <= set(places)
    key = next(key for key in before if "linear" in key and key.endswith("weight"))
    changed = (bank.tensors[key] != before[key]).any(0).nonzero().flatten().tolist()
    assert changed == FEATURES


def test_a_network_fills_the_places_that_it_reads() -> None:
    narrow, bank = end(False), bank_of(JOINED)
    values = [{k: torch.randn_like(v) for k, v in views.items()} for views in bank.views(narrow)]
    bank.fill(narrow, values)
    for theirs, own in zip(values, bank.views(narrow), strict=True):
        for name, view in own.items():
            assert torch.equal(view, theirs[name])


def test_a_nested_beginning_reads_each_stream_s_first() -> None:
    bank, plans = bank_of(JOINED), [plan(d) for d in cover(JOINED, input=INPUT)]
    nest(bank, plans, [end(False)])
    key = next(key for key in bank.tensors if "linear" in key and key.endswith("weight"))
    assert bank.tensors[key].any(0).nonzero().flatten().tolist() == FEATURES


def test_a_place_that_joins_now_more_and_now_fewer_streams_reads_what_it_did() -> None:
    net = "net = clone(2) [a; conv(4)] concat conv(3) output(coarse)"
    grammar = Grammar.parse(f"{net}\na = conv(4) | clone(2) [conv(2); conv(2)] concat")
    plans = [plan(chosen(grammar, i)) for i in (0, 1)]
    bank = Bank.of(plans)
    (slot,) = (key for key, param in bank.params.items() if param.shape[:2] == (3, 8))
    assert bank.params[slot].segments == ()
    for planned in plans:
        assert bank.views(planned)[-1]["weight"].data_ptr() == bank.tensors[slot].data_ptr()


def chosen(grammar: Grammar, index: int) -> Derivation:
    def choose(site: Any, options: Any) -> int:
        return index

    return derive(grammar, choose, input=INPUT)


def test_streams_whose_widths_hang_on_each_other_are_read_as_before() -> None:
    """Banks of such spaces that were kept go on: no slot is larger than its largest parameter."""
    rules = "block(c) = clone(2) [conv(c); conv(8 - c)] concat"
    bank = bank_of(Grammar.parse(f"net = block({{2, 4, 6}}) conv(4) output(coarse)\n{rules}"))
    (slot,) = (
        param for param in bank.params.values() if param.shape[0] == 4 and param.shape[1] > 3
    )
    assert slot.shape == (4, 8, 3, 3) and slot.segments == ()


def test_a_bank_begins_with_the_segments_of_another(tmp_path: Path) -> None:
    text = "net = clone(2) [conv({0}); conv({{4, 8}})] concat conv(4, kernel=1) output(coarse)"
    wide, narrow = (bank_of(Grammar.parse(text.format(first))) for first in ("{4, 8}", "4"))
    (key,) = (key for key, param in wide.params.items() if param.shape[1:] == (16, 1, 1))
    with torch.no_grad():
        wide.tensors[key].copy_(torch.arange(16.0).reshape(1, 16, 1, 1).expand(4, -1, -1, -1))
    save_bank(wide, tmp_path / "bank.safetensors")
    begin_bank(narrow, tmp_path / "bank.safetensors")
    assert narrow.tensors[key][0].flatten().tolist() == [*range(4), *range(8, 16)]
    begin_bank(wide, tmp_path / "bank.safetensors")
    assert wide.tensors[key][0].flatten().tolist() == [*range(16)]
