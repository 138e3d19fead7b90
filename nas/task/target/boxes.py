"""Boxes around what is in a picture, each with a class: object detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np, torch
from nas.task.error import TaskError
from nas.task.target.average_precision import AveragePrecision
from nas.task.target.base import LOSS, Encoded, Head, Meter, Metric, Target, unique
from nas.task.target.geometry import NOTHING, areas, generalised, kept

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array

LAST = "depthwise(kernel=3) batchnorm relu pointwise(classes + 4, bias=1)"
HEAD = f"[pointwise(32); pointwise(32); pointwise(32)] upsample_add batchnorm relu {LAST}"
SELDOM = -4.6  # added to the logits of classes: most cells hold nothing (Lin et al. 2017, 4.1)
NEAR = 1.5  # cells from a box's middle within which a cell is asked for it
FOCUS, BALANCE = 2.0, 0.25  # γ and α of the focal loss
CANDIDATES, OVERLAP = 100, 0.6  # boxes of a picture that are looked at, and what NMS lets be
SURE = 0.5  # share from which a box that was found counts as an answer
MOST = 10_000  # classes
OUTSIDE = 1.0  # pixels by which a box may be beyond the picture: it is cut


class Boxes(Target):
    """y is (n, most, 5): class number, left, top, right and bottom in pixels; rows of class -1 are
    none. Encoded boxes are in shares of the picture.

    Logits are (n, classes + 4, rows, columns): for each cell of a grid how sure each class is, and
    how far the box's sides are, as logarithms in cells. Anchor-free, as FCOS (Tian et al. 2019,
    arXiv 1904.01355) on one level with centre sampling: cells near a box's middle are asked for it.
    """

    name = "boxes"
    y = "(n, most, 5) boxes: class, left, top, right, bottom in pixels, or a class of -1"
    metrics = (Metric("map"), LOSS, Metric("map50"))
    head = Head(("fine", "middle", "coarse"), HEAD, own=LAST)
    boxed, counted = True, "boxes"

    def recognises(self, y: Array) -> bool:
        return y.ndim == 3 and y.shape[2] == 5 and y.dtype.kind in "if"

    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        kinds = {split: y[..., 0] for split, y in ys.items()}
        most = max(float(np.max(k, initial=-1)) for k in kinds.values())
        if not classes and not most < MOST:
            raise TaskError(f"{where}: a box is of class {most:g}; classes are numbered from 0")
        classes = classes or tuple(map(str, range(max(0, int(most)) + 1)))
        unique(classes, where)
        longest = max(y.shape[1] for y in ys.values())
        encoded = {}
        for split, y in ys.items():
            wrong = (kinds[split] != np.round(kinds[split])) | (kinds[split] >= len(classes))
            if wrong.any():
                at = np.argwhere(wrong)[0].tolist()
                raise TaskError(
                    f"{where}, {split}: y{at} is of class {kinds[split][tuple(at)]}; there are "
                    f"{len(classes)}, numbered from 0, and -1 for no box"
                )
            padded = np.full((len(y), longest, 5), NOTHING, np.float32)
            padded[:, : y.shape[1]] = y
            encoded[split] = padded
        return Encoded(classes, encoded)

    def placed(
        self, ys: dict[str, Array], input: tuple[int, ...], classes: tuple[str, ...], where: str
    ) -> dict[str, Array]:
        if len(input) != 3:
            raise TaskError(f"{where}: boxes lie on pictures, and a sample of x is {list(input)}")
        if empty := [split for split, y in ys.items() if not (y[..., 0] >= 0).any()]:
            raise TaskError(f"{where}: {empty[0]} holds no box: nothing could be measured there")
        height, width = input[1:]
        ends = np.array([width, height, width, height], np.float32)
        return {s: _in_shares(y, ends, classes, f"{where}, {s}") for s, y in ys.items()}

    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        counts = np.bincount(y[..., 0][y[..., 0] >= 0].astype(int), minlength=len(classes))
        if not counts.all():
            raise TaskError(
                f"{where}: no box of train is of class {classes[int(counts.argmin())]!r}: leave "
                "the class out, or add pictures of it"
            )

    def logits(self, classes: int, input: tuple[int, ...]) -> tuple[int, ...]:
        return (classes + 4, -1, -1)

    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        """The focal loss of every cell's classes (Lin et al. 2017, arXiv 1708.02002), and 1 less
        the generalised overlap of the boxes of those that are asked for one; both a box's cell."""
        shares, boxes = _answers(logits)  # (n, cells, classes) logits, (n, cells, 4)
        wanted, owner = _asked_of(y, logits.shape[2:])
        asked = wanted >= 0
        there = F.one_hot(wanted.clamp(min=0), shares.shape[2]) * asked[..., None]
        sure = shares.sigmoid()
        missed = torch.where(there > 0, 1 - sure, sure)
        balance = torch.where(there > 0, BALANCE, 1 - BALANCE)
        crossed = F.binary_cross_entropy_with_logits(shares, there.float(), reduction="none")
        count = asked.sum().clamp(min=1)
        focal = (balance * missed**FOCUS * crossed).sum() / count
        return focal + (1 - generalised(boxes[asked], owner[asked])).sum() / count

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Of the classes, and of the sides where the teacher sees something."""
        count = logits.shape[1] - 4
        sure = (teacher[:, :count] + SELDOM).sigmoid()
        crossed = F.binary_cross_entropy_with_logits(
            logits[:, :count] + SELDOM, sure, reduction="none"
        )
        most = sure.amax(1, keepdim=True)
        sides = (most * (logits[:, count:] - teacher[:, count:]) ** 2).sum()
        return crossed.sum(1).mean() + sides / most.sum().clamp(min=1)

    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        meter = Found(self)
        meter.add(logits, y)
        return meter.score()

    def meter(self, units: Any = ()) -> Found:
        return Found(self)

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Any = ()) -> Any:
        shares, kinds, boxes = found(logits[None])
        return [
            {"class": classes[kind], "share": share, "box": box}
            for share, kind, box in zip(
                shares[0].tolist(), kinds[0].tolist(), boxes[0].tolist(), strict=True
            )
            if share > 0
        ]

    def answer(self, logits: Tensor, input: tuple[int, ...], units: Any = ()) -> Array:
        shares, kinds, boxes = found(logits)
        ends = boxes.new_tensor([input[2], input[1]] * 2)
        rows = torch.cat([kinds[..., None].float(), boxes * ends], -1)
        rows[shares < SURE] = NOTHING
        there: Array = rows.numpy()
        return there

    def occurring(self, y: Array, classes: int) -> list[int]:
        return [number for number in range(classes) if (y[..., 0] == number).any()]

    def words(self, shown: Any, most: int) -> str:
        return ", ".join(
            f"{entry['class']} {entry['share']:.1%} at "
            + " ".join(f"{side:.3f}" for side in entry["box"])
            for entry in shown[:most]
        )

    def prior(self, y: Tensor, classes: int) -> Tensor:
        kinds = y[..., 0][y[..., 0] >= 0].long()
        counts = torch.bincount(kinds, minlength=classes).double()
        return counts / counts.sum()

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Any:
        """A box around the whole picture, of each class as sure as it is frequent."""
        shares = prior.clamp(1e-6, 1 - 1e-6)
        sides = torch.full((4,), 0.5, dtype=prior.dtype).log()
        return torch.cat([torch.logit(shares) - SELDOM, sides])[:, None, None]


def _in_shares(y: Array, ends: Array, classes: tuple[str, ...], where: str) -> Array:
    """Boxes in shares of the picture. Raises TaskError for one outside it or without area."""
    there, boxes = y[..., 0] >= 0, y[..., 1:]
    cut = boxes.clip(0, ends)
    inside = (cut[..., 2:] > cut[..., :2]).all(-1)
    beyond = there & ~((np.abs(boxes - cut).max(-1) <= OUTSIDE) & inside)
    empty = there & ~((boxes[..., 2:] > boxes[..., :2]).all(-1))
    for wrong, why in ((empty, "has no area"), (beyond, "is outside the picture")):
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0].tolist())
            name, box = classes[int(y[at][0])], boxes[at].tolist()
            raise TaskError(
                f"{where}: box {at[1]} of sample {at[0]}, {name!r} at {box}, {why} of "
                f"{ends[:2].tolist()} (left, top, right, bottom): correct it or leave it out"
            )
    shares = np.where(there[..., None], cut / ends, 0.0)
    return np.concatenate([y[..., :1], shares], -1).astype(np.float32)


def _answers(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(n, cells, classes) logits of classes and (n, cells, 4) boxes."""
    rows, columns = logits.shape[2:]
    values = logits.flatten(2).transpose(1, 2)
    middle, size = _cells(rows, columns, logits)
    sides = values[..., -4:].clamp(max=8).exp() * size
    boxes = torch.cat([middle - sides[..., :2], middle + sides[..., 2:]], -1)
    return values[..., :-4] + SELDOM, boxes


