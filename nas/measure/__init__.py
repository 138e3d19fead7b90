"""What an architecture costs: by arithmetic, and by the clock."""

from __future__ import annotations

from nas.measure.cost import COSTS, Cost, cost_columns, cost_named, costs

__all__ = ["COSTS", "Cost", "cost_columns", "cost_named", "costs"]
