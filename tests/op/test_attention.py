"""Elastic transformers: which weights of the bank a head, and a width, of a subnet is made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.grammar import Grammar, replay
from nas.op import Shape
from nas.plan import Plan, plan, run
from nas.supernet import Bank

SIZE = 5
INPUT = Shape.read("sequence:6x7")
SPACE = Grammar.parse(
    f"net = linear({{4, 6, 8}}) positional layernorm attention({{1, 2, 4}}, size={SIZE})"
)


def planned(width: int, heads: int) -> Plan:
    return plan(replay(SPACE, [f"out={width}", f"heads={heads}"], input=INPUT))


def one_head(x: Tensor, p: dict[str, Tensor], head: int) -> Tensor:
    """What one head of the bank's widest attention makes of the leading features alone."""
    rows, width = slice(head * SIZE, (head + 1) * SIZE), x.shape[-1]
    q, k, v = (x @ p[f"{name}.weight"][rows, :width].T for name in ("query", "key", "value"))
    mixed = torch.softmax(q @ k.mT / SIZE**0.5, dim=-1) @ v
    return mixed @ p["out.weight"][:width, rows].T


@pytest.mark.parametrize("width", [4, 6, 8])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_heads_of_a_subnet_are_the_first_heads_of_the_bank(width: int, heads: int) -> None:
    whole, narrow = planned(8, 4), planned(width, heads)
    bank = Bank.of([whole])
    torch.manual_seed(0)
    for tensors in bank.views(whole):
        for value in tensors.values():
            value.normal_()
    linear, positional, norm, attention = bank.views(whole)
    x = torch.randn(3, 6, 7)
    y = F.linear(x, linear["weight"][:width], linear["bias"][:width])
    y = y + positional["weight"][:, :width]
    y = F.layer_norm(y, (width,), norm["weight"][:width], norm["bias"][:width])
    wanted = sum(one_head(y, attention, head) for head in range(heads))
    found = run(narrow, bank.views(narrow), x)["coarse"]
    torch.testing.assert_close(found, wanted + attention["out.bias"][:width])
