"""Recordings in folders: how they are read, what becomes of them, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.task import Task, TaskError, load_tasks
from nas.task.sound import Sound, decode, in_length, trimmed
from nas.task.spectrum import FLOOR, Spectrum, mel_filters

soundfile = pytest.importorskip("soundfile", reason="recordings need nas-engine[audio]")

RATE = 8000


def tone(pitch: float, seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A voice of its own pitch: harmonics and a little noise."""
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * pitch * k * time + rng.random()) / k for k in range(1, 6))
    return 0.1 * voice + 0.005 * rng.normal(size=len(time))


def folder(path: Path, speakers: int = 7, each: int = 6, **words: float) -> Path:
    for speaker in range(speakers):
        (path / f"s{speaker}").mkdir(parents=True)
        for i in range(each):
            wave = tone(110 * 1.2**speaker, 0.5 + 0.1 * i, seed=i, **words)
            soundfile.write(path / f"s{speaker}" / f"{i}.wav", wave, words.get("rate", RATE))
    return path


def test_a_folder_of_recordings_is_a_task_of_classes_and_asked_so_one_of_speakers(
    tmp_path: Path,
) -> None:
    path = folder(tmp_path / "voices")
    task = Task.load(f"who={path}?seconds=0.5")
    assert (task.target, len(task.classes), task.input) == ("class", 7, (40, 47))
    task = Task.load(f"who={path}?seconds=0.5&predict=speaker")
    assert task.target == "speaker" and task.metric == "eer"
    assert len(task.classes) == 3 and set(task.classes) < {f"s{i}" for i in range(7)}
    x = task.splits().train.x
    assert x.shape[1:] == (40, 47)
    assert x.mean((0, 2)).abs().max() < 1e-4
    assert x.std((0, 2)).sub(1).abs().max() < 1e-2
    assert "speakers held out" in task.describe()


def test_a_spectrum_is_what_its_definition_says() -> None:
    """Bands of a discrete Fourier transform that is written out."""
    spectrum = Spectrum((1, 1000), RATE, 12)
    assert (spectrum.window, spectrum.hop, spectrum.size, spectrum.fault) == (200, 80, 256, "")
    wave = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    frames = []
    for i in range(spectrum.to[1]):
        piece = np.zeros(256)
        piece[28:228] = wave[80 * i + 28 : 80 * i + 228] * window
        turns = np.exp(-2j * np.pi * np.outer(np.arange(129), np.arange(256)) / 256)
        energies = np.abs(turns @ piece) ** 2
        frames.append(np.log(mel_filters(RATE, 256, 12).T @ energies + FLOOR))
    wanted = np.array(frames).T
    wanted -= wanted.mean(1, keepdims=True)
    got = spectrum.before(torch.from_numpy(wave)[None, None])[0].numpy()
    assert got.shape == (12, spectrum.to[1])
    np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_cepstra_are_the_orthonormal_cosine_transform_of_bands() -> None:
    from scipy.fft import dct

    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 900)).astype(np.float32))
    bands = Spectrum((1, 900), RATE, 10).before(x).numpy()
    cepstra = Spectrum((1, 900), RATE, 10, "mfcc").before(x).numpy()
    np.testing.assert_allclose(cepstra, dct(bands, axis=1, norm="ortho"), atol=1e-4)


def test_each_band_answers_to_its_own_frequencies() -> None:
    filters = mel_filters(16_000, 512, 80)
    assert (filters.max(0) > 0).all()
    peaks = filters.argmax(0)
    assert (np.diff(peaks) >= 0).all() and filters.max() <= 1
    assert Spectrum((1, 8000), RATE, 400).fault.endswith(
        "of which some hold nothing: ask for fewer"
    )


def test_what_a_microphone_adds_is_taken_off() -> None:
    """A louder recording is the same one."""
    spectrum = Spectrum((1, 8000), RATE, 40)
    x = torch.from_numpy(tone(150, 1).astype(np.float32))[None, None]
    torch.testing.assert_close(spectrum.before(x), spectrum.before(3 * x), atol=0.05, rtol=0)


