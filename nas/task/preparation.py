"""What is done to samples before a network takes them, and samples that are prepared when asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

from nas.lazy import np, torch
from nas.task.decode import Picture
from nas.task.enlarge import Enlarged
from nas.task.sound import Sound
from nas.task.spectrum import Spectrum
from nas.task.table import Table

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Array = npt.NDArray[Any]
    Device = torch.device | str

BYTES = 255.0  # the scale of samples that are bytes
CHUNK = 2**22  # values of an array that are worked on at a time
KEPT = 2**28  # bytes: what is prepared of a split is kept whole up to here
ON_DEVICE = 2**32  # bytes of samples as found that are kept on an accelerator
COUNTED = 64  # channels at most, of which each byte is counted
DIRECT = ("uint8", "int8", "int16", "int32", "float16", "float32")  # what torch casts as numpy does


@dataclass(frozen=True)
class Preparation:
    """What is done to a sample before a network takes it; it travels with the network.

    A file becomes numbers as a `picture`, where samples are pictures, as a `table` or as a `sound`.
    Arrays are read by their `layout` as (n, channels, ...). Numbers are divided by `scale`, a
    waveform becomes its `spectrum`; then each channel loses its `mean` and is divided by its
    `deviation`, those of the training split. Last pictures are `enlarged`, where other tasks of a
    run have larger ones.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    picture: Picture | None = None
    layout: str = ""
    table: Table | None = None
    enlarged: Enlarged | None = None
    sound: Sound | None = None
    spectrum: Spectrum | None = None

    @property
    def reshaped(self) -> Enlarged | Spectrum | None:
        """What gives samples another shape than they are found in."""
        return self.enlarged or self.spectrum

    @property
    def numbers(self) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
        """Scale, mean and deviation: all that numbers become others by."""
        return self.scale, self.mean, self.deviation

    def fault(self, input: tuple[int, ...]) -> str:
        """Why samples of a shape cannot be prepared so; "" where they can."""
        scale, mean, deviation = self.numbers
        if len(mean) != len(deviation) or (mean and len(mean) != input[0]):
            return f"{len(mean)} means and {len(deviation)} deviations for {input[0]} channels"
        if not all(map(isfinite, (scale, *mean, *deviation))) or min((scale, *deviation)) <= 0:
            return "a scale, mean or deviation that is no number or not above 0"
        if self.enlarged and self.spectrum:
            return "a spectrum that is enlarged; pictures alone are"
        changed = self.reshaped
        if changed and (fault := changed.fault or (changed.to != input and "another")):
            return f"{changed.found} as {changed.to} for an input of {input} ({fault})"
        picture, sound, found = self.picture, self.sound, self.found(input)
        if picture and (len(picture.mode) or 1, picture.height, picture.width) != found:
            return f"pictures as {picture} for an input of {found}"
        if sound and (sound.fault or found != (1, sound.samples)):
            return f"{sound} for an input of {found} ({sound.fault or 'another'})"
        if self.table and self.table.size != input[0]:
            return f"a table of {self.table.size} numbers a row for {input[0]} channels"
        return ""

    def found(self, input: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a sample as it is found, where a network's input has this."""
        return self.reshaped.found if self.reshaped else input

    def __call__(self, x: Tensor) -> Tensor:
        """x (n, channels, ...) of any real type, as a network takes it: float32."""
        x = x.to(torch.float32, copy=True)  # of its own, so that it may be worked on in place
        if self.scale != 1:
            x /= self.scale
        if self.reshaped:
            x = self.reshaped.before(x)
        if self.mean:
            mean, deviation = self._moments(x)
            x -= mean
            x /= deviation
        return self.reshaped.after(x) if self.reshaped else x

    def undone(self, x: Tensor) -> Tensor:
        """Prepared samples (n, channels, ...) as they were found, in float32, bytes as shares of
        255; of a preparation that gives them no other shape."""
        if self.mean:
            mean, deviation = self._moments(x)
            x = x * deviation + mean
        return x if self.scale in (1, BYTES) else x * self.scale

    def _moments(self, x: Tensor) -> list[Tensor]:
        """Mean and deviation, to be taken with x."""
        across = (1, -1, *(1 for _ in x.shape[2:]))
        return [
            torch.tensor(values, dtype=torch.float32, device=x.device).reshape(across)
            for values in (self.mean, self.deviation)
        ]

    def __str__(self) -> str:
        numbers = [", ".join(f"{v:.4g}" for v in some[:4]) for some in (self.mean, self.deviation)]
        more = ", ..." if len(self.mean) > 4 else ""
        return (
            f"x less the mean {numbers[0]}{more}, over the deviation {numbers[1]}{more}, of train"
            f"{f', {self.reshaped}' if self.reshaped else ''}"
        )


class Inputs:
    """The x of a split: samples as they were found, in their own type, in memory or mapped from a
    file; prepared when they are asked for. Few are kept prepared, on the device they are asked on.

    raw: (n, channels, ...); at: which of them, by default all; content: a digest of all of `raw`,
    where it is known.
    """

    def __init__(
        self,
        raw: Array,
        preparation: Preparation | None = None,
        at: Array | None = None,
        content: str = "",
    ):
        self.raw, self.at, self._content = raw, at, content
        self.preparation = preparation or Preparation()
        self._prepared: dict[torch.device, Tensor] = {}
        self._found: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.raw if self.at is None else self.at)

    def and_those_of(self, other: Inputs) -> Inputs:
        """These samples, and then those of another split of the same task."""
        if self.raw is other.raw:
            both = [np.arange(len(i.raw)) if i.at is None else i.at for i in (self, other)]
            return Inputs(self.raw, self.preparation, np.concatenate(both))
        parts = [i.raw if i.at is None else i.raw[i.at] for i in (self, other)]
        return Inputs(np.concatenate(parts), self.preparation)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, prepared."""
        reshaped = self.preparation.reshaped
        return reshaped.to if reshaped else tuple(self.raw.shape[1:])

    @property
    def size(self) -> int:
        """The values of one sample, prepared."""
        return int(np.prod(self.shape))

    @property
    def _bytes(self) -> int:
        """Of all of them as they were found."""
        return len(self) * int(np.prod(self.raw.shape[1:])) * self.raw.itemsize

    @property
    def memory(self) -> str:
        """What all of them take, in words."""
        megabytes = self._bytes / 1e6
        where = "mapped" if _mapped(self.raw) else "in memory"
        kept = "kept" if 4 * self.size * len(self) <= KEPT else "made"
        how = "once" if kept == "kept" else "batch by batch"
        return f"{megabytes:,.1f} MB of {self.raw.dtype} {where}, {kept} as float32 {how}"

    def batch(self, at: Tensor, device: Device = "cpu") -> Tensor:
        """(len(at), *shape) float32: the samples of those numbers (int64, on the CPU), prepared."""
        device = torch.device(device)
        if 4 * self.size * len(self) <= KEPT:
            return self.whole(device)[at.to(device)]
        if device.type != "cpu" and self._bytes <= ON_DEVICE:
            if device not in self._found:
                self._found[device] = self.as_found(np.arange(len(self))).to(device)
            return self.preparation(self._found[device][at.to(device)])
        return self.preparation(self.as_found(at.numpy()).to(device))

    def whole(self, device: Device = "cpu") -> Tensor:
        """All of them, prepared and kept: for few."""
        device = torch.device(device)
        if device not in self._prepared:
            with torch.inference_mode(False):  # it may be trained on after it was scored
                prepared = self.preparation(self.as_found(np.arange(len(self))).to(device))
            self._prepared[device] = prepared.contiguous()
        return self._prepared[device]

    def as_found(self, at: Array) -> Tensor:
        """(len(at), channels, …): the samples of those numbers, in their own type."""
        places = at if self.at is None else self.at[at]
        array = np.ascontiguousarray(self.raw[places])
        direct = array.dtype.name in DIRECT and array.dtype.isnative
        return torch.from_numpy(array if direct else array.astype(np.float32))

    @cached_property
    def content(self) -> str:
        """A digest: the same where samples, their order and their preparation are."""
        places = "all" if self.at is None else digest(np.ascontiguousarray(self.at, np.int64))
        reshaped = f" {self.preparation.reshaped}" if self.preparation.reshaped else ""
        facts = f"{self._content or digest(self.raw)} {places} {self.preparation.numbers}{reshaped}"
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()


def _mapped(x: Array) -> bool:
    """Whether an array is a part of a file's pages, which need no memory of one's own."""
    base: Any = x
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base is not None


def chunks(x: Array, at: Array | None = None) -> Iterator[Array]:
    """Some samples of x after others, of those numbers where any are named."""
    n = len(x) if at is None else len(at)
    step = max(1, CHUNK // max(1, int(np.prod(x.shape[1:]))))
    for start in range(0, n, step):
        yield x[start : start + step] if at is None else x[at[start : start + step]]


def digest(x: Array) -> str:
    """A digest of an array's shape and values, as bytes or as float32."""
    as_bytes = x.dtype == np.uint8
    content = hashlib.blake2b(f"{'bytes' * as_bytes} {x.shape}".encode(), digest_size=16)
    for chunk in chunks(x):
        values = chunk if as_bytes else chunk.astype(np.float32)
        content.update(np.ascontiguousarray(values).data)
    return content.hexdigest()


