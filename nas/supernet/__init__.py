"""Weight sharing: a bank of shared tensors, subnets as slices of it, and who trains when."""

from __future__ import annotations

from nas.supernet.bank import Bank
from nas.supernet.chain import chain
from nas.supernet.inherit import Parent, inherit, trained
from nas.supernet.slots import BankError
from nas.supernet.space import Space
from nas.supernet.statistics import Statistics, batch_statistics
from nas.supernet.strategies import STRATEGIES, strategy_of
from nas.supernet.strategy import Strategy
from nas.supernet.subnet import Subnet

__all__ = [
    "STRATEGIES",
    "Bank",
    "BankError",
    "Parent",
    "Space",
    "Statistics",
    "Strategy",
    "Subnet",
    "batch_statistics",
    "chain",
    "inherit",
    "strategy_of",
    "trained",
]
