"""Weight sharing: a bank of shared tensors, subnets as slices of it, and who trains when."""

from __future__ import annotations

from nas.supernet.bank import Bank, BankError
from nas.supernet.calibrate import Statistics, calibrate
from nas.supernet.inherit import Parent, inherit, trained
from nas.supernet.strategies import STRATEGIES, sandwich, single_path
from nas.supernet.subnet import Subnet

__all__ = [
    "STRATEGIES", "Bank", "BankError", "Parent", "Statistics", "Subnet", "calibrate", "inherit",
    "sandwich", "single_path", "trained",
]  # fmt: skip
