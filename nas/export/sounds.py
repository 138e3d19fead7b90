"""Recordings and their spectra as text beside a plain model, and as nodes before a network."""

from __future__ import annotations

import numpy as np

from nas.op.graph import Graph
from nas.task.sound import Sound
from nas.task.spectrum import FASTEST, FLOOR, LONGEST, LOWEST, SLOWEST, Spectrum

OPEN_SOUND = '''\
def open_sound(path: str | Path) -> Tensor:
    """A recording's file as `prepare` takes it: (1, 1, {samples}), of 16 bits."""
    import soundfile

    with soundfile.SoundFile(path) as recording:
        rate = recording.samplerate
        if not {slowest} <= rate <= {fastest}:
            raise ValueError(f"{{path}} says that it has {{rate}} samples a second")
        wave = recording.read({longest} * rate, dtype="float32", always_2d=True).mean(1)
    if rate != {rate}:
        from math import gcd

        from scipy.signal import resample_poly

        wave = resample_poly(wave, {rate} // gcd(rate, {rate}), rate // gcd(rate, {rate}))
    {trim}start = max(0, (len(wave) - {samples}) // 2)
    wave = torch.from_numpy(wave[start : start + {samples}])
    wave = wave.repeat(-(-{samples} // len(wave)))[:{samples}]
    return (wave * 32768).round().clamp(-32768, 32767)[None, None]'''
TRIM = """\
block = {block}  # silence before and after is 40 decibels below the loudest hundredth second
    power = torch.from_numpy(wave[: len(wave) // block * block]).double().reshape(-1, block)
    power = power.square().mean(1)
    loud = (power > 1e-4 * max([0.0, *power.tolist()])).nonzero()
    wave = wave[int(loud[0]) * block : (int(loud[-1]) + 1) * block] if len(loud) else wave
    """
SPECTRUM = '''\
def {name}(x: Tensor) -> Tensor:
    """Waveforms (batch, 1, samples) at {rate} Hz as {kind}: (batch, {bands}, frames)."""
    window = torch.hann_window({window}, device=x.device)
    words = dict(center=False, return_complex=True)
    power = torch.stft(x[:, 0], {size}, {hop}, {window}, window, **words).abs() ** 2
    low, high = (2595 * math.log10(1 + f / 700) for f in ({low}, {high}))
    mels = torch.linspace(low, high, {bands} + 2, dtype=torch.float64)
    corners = 700 * (10 ** (mels / 2595) - 1)
    f = torch.linspace(0, {high}, {size} // 2 + 1, dtype=torch.float64)[:, None]
    rising = (f - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - f) / (corners[2:] - corners[1:-1])
    bands = torch.minimum(rising, falling).clamp(min=0).float().to(x.device)
    x = (bands.T @ power + {floor}).log()
    {last}return x - x.mean(2, keepdim=True)'''
COSINES = """\
places = torch.arange({bands}, dtype=torch.float64)
    cosines = torch.cos(math.pi * (places + 0.5) * places[:, None] / {bands}) * (2 / {bands}) ** 0.5
    cosines[0] /= 2**0.5
    x = cosines.float().to(x.device) @ x
    """


def spectrum_source(spectrum: Spectrum, name: str) -> str:
    """The function of model.py that makes a spectrum."""
    kind = "mel cepstra" if spectrum.features == "mfcc" else "log-mel energies"
    return SPECTRUM.format(
        name=name,
        rate=spectrum.rate,
        kind=kind,
        bands=spectrum.bands,
        window=spectrum.window,
        size=spectrum.size,
        hop=spectrum.hop,
        low=LOWEST,
        high=spectrum.rate / 2,
        floor=FLOOR,
        last=COSINES.format(bands=spectrum.bands) if spectrum.features == "mfcc" else "",
    )


def open_sound_source(sound: Sound) -> str:
    """The function of model.py that reads a recording."""
    trim = TRIM.format(block=sound.block) if sound.trim else ""
    bounds = {"slowest": SLOWEST, "fastest": FASTEST, "longest": LONGEST}
    return OPEN_SOUND.format(rate=sound.rate, samples=sound.samples, trim=trim, **bounds)


def spectrum_onnx(graph: Graph, value: str, spectrum: Spectrum) -> str:
    """A spectrum as a convolution with the windowed waves of a Fourier transform."""
    size, start = spectrum.size, (spectrum.size - spectrum.window) // 2
    places = np.arange(start, start + spectrum.window)
    turns = 2 * np.pi * np.arange(size // 2 + 1)[:, None] * places / size
    window = np.hanning(spectrum.window + 1)[:-1]
    waves = np.concatenate([np.cos(turns) * window, np.sin(turns) * window])[:, None]
    last = graph.integers(2)
    starts, ends = graph.integers(start), graph.integers(spectrum.found[1])
    value = graph("Slice", value, starts, ends, last)
    frames = {"strides": [spectrum.hop]}
    value = graph("Conv", value, graph.constant(waves, learned=False), **frames)
    value = graph("Slice", value, graph.integers(0), graph.integers(spectrum.to[1]), last)
    real, imaginary = graph.several(2, "Split", graph("Mul", value, value), axis=1, num_outputs=2)
    energies = graph("Add", real, imaginary)
    bands = graph.constant(spectrum.filters.T, learned=False)
    value = graph("MatMul", bands, energies)
    value = graph("Log", graph("Add", value, graph.number(FLOOR)))
    if spectrum.last is not None:
        value = graph("MatMul", graph.constant(spectrum.last, learned=False), value)
    return graph("Sub", value, graph("ReduceMean", value, last, keepdims=1))
