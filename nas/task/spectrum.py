"""A waveform as what a network for speech takes: the energies of mel bands over time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nas.lazy import np, torch

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Array = npt.NDArray[Any]

Shape: TypeAlias = tuple[int, ...]  # of one sample
Features: TypeAlias = Literal["log-mel", "mfcc"]
WINDOW, HOP = 0.025, 0.01  # seconds of a frame, and from one to the next
LOWEST = 20.0  # Hz where the first band begins
FLOOR = 1e-6  # added to an energy whose logarithm is taken
MOST = 512  # bands
SLOWEST, FASTEST = 1000, 384_000  # samples a second
LONGEST = 600  # seconds of a recording


@dataclass(frozen=True)
class Spectrum:
    """A waveform of (1, samples) at so many samples a second as the logarithms of the energies of
    `bands` mel bands, (bands, frames), or their cosine transform (mfcc). Each band loses its mean
    over the recording, which takes off most of what a microphone adds.

    Frames are 25 ms long, 10 ms apart, under a Hann window; bands are triangles even on the mel
    scale (2595 · log10(1 + f / 700)) from 20 Hz to half the rate.
    """

    found: Shape
    rate: int
    bands: int
    features: Features = "log-mel"

    @property
    def window(self) -> int:
        return round(WINDOW * self.rate)

    @property
    def hop(self) -> int:
        return round(HOP * self.rate)

    @property
    def size(self) -> int:
        """Of the Fourier transform: the power of two that holds a window."""
        return 1 << (self.window - 1).bit_length()

    @property
    def to(self) -> Shape:
        return self.bands, 1 + (self.found[1] - self.size) // self.hop

    @property
    def fault(self) -> str:
        """Why it cannot be, "" where it can."""
        if not SLOWEST <= self.rate <= FASTEST:
            return (
                f"a rate of {str(self.rate)[:12]}: from {SLOWEST:,} to {FASTEST:,} samples a second"
            )
        if len(self.found) != 2 or self.found[0] != 1 or self.found[1] > LONGEST * self.rate:
            return f"a waveform has one channel of {LONGEST} s at most, this {list(self.found)[:3]}"
        if self.found[1] < self.size + self.hop:
            return f"{self.found[1] / self.rate:g} s are too short: two frames of 25 ms at least"
        if not 1 <= self.bands <= MOST:
            return f"{str(self.bands)[:12]} bands: from 1 to {MOST}"
        if bool((self.filters.max(0) == 0).any()):
            return (
                f"{self.bands} bands at {self.rate} Hz, of which some hold nothing: ask for fewer"
            )
        return ""

    @property
    def filters(self) -> Array:
        """(size / 2 + 1, bands) float32: what each frequency adds to each band."""
        return mel_filters(self.rate, self.size, self.bands)

    @property
    def last(self) -> Array | None:
        """(bands, bands) float32: the cosine transform of logarithms, where it is asked for."""
        return cosine_transform(self.bands) if self.features == "mfcc" else None

    def before(self, x: Tensor) -> Tensor:
        """x (n, 1, samples) of full scale 1 → (n, bands, frames)."""
        window = torch.hann_window(self.window, device=x.device)
        frames = torch.stft(
            x[:, 0], self.size, self.hop, self.window, window, center=False, return_complex=True
        )
        power = frames.real.square() + frames.imag.square()
        x = (torch.from_numpy(self.filters).to(x.device).T @ power + FLOOR).log()
        if self.last is not None:
            x = torch.from_numpy(self.last).to(x.device) @ x
        return x - x.mean(2, keepdim=True)

    def after(self, x: Tensor) -> Tensor:
        return x

    def __str__(self) -> str:
        return f"{self.bands} {self.features} bands of {self.to[1]} frames at {self.rate} Hz"


@lru_cache(maxsize=8)
def mel_filters(rate: int, size: int, bands: int) -> Array:
    """Triangles whose corners lie even on the mel scale (HTK's formula)."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, rate / 2))
    corners = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, size // 2 + 1)[:, None]
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    filters: Array = np.minimum(rising, falling).clip(min=0).astype(np.float32)
    return filters


@lru_cache(maxsize=8)
def cosine_transform(bands: int) -> Array:
    """The orthonormal cosine transform (type II) of so many values."""
    places = np.arange(bands)
    rows = np.cos(np.pi * (places[None] + 0.5) * places[:, None] / bands) * (2 / bands) ** 0.5
    rows[0] /= 2**0.5
    matrix: Array = rows.astype(np.float32)
    return matrix