def test_other_rates_channels_and_lengths_come_to_one(tmp_path: Path) -> None:
    sound = Sound(RATE, 4000)
    wave = tone(200, 1.0, 22_050)
    soundfile.write(tmp_path / "fast.wav", np.stack([wave, np.zeros_like(wave)], 1), 22_050)
    soundfile.write(tmp_path / "same.wav", tone(200, 1.0) / 2, RATE)
    fast, same = decode(tmp_path / "fast.wav", sound), decode(tmp_path / "same.wav", sound)
    assert fast.dtype == np.int16 and fast.shape == same.shape == (4000,)
    energies = [np.abs(np.fft.rfft(x.astype(float)))[:600] for x in (fast, same)]
    assert energies[0].argmax() == energies[1].argmax() == 100  # 200 Hz, half a second
    assert energies[0].max() == pytest.approx(energies[1].max(), rel=0.05)


def test_short_recordings_are_repeated_and_long_ones_cut_to_their_middle() -> None:
    assert in_length(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert in_length(np.arange(9), 3).tolist() == [3, 4, 5]


def test_silence_around_a_voice_is_trimmed() -> None:
    wave = np.concatenate([np.zeros(800), tone(150, 0.5), np.zeros(1600)])
    assert trimmed(wave, 80).tolist() == wave[800:4800].tolist()
    assert len(trimmed(np.zeros(500), 80)) == 500


def damaged(path: Path, how: str) -> Path:
    target = folder(path) / "s0" / "bad.wav"
    if how == "empty":
        soundfile.write(target, np.zeros(0), RATE)
    elif how == "text":
        target.write_text("no recording")
    elif how == "torn":
        target.write_bytes((path / "s0" / "0.wav").read_bytes()[:30])
    elif how == "infinite":
        soundfile.write(target, np.array([0.1, np.inf] * 4000), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize("how", ["empty", "text", "torn", "infinite"])
def test_a_file_that_is_no_recording_is_named_or_left_out(tmp_path: Path, how: str) -> None:
    path = damaged(tmp_path / "voices", how)
    with pytest.raises(TaskError, match=r"bad\.wav.*leave them out"):
        Task.load(f"who={path}?predict=speaker")
    task = Task.load(f"who={path}?predict=speaker&skip_corrupt=true")
    assert sum(map(len, task.splits().every)) == 42
    assert "1 of 43 files are no recordings and left out: bad.wav" in task.describe()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("seconds=0.03", "too short: two frames of 25 ms at least"),
        ("seconds=9999", "seconds = 9999: above 0"),
        ("seconds=nan", "seconds = nan: above 0"),
        ("rate=7", "a rate of 7"),
        ("bands=400", "400 bands at 8000 Hz"),
        ("to=3x64x64", "to cannot be asked of recordings"),
        ("size=32", "size cannot be asked of it"),
    ],
)
def test_what_recordings_cannot_be_is_refused(tmp_path: Path, asked: str, words: str) -> None:
    path = folder(tmp_path / "voices", 6, 4)
    with pytest.raises(TaskError, match=words):
        Task.load(f"who={path}?{asked}")


def trials(path: Path, *lines: str) -> Path:
    (path / "trials.txt").write_text("\n".join(lines) + "\n")
    return path / "trials.txt"


def test_a_list_of_trials_says_what_is_compared(tmp_path: Path) -> None:
    path = folder(tmp_path / "voices", 8, 5)
    lines = ["1 s6/0.wav s6/1.wav", "0 s6/0.wav s7/3.wav", "1 s7/2.wav s7/3.wav"]
    task = Task.load(f"who={path}?trials={trials(tmp_path, *lines)}")
    assert task.target == "speaker" and not {"s6", "s7"} & set(task.classes)
    y = task.splits().test.y
    assert y.shape == (4, 2)  # who speaks, and what it is compared with
    files = ["s6/0", "s6/1", "s7/2", "s7/3"]
    numbers = [(i, j) for i in range(4) for j in y[i, 1:].tolist() if j >= 0]
    compared = sorted(sorted((files[i], files[j])) for i, j in numbers)
    assert compared == [["s6/0", "s6/1"], ["s6/0", "s7/3"], ["s7/2", "s7/3"]]
    assert "6 others of theirs are left out" in task.describe()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 s6/0.wav s6/9.wav", "names s6/9.wav, and there is no such recording"),
        ("1 s6/0.wav s7/1.wav", "says one speaker of s6/0.wav and s7/1.wav"),
        ("0 s6/0.wav s6/1.wav", "says two speakers"),
        ("2 s6/0.wav s6/1.wav", "is no trial"),
        ("s6/0.wav s6/1.wav", "trials.txt:2: .* is no trial"),
    ],
)
def test_a_wrong_trial_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = folder(tmp_path / "voices", 8, 3)
    listed = trials(tmp_path, "1 s7/0.wav s7/1.wav", line)
    with pytest.raises(TaskError, match=words):
        Task.load(f"who={path}?trials={listed}")


