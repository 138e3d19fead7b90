"""What tasks predict: one record a kind, each with its encoding, losses, metrics and head."""

from __future__ import annotations

from nas.task.target.base import POOLED_HEAD, Encoded, Head, Metric, Target
from nas.task.target.boxes import Boxes
from nas.task.target.labels import Labels
from nas.task.target.numbers import Numbers
from nas.task.target.pixels import DENSE_HEAD, Pixels
from nas.task.target.single import Class
from nas.task.target.speaker import Speaker
from nas.task.target.surface import Surface

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (Class(), Labels(), Pixels(), Boxes(), Numbers(), Surface(), Speaker())
}  # what y is, is asked in this order
METRICS: dict[str, Metric] = {
    metric.name: metric for target in TARGETS.values() for metric in target.metrics
}

__all__ = ["DENSE_HEAD", "METRICS", "POOLED_HEAD", "TARGETS", "Encoded", "Head", "Metric", "Target"]
