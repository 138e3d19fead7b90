"""What an architecture costs: by arithmetic, and by the clock."""

from __future__ import annotations

from nas.measure.cost import costs
from nas.measure.latency import latency

__all__ = ["costs", "latency"]