def moments(x: Array, at: Array | None, scale: float) -> list[list[float]]:
    """Mean and deviation of each channel of x (n, channels, ...), divided by `scale`; of a channel
    that is always the same a deviation of 1."""
    if x.dtype == np.uint8 and x.shape[1] <= COUNTED:
        return _moments_of_bytes(x, at, scale)
    axes = (0, *range(2, x.ndim))
    each = (x.size // len(x)) // x.shape[1] * (len(x) if at is None else len(at))
    total, low, high = 0.0, None, None
    for chunk in _scaled(x, at, scale):
        total = total + chunk.sum(axes, dtype=np.float64)
        least, most = chunk.min(axes), chunk.max(axes)
        low = least if low is None else np.minimum(low, least)
        high = most if high is None else np.maximum(high, most)
    mean = np.asarray(total) / each
    across = (1, -1, *(1 for _ in x.shape[2:]))
    squares = np.zeros_like(mean)
    for chunk in _scaled(x, at, scale):
        squares += ((chunk - mean.reshape(across)) ** 2).sum(axes)
    deviation = np.sqrt(squares / each).astype(np.float32)
    deviation[low == high] = 1
    return [mean.astype(np.float32).tolist(), deviation.tolist()]


def spectral_moments(
    x: Array, at: Array | None, scale: float, spectrum: Spectrum
) -> list[list[float]]:
    """The same of each band of the spectra of waveforms, whose means are 0."""
    squares, n = torch.zeros(spectrum.bands, dtype=torch.float64), 0
    for chunk in _scaled(x, at, scale):
        bands = spectrum.before(torch.from_numpy(np.ascontiguousarray(chunk)))
        squares += bands.double().square().sum((0, 2))
        n += bands.shape[0] * bands.shape[2]
    deviation = (squares / n).sqrt().float()
    deviation[deviation == 0] = 1
    return [[0.0] * spectrum.bands, deviation.tolist()]


def _moments_of_bytes(x: Array, at: Array | None, scale: float) -> list[list[float]]:
    """The same, by counting how often each channel has each of the 256 values."""
    counts = torch.zeros(x.shape[1], 256, dtype=torch.int64)
    for chunk in chunks(x, at):
        for channel in range(x.shape[1]):
            values = torch.from_numpy(np.array(chunk[:, channel]))
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    shares = (counts.double() / counts.sum(1, keepdim=True)).numpy()
    scaled = (np.arange(256, dtype=np.float32) / np.float32(scale)).astype(np.float64)
    mean = shares @ scaled
    deviation = np.sqrt((shares * (scaled - mean[:, None]) ** 2).sum(1)).astype(np.float32)
    deviation[(counts.numpy() > 0).sum(1) == 1] = 1
    return [mean.astype(np.float32).tolist(), deviation.tolist()]


def _scaled(x: Array, at: Array | None, scale: float) -> Iterator[Array]:
    for chunk in chunks(x, at):
        real = chunk.astype(np.float32)
        yield real / np.float32(scale) if scale != 1 else real
