"""Who speaks: embeddings that tell speakers apart, those of training and others."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi, sin
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np, torch
from nas.task.cut import SEED, TEST, VALID, cut
from nas.task.error import TaskError
from nas.task.target.base import (
    NLL,
    Collected,
    Encoded,
    Head,
    Metric,
    Target,
    agreement,
    by_share,
    categorical_distance,
    possible,
    shares,
)
from nas.task.target.verification import equal_error_rate, error_rates, least_cost

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array, Units

EMBEDDING = 192  # features of an embedding
SCALE, MARGIN = 30.0, 0.2  # of cosines, and the angle by which the right one must lead
HEAD = f"pool linear({EMBEDDING}) batchnorm clone(2) [identity; cosine(classes)] concat"
FEWEST = 2  # recordings of a speaker in train, and speakers in each part
COMPARED = 4000  # recordings of a split at most that are compared with each other


class Speaker(Target):
    """y is (n,) speakers or (n, 1 + k): the speaker, and numbers of recordings of the same split
    that it is compared with, -1 for none. Encoded, speakers of train come first; others, from the
    number of classes on, are held out: of these embeddings are compared.

    Logits are (n, 192 + speakers of train): an embedding, then its cosines with the speakers of
    train, scaled. What is lost is their cross entropy where the right one must lead by an angle
    (AAM-softmax, Deng et al. 2019, arXiv 1801.07698, equation 3).
    """

    name = "speaker"
    y = "(n,) speakers, as whole numbers or strings, or (n, 1 + k) with what each is compared with"
    metrics = (
        Metric("eer", "fraction", larger_is_better=False),
        NLL,
        Metric("min_dcf", "", larger_is_better=False),
        Metric("accuracy"),
    )
    head = Head(("coarse",), HEAD)
    holds_out = True

    def recognises(self, y: Array) -> bool:
        return y.ndim <= 2 and y.dtype.kind in "iuU"

    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        speakers = {split: _speakers(y).astype(str) for split, y in ys.items()}
        known = sorted(set(speakers["train"].tolist()))
        apart = held_out(len(known), [s for s in ("valid", "test") if s not in ys], where)
        shuffled = np.random.default_rng(SEED).permutation(known).tolist()
        learned = sorted(shuffled[sum(apart) :])
        if classes and sorted(classes) != learned:
            raise TaskError(
                f"{where}: classes are the speakers that are trained on, {len(learned)} of "
                f"{len(known)} here; leave them out of the definition"
            )
        others = [name for split in ys for name in sorted(set(speakers[split]) - set(known))]
        names = [*learned, *shuffled[: sum(apart)], *dict.fromkeys(others)]
        number = {name: i for i, name in enumerate(names)}
        encoded = {}
        for split, y in ys.items():
            column = np.array([number[name] for name in speakers[split].tolist()], np.int32)
            rest = _compared(y, where) if y.ndim == 2 else np.zeros((len(y), 0), np.int32)
            encoded[split] = np.concatenate([column[:, None], rest], 1)
        widest = max(y.shape[1] for y in encoded.values())
        padded = {
            split: np.pad(y, ((0, 0), (0, widest - y.shape[1])), constant_values=-1)
            for split, y in encoded.items()
        }
        return Encoded(tuple(learned), padded, _notes(encoded, learned, apart))

    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        counts = np.bincount(y[:, 0][y[:, 0] < len(classes)], minlength=len(classes))
        if counts.min() < FEWEST:
            raise TaskError(
                f"{where}: speaker {classes[int(counts.argmin())]!r} has {counts.min()} "
                f"recordings in train; each needs {FEWEST} or more: add some, or leave it out"
            )

    def cut(
        self, y: Array, classes: int, shares: Mapping[str, float], where: str
    ) -> tuple[dict[str, Array], str]:
        if (y[:, 1:] >= 0).any():
            raise TaskError(
                f"{where}: what is compared is numbered within a split, and train is to be cut: "
                "give valid and test"
            )
        speaker = y[:, 0]
        known = np.flatnonzero(speaker < classes)
        test, valid = shares.get("test", 0), shares.get("valid", 0)
        parts = {s: known[at] for s, at in cut(speaker[known], test, valid, where).items()}
        missing = [split for split in ("valid", "test") if shares.get(split)]
        first = classes
        counts = held_out(int(speaker.max()) + 1, missing, where)
        for split, count in zip(missing, counts, strict=True):
            apart = np.flatnonzero((speaker >= first) & (speaker < first + count))
            parts[split] = np.concatenate([parts[split], apart])
            first += count
        return parts, "speakers held out, and of the others recordings"

    def settled(self, ys: Mapping[str, Array], classes: int, where: str) -> None:
        _check_pairs(ys, classes, where)

    def logits(self, classes: int, input: tuple[int, ...]) -> tuple[int, ...]:
        return (EMBEDDING + classes,)

    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        scaled = logits[:, EMBEDDING:].float()
        y = y[:, 0]
        cosine = (scaled / SCALE).gather(1, y[:, None]).clamp(-1, 1)
        sine = (1 - cosine.square()).clamp(min=1e-8).sqrt()
        leading = torch.where(
            cosine > -cos(MARGIN),
            cosine * cos(MARGIN) - sine * sin(MARGIN),
            cosine - MARGIN * sin(pi - MARGIN),  # beyond that the angle would turn round
        )
        led = scaled.scatter(1, y[:, None], SCALE * leading)
        return F.cross_entropy(led, y, label_smoothing=label_smoothing)

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """The divergence of what is said of the speakers, and one less the embeddings' cosine."""
        apart = 1 - F.cosine_similarity(logits[:, :EMBEDDING], teacher[:, :EMBEDDING]).mean()
        return categorical_distance(logits[:, EMBEDDING:], teacher[:, EMBEDDING:]) + apart

    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        classes, speaker = logits.shape[1] - EMBEDDING, y[:, 0].numpy()
        first, second = pairs(y.numpy(), classes)
        alike = cosines(F.normalize(logits[:, :EMBEDDING].double()).numpy(), first, second)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = error_rates(alike, speaker[first] == speaker[second])
        figures = {"eer": equal_error_rate(*rates), "min_dcf": least_cost(*rates)}
        known = y[:, 0] < classes  # of other speakers there is no right answer
        if known.any():
            said = logits[:, EMBEDDING:].argmax(1)
            figures["accuracy"] = agreement(said[known], y[known, 0])
        return figures

    def meter(self, units: Units = ()) -> Collected:
        return Compared(self)

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Units = ()) -> Any:
        """How alike the speakers of train are, as cosines: whoever speaks may be none of them."""
        return by_share(logits[EMBEDDING:] / SCALE, classes)

    def answer(self, logits: Tensor, input: tuple[int, ...], units: Units = ()) -> Array:
        numbers: Array = logits[:, EMBEDDING:].argmax(1).numpy()
        return numbers

    def words(self, shown: Any, most: int) -> str:
        return ", ".join(f"{name} {cosine:.2f}" for name, cosine in list(shown.items())[:most])

    def prior(self, y: Tensor, classes: int) -> Tensor:
        return shares(y[:, 0], classes)

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Tensor:
        return torch.cat([torch.zeros(EMBEDDING), possible(prior).log().float()])


