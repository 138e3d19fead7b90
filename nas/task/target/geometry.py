"""Boxes as numbers: (…, 4) as left, top, right, bottom in shares of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = -1.0  # in place of a class: a row that is no box


def areas(boxes: Tensor) -> Tensor:
    """(…,) areas; 0 of what has none."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlaps(
    a: Tensor,  # (…, n, 4)
    b: Tensor,  # (…, m, 4)
) -> Tensor:  # (…, n, m)
    """Intersection over union of every pair."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (areas(a)[..., :, None] + areas(b)[..., None, :] - both).clamp(min=1e-12)


def generalised(
    a: Tensor,  # (n, 4)
    b: Tensor,  # (n, 4)
) -> Tensor:  # (n,)
    """Generalised intersection over union of pairs, from -1 to 1 (Rezatofighi et al. 2019)."""
    both = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    intersection, around = both.prod(-1), hull.clamp(min=0).prod(-1)
    union = areas(a) + areas(b) - intersection
    return intersection / union.clamp(min=1e-12) - (around - union) / around.clamp(min=1e-12)


def kept(
    boxes: Tensor,  # (n, k, 4), the best first
    classes: Tensor,  # (n, k)
    most: float,  # the overlap there may be
) -> Tensor:  # (n, k) bool
    """Which boxes stay where one that overlaps a better one of its class is dropped (non-maximum
    suppression), in each picture."""
    alike = classes[:, :, None] == classes[:, None, :]
    above = (overlaps(boxes, boxes) > most) & alike
    stays = torch.ones_like(classes, dtype=torch.bool)
    for i in range(boxes.shape[1] - 1):
        stays[:, i + 1 :] &= ~(above[:, i, i + 1 :] & stays[:, i, None])
    return stays


def mirrored(
    boxes: Tensor,  # (n, k, 5): class and box
) -> Tensor:
    """The same left to right."""
    left, right = 1 - boxes[..., 3], 1 - boxes[..., 1]
    return torch.stack([boxes[..., 0], left, boxes[..., 2], right, boxes[..., 4]], -1)


def moved_by(
    boxes: Tensor,  # (n, k, 5): class and box
    across: Tensor,  # (n, 1), to the right
    down: Tensor,  # (n, 1)
) -> Tensor:
    """Boxes moved, and cut at the picture's edges; of which nothing is left are none."""
    by = torch.stack([across, down, across, down], -1)
    places = (boxes[..., 1:] + by).clamp(0, 1)
    there = (boxes[..., 0] >= 0) & (areas(places) > 0)
    return torch.cat([torch.where(there, boxes[..., 0], NOTHING)[..., None], places], -1)