def _cells(rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(cells, 2) the middles of a grid's cells, and (4,) their size."""
    down = (torch.arange(rows, device=like.device) + 0.5) / rows
    across = (torch.arange(columns, device=like.device) + 0.5) / columns
    middle = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).reshape(-1, 2)
    size = torch.tensor([1 / columns, 1 / rows] * 2, device=like.device)
    return middle.to(like.dtype), size.to(like.dtype)


def _asked_of(y: Tensor, grid: torch.Size) -> tuple[Tensor, Tensor]:
    """(n, cells) the class that each cell is asked for, -1 for none, and (n, cells, 4) its box: of
    several boxes whose middle is near the smallest."""
    rows, columns = grid
    middle, size = _cells(rows, columns, y)
    boxes, there = y[..., 1:], y[..., 0] >= 0  # (n, m, 4), (n, m)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    apart = (middle[None, :, None] - centre[:, None]).abs() / size[:2]  # (n, cells, m, 2)
    nearest = apart.amax(-1)
    inside = (middle[None, :, None] > boxes[:, None, :, :2]) & (
        middle[None, :, None] < boxes[:, None, :, 2:]
    )
    own = nearest.argmin(1, keepdim=True)  # a box without a cell inside takes the nearest
    closest = torch.zeros_like(nearest, dtype=torch.bool).scatter_(1, own, True)
    asked = ((nearest <= NEAR) & inside.all(-1) | closest) & there[:, None]
    area = torch.where(asked, areas(boxes)[:, None], float("inf"))
    least, which = area.min(-1)
    kinds = torch.where(least.isfinite(), y[..., 0].gather(1, which), NOTHING)
    return kinds.long(), boxes.gather(1, which[..., None].expand(-1, -1, 4))


