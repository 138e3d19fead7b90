"""Average precision of detections, as COCO counts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.lazy import np, torch
from nas.task.target.geometry import overlaps

if TYPE_CHECKING:
    from nas.task.samples import Array

RECALLS, OVERLAPS = 101, 10  # recalls from 0 to 1; overlaps from 0.5 to 0.95


class AveragePrecision:
    """Mean over classes of the area under precision by recall, at 101 recalls; `map` is also the
    mean over overlaps of 0.5 to 0.95, and `map50` that at 0.5 (COCO's AP and AP50; Lin et al. 2014,
    arXiv 1405.0312). What it comes to is what pycocotools says of the same boxes.

    In a picture detections, the surest first, each take the box of their class that they overlap
    most, if it is not taken and the overlap is enough.
    """

    def __init__(self, classes: int):
        self.classes = classes
        self.overlaps = np.linspace(0.5, 0.95, OVERLAPS)
        self.there = np.zeros(classes, dtype=np.int64)
        self.found = list[tuple[Any, Any, Any]]()  # shares, kinds, (found, overlaps) right

    def add(
        self,
        shares: Array,  # (n, k), 0 for what is no detection
        kinds: Array,  # (n, k)
        boxes: Array,  # (n, k, 4)
        y: Array,  # (n, m, 5)
    ) -> None:
        """The detections of some pictures, the surest first, and the boxes there are."""
        for picture in range(len(y)):
            seen = shares[picture] > 0
            truth = y[picture][y[picture, :, 0] >= 0]
            self.there += np.bincount(truth[:, 0].astype(int), minlength=self.classes)
            own = kinds[picture][seen]
            right = self._matched(own, boxes[picture][seen], truth)
            self.found.append((shares[picture][seen], own, right))

    def _matched(self, kinds: Array, boxes: Array, truth: Array) -> Array:
        """(detections, overlaps) bool: which take a box."""
        right = np.zeros((len(kinds), OVERLAPS), dtype=bool)
        if not len(truth):
            return right
        pair = (torch.from_numpy(some).double() for some in (boxes, truth[:, 1:]))
        overlap = overlaps(*pair).numpy()
        overlap[kinds[:, None] != truth[None, :, 0]] = -1
        for at, least in enumerate(self.overlaps):
            free = np.ones(len(truth), dtype=bool)
            for i in np.flatnonzero(overlap.max(1) >= min(least, 1 - 1e-10)):
                able = np.where(free, overlap[i], -1)
                best = len(able) - 1 - int(able[::-1].argmax())  # the last of those alike
                if able[best] >= min(least, 1 - 1e-10):
                    right[i, at], free[best] = True, False
        return right

    def score(self) -> dict[str, float]:
        shares, kinds, right = (np.concatenate(parts) for parts in zip(*self.found, strict=True))
        order = np.argsort(-shares, kind="stable")
        kinds, right = kinds[order], right[order]
        known = np.flatnonzero(self.there)
        if not len(known):
            return {"map": float("nan"), "map50": float("nan")}
        precisions = np.array([self._areas(right[kinds == k], self.there[k]) for k in known])
        return {"map": float(precisions.mean()), "map50": float(precisions[:, 0].mean())}

    def _areas(self, right: Array, there: int) -> Array:
        """(overlaps,) the mean precision at 101 recalls, of one class."""
        hits = right.cumsum(0)
        recall = hits / there
        precision = hits / np.arange(1, len(right) + 1)[:, None]
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        wanted = np.linspace(0, 1, RECALLS)
        areas = np.zeros(OVERLAPS)
        for at in range(OVERLAPS):
            place = np.searchsorted(recall[:, at], wanted, side="left")
            inside = place < len(precision)
            areas[at] = precision[place[inside], at].sum() / RECALLS
        return areas