def test_a_test_folder_of_other_speakers_is_read_as_voxceleb_lies(tmp_path: Path) -> None:
    folder(tmp_path / "vox" / "train", 6, 4)
    for name in ("id1", "id2"):
        (tmp_path / "vox" / "test" / name / "film").mkdir(parents=True)
        for i in range(2):
            file = tmp_path / "vox" / "test" / name / "film" / f"{i}.wav"
            soundfile.write(file, tone(300 + 50 * len(name), 0.5, seed=i), RATE)
    listed = trials(tmp_path, "1 id1/film/0.wav id1/film/1.wav", "0 id1/film/0.wav id2/film/0.wav")
    task = Task.load(f"who={tmp_path / 'vox'}?trials={listed}&seconds=0.5")
    assert len(task.splits().test) == 3
    assert (task.splits().test.y[:, 0] >= len(task.classes)).all()


def test_tasks_of_one_folder_that_would_learn_what_another_holds_out_are_refused(
    tmp_path: Path,
) -> None:
    path = folder(tmp_path / "voices", 10, 4)
    listed = trials(tmp_path, "1 s6/0.wav s6/1.wav", "0 s6/0.wav s7/3.wav")
    for first, second, words in (
        ("", "?predict=speaker", "search them in runs of their own"),
        ("?predict=speaker", "", "search them in runs of their own"),
        ("", f"?trials={listed}", "hold speakers out, and another would learn them"),
        ("?predict=speaker", f"?trials={listed}", "hold speakers out"),
    ):
        with pytest.raises(TaskError, match=words):
            load_tasks([f"a={path}{first}", f"b={path}{second}"])


def test_tasks_of_one_folder_may_see_other_features_of_it(tmp_path: Path) -> None:
    path = folder(tmp_path / "voices", 6, 4)
    tasks = load_tasks([f"a={path}?bands=20", f"b={path}?bands=20&features=mfcc"])
    kinds = [task.preparation.spectrum.features for task in tasks if task.preparation.spectrum]
    assert kinds == ["log-mel", "mfcc"]


def test_a_folder_is_of_what_most_of_its_files_are(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mixed" / name / f"{i}.png")
    soundfile.write(tmp_path / "mixed" / "cat" / "meow.wav", tone(400, 0.5), RATE)
    assert Task.load(f"pets={tmp_path / 'mixed'}").input == (1, 8, 8)


def test_a_header_with_an_absurd_rate_is_no_recording(tmp_path: Path) -> None:
    import struct

    soundfile.write(tmp_path / "a.wav", tone(200, 0.2), RATE)
    wave = bytearray((tmp_path / "a.wav").read_bytes())
    for rate in (3, 2**31 - 1, 100_000_007):
        wave[24:28] = struct.pack("<I", rate)
        (tmp_path / "odd.wav").write_bytes(wave)
        assert "samples a second" in decode(tmp_path / "odd.wav", Sound(RATE, 800)).reason


@pytest.mark.parametrize(
    "changed", [{"rate": 0}, {"rate": 10**400}, {"rate": 10**9}, {"rate": -8000}, {"bands": 10**9}]
)
def test_a_spectrum_from_somebody_else_is_looked_at_before_it_is_made(changed: dict) -> None:
    words = {"found": (1, 8000), "rate": RATE, "bands": 40, **changed}
    assert Spectrum(**words).fault
    assert Spectrum((1, 10**12), RATE, 40).fault


def test_a_recording_that_is_compared_with_many_takes_little(tmp_path: Path) -> None:
    path = folder(tmp_path / "voices", 8, 12)
    lines = [f"0 s6/0.wav s7/{i}.wav" for i in range(12)] + ["1 s6/0.wav s6/1.wav"]
    task = Task.load(f"who={path}?trials={trials(tmp_path, *lines)}&seconds=0.5")
    assert task.splits().test.y.shape[1] <= 3
    every = [f"1 s{i}/0.wav s{i}/1.wav" for i in range(8)] + ["0 s0/0.wav s1/0.wav"]
    with pytest.raises(TaskError, match="trials name all speakers, and none is left"):
        Task.load(f"who={path}?trials={trials(tmp_path, *every)}")
    (tmp_path / "trials.txt").write_bytes("1 s6/0.wav s6/1.wav".encode("utf-16"))
    with pytest.raises(TaskError, match=r"trials.txt: is no list of trials in UTF-8"):
        Task.load(f"who={path}?trials={tmp_path / 'trials.txt'}")