def found(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes that a network sees: (n, k) shares, the surest first and 0 where there is none,
    (n, k) class numbers, (n, k, 4) boxes in shares of the picture."""
    shares, boxes = _answers(logits)
    cells, classes = shares.shape[1:]
    count = min(CANDIDATES, cells * classes)
    best, place = shares.sigmoid().flatten(1).topk(count)
    kinds, cell = place % classes, place // classes
    taken = boxes.gather(1, cell[..., None].expand(-1, -1, 4)).clamp(0, 1)
    stays = kept(taken, kinds, OVERLAP) & (areas(taken) > 0)
    return best * stays, kinds, taken


class Found(Meter):
    """Keeps the boxes that were found and those there are."""

    def __init__(self, target: Target):
        self.target, self.lost, self.count = target, 0.0, 0
        self.precision: AveragePrecision | None = None

    def add(self, logits: Tensor, y: Tensor) -> None:
        if self.precision is None:
            self.precision = AveragePrecision(logits.shape[1] - 4)
        self.lost += float(self.target.loss(logits, y, 0.0)) * len(y)
        self.count += len(y)
        shares, kinds, boxes = (part.cpu().numpy() for part in found(logits))
        self.precision.add(shares, kinds, boxes, y.cpu().numpy())

    def score(self) -> dict[str, float]:
        assert self.precision is not None, "a split holds a sample at least"
        return self.precision.score() | {LOSS.name: self.lost / self.count}