class Compared(Collected):
    """Errors of verification, and the likelihood of those that are speakers of train."""

    def score(self) -> dict[str, float]:
        logits, y = torch.cat(self.logits), torch.cat(self.ys)
        speakers, figures = logits[:, EMBEDDING:].float(), self.target.score(logits, y)
        known = y[:, 0] < speakers.shape[1]
        if known.any():
            figures["nll"] = float(F.cross_entropy(speakers[known], y[known, 0]))
        return figures


def cosines(embedded: Array, first: Array, second: Array) -> Array:
    """(pairs,) of embeddings (n, 192) of length 1: of few that are compared those of each two, of
    many some pairs at a time."""
    compared = np.zeros(len(embedded), bool)
    compared[first] = compared[second] = True
    if compared.sum() <= COMPARED < len(first):
        place, own = np.cumsum(compared) - 1, embedded[compared]
        every: Array = (own @ own.T)[place[first], place[second]]
        return every
    starts = range(0, len(first), COMPARED)
    spans = [slice(start, start + COMPARED) for start in starts]
    parts = [(embedded[first[s]] * embedded[second[s]]).sum(1) for s in spans]
    return np.concatenate(parts or [np.zeros(0)])


def held_out(speakers: int, missing: list[str], where: str) -> list[int]:
    """How many of so many speakers are left to each split that is missing."""
    counts, left = list[int](), speakers
    for split, share in (("test", TEST), ("valid", VALID)):
        if split in missing:
            counts.insert(0, max(FEWEST, round(share * left)))
            left -= counts[0]
    if left < FEWEST:
        raise TaskError(
            f"{where}: {speakers} speakers; {FEWEST} at least are learned and {FEWEST} held out "
            f"for {' and '.join(missing) or 'each split'}: add speakers"
        )
    return counts


def pairs(y: Array, classes: int) -> tuple[Array, Array]:
    """The numbers of what is compared: as y says, or each two recordings of speakers that are held
    out, or of all where none are."""
    if (y[:, 1:] >= 0).any():
        first, column = np.nonzero(y[:, 1:] >= 0)
        return first, y[first, column + 1]
    at = np.flatnonzero(y[:, 0] >= classes)
    at = at if len(at) else np.arange(len(y))
    if len(at) > COMPARED:
        at = np.random.default_rng(SEED).permutation(at)[:COMPARED]
    first, second = np.triu_indices(len(at), 1)
    return at[first], at[second]


def _speakers(y: Array) -> Array:
    return y if y.ndim == 1 else y[:, 0]


def _compared(y: Array, where: str) -> Array:
    """The numbers behind each speaker; "" and -1 are none."""
    text = y[:, 1:].astype(str)
    try:
        numbers = np.where(text == "", "-1", text).astype(np.int64)
    except (ValueError, OverflowError):
        raise TaskError(f"{where}: what y is compared with are numbers of samples") from None
    if (numbers >= len(y)).any() or (numbers < -1).any():
        wrong = int(numbers.max() if (numbers >= len(y)).any() else numbers.min())
        raise TaskError(f"{where}: y compares with sample {wrong}, and there are {len(y)}")
    return numbers.astype(np.int32)


def _check_pairs(encoded: Mapping[str, Array], classes: int, where: str) -> None:
    """Raise TaskError where a split has no pair of one speaker to compare, or none of two."""
    for split in set(encoded) - {"train"}:
        y = encoded[split]
        first, second = pairs(y, classes)
        same = y[first, 0] == y[second, 0]
        if not same.any() or same.all():
            which = "one speaker" if not same.any() else "two speakers"
            raise TaskError(
                f"{where}, {split}: there is no pair of recordings of {which} to compare: give "
                "two or more speakers, one of them with two recordings at least"
            )


def _notes(encoded: Mapping[str, Array], learned: list[str], apart: list[int]) -> tuple[str, ...]:
    notes = [f"{sum(apart)} speakers are held out of train"] if apart else []
    for split in [s for s in ("valid", "test") if s in encoded]:
        if not (encoded[split][:, 0] >= len(learned)).any():
            notes.append(f"{split} has speakers of train alone: others would tell more")
    return tuple(notes)
