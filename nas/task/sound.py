"""A recording's file as numbers: one channel at one rate, trimmed if asked, in one length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nas.lazy import np
from nas.task.decode import Unreadable
from nas.task.error import TaskError
from nas.task.spectrum import FASTEST, LONGEST, SLOWEST

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

T = TypeVar("T")
FULL = 2**15  # what a sample of full scale is
BLOCK = 0.01  # seconds over which loudness is taken
QUIET = 1e-4  # of the loudest block's power: what is silence (40 decibels below)


@dataclass(frozen=True)
class Sound:
    """How a recording becomes numbers: so many samples at so many a second, of 16 bits. One that is
    longer is cut to its middle, one that is shorter is repeated; where it is trimmed, silence
    before and after is left out first."""

    rate: int
    samples: int
    trim: bool = False

    @property
    def block(self) -> int:
        """Samples over which loudness is taken."""
        return max(1, int(BLOCK * self.rate))

    @property
    def fault(self) -> str:
        """Why nothing can be read so, "" where it can."""
        if not SLOWEST <= self.rate <= FASTEST:
            return f"a rate of {self.rate}: between {SLOWEST:,} and {FASTEST:,} samples a second"
        if not 1 <= self.samples <= LONGEST * self.rate:
            return f"a length of {self.samples / self.rate:g} s: above 0 and at most {LONGEST} s"
        return ""

    def __str__(self) -> str:
        trimmed = ", without the silence around it" if self.trim else ""
        return f"{self.samples / self.rate:g} s of sound at {self.rate} Hz{trimmed}"


class Heard(NamedTuple):
    """What a glance at a recording tells."""

    rate: int
    seconds: float
    channels: int


def glance(file: Path) -> Heard | Unreadable:
    """What a recording is, by its header."""

    def heard(recording: Any) -> Heard:
        rate, frames = _rate(recording), recording.frames
        if not frames:
            raise ValueError("it holds no samples")
        return Heard(rate, frames / rate, recording.channels)

    return _opened(file, heard)


def decode(file: Path, sound: Sound) -> Array | Unreadable:
    """(samples,) int16."""

    def wave(recording: Any) -> Array:
        most = LONGEST * _rate(recording)
        frames = recording.read(most, dtype="float32", always_2d=True)
        if not len(frames):
            raise ValueError("it holds no samples")
        if not np.isfinite(frames).all():
            raise ValueError("it holds NaN or infinite samples")
        mono = resampled(frames.mean(1), recording.samplerate, sound.rate)
        fitted = in_length(trimmed(mono, sound.block) if sound.trim else mono, sound.samples)
        return (fitted * FULL).round().clip(-FULL, FULL - 1).astype(np.int16)

    return _opened(file, wave)


def _rate(recording: Any) -> int:
    """Samples a second of an opened file; raises ValueError for what none has."""
    rate = int(recording.samplerate)
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(f"it says that it has {rate} samples a second")
    return rate


def resampled(wave: Array, old: int, new: int) -> Array:
    """A wave of `old` samples a second with `new`, by a polyphase filter."""
    if old == new:
        return wave
    from scipy.signal import resample_poly

    by = gcd(old, new)
    other: Array = resample_poly(wave, new // by, old // by).astype(np.float32)
    return other


def trimmed(wave: Array, block: int) -> Array:
    """A wave from its first block that is not silent to its last; all of it where all is silent."""
    whole = len(wave) // block * block
    power = (wave[:whole].reshape(-1, block).astype(np.float64) ** 2).mean(1)
    loud = np.flatnonzero(power > QUIET * power.max(initial=0))
    return wave[loud[0] * block : (loud[-1] + 1) * block] if len(loud) else wave


def in_length(wave: Array, samples: int) -> Array:
    """The middle of a wave, or the wave repeated."""
    start = max(0, (len(wave) - samples) // 2)
    return np.resize(wave[start : start + samples], samples)


def _opened(file: Path, read: Callable[[Any], T]) -> T | Unreadable:
    try:
        import soundfile
    except ImportError:
        raise TaskError(
            "reading recordings needs soundfile: pip install 'nas-engine[audio]'"
        ) from None
    try:
        with soundfile.SoundFile(file) as recording:
            return read(recording)
    except (OSError, ValueError, soundfile.LibsndfileError) as error:
        return Unreadable(str(error))
