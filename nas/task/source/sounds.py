"""Recordings in folders: a sub-folder a class, or a speaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.task.decode import Unreadable, in_order
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import Samples
from nas.task.sound import Heard, Sound, decode, glance
from nas.task.source.listing import (
    HIDDEN,
    Listing,
    by_class,
    key_of,
    left_out,
    named,
    shown_while,
    split_folders,
)
from nas.task.source.pictures import PICTURES
from nas.task.spectrum import LONGEST, Spectrum
from nas.task.store import new_array, stored

if TYPE_CHECKING:
    from nas.journal import JSON

RECORDINGS = {".wav", ".flac", ".ogg", ".mp3"}
LOOKED_AT = 200  # entries of a sub-folder by which a folder is known
SECONDS = 2.0
USUAL, WIDE = 16_000, 80  # the highest rate that is not asked for; bands there, half below
TRIAL = ("0", "1")  # what a line of a list of trials begins with: two speakers, or one


def holds_sounds(folder: Path) -> bool:
    """Whether what a folder has in its sub-folders, and theirs, is mostly recordings."""
    if not folder.is_dir():
        return False
    depths = ("*/*", "*/*/*", "*/*/*/*")
    entries = (entry for depth in depths for entry in islice(folder.glob(depth), LOOKED_AT))
    suffixes = Counter(e.suffix.lower() for e in entries if not e.name.startswith(HIDDEN))
    recordings, others = (sum(suffixes[s] for s in some) for some in (RECORDINGS, PICTURES))
    return recordings > others


def read_sounds(path: Path, options: Options) -> Samples:
    """Recordings of a folder, or of its train, valid and test, of which each sub-folder is a class,
    or a speaker. They are decoded once, and become spectra when they are asked for."""
    options.refuse(
        str(path), "skip_corrupt", "rate", "seconds", "trim", "features", "bands", "trials"
    )
    listing = by_class(path, split_folders(path), RECORDINGS, "recording")
    trials, partners = Path(options.trials), list[list[str]]()
    if options.trials:
        listing, partners = _with_trials(listing, _trials(trials))
    asked = replace(options, trials="", features="log-mel", bands=0)
    key = key_of(path, listing.files, asked)
    store = stored(key, str(path), partial(_decoded, listing, asked))
    lost = set(store.facts["left_out"])
    if lost and partners:
        raise TaskError(
            f"{path}: {named(listing.files, dict.fromkeys(lost, 'unreadable'), 'recordings')}; "
            "trials need each: mend them, or leave out trials"
        )
    listing = listing.without(lost)
    sound = Sound(**store.facts["sound"])
    bands = options.bands or (WIDE if sound.rate >= USUAL else WIDE // 2)
    spectrum = Spectrum((1, sound.samples), sound.rate, bands, options.features)
    if spectrum.fault:
        raise TaskError(f"{path}: {spectrum.fault}")
    x, pairs = store.array("x"), {}
    for split in dict.fromkeys(listing.splits):
        at = [i for i, of in enumerate(listing.splits) if of == split]
        rows = [[listing.classes[i], *(partners[i] if partners else ())] for i in at]
        pairs[split] = x[at[0] : at[-1] + 1, None], np.array(rows)
    notes = (*listing.notes, *store.facts["notes"], f"{sound}, as {spectrum}")
    more: dict[str, Any] = {"target": "speaker"} if options.trials else {}
    return Samples(
        str(path), pairs, "ncl", notes=notes, sound=sound, spectrum=spectrum, store=store, **more
    )


def _decoded(listing: Listing, options: Options, folder: Path) -> Mapping[str, JSON]:
    """Write a listing's recordings into a folder; what is known."""
    total = len(listing.files)
    seen = list(shown_while("looking at recordings", in_order(glance, listing.files), total))
    broken = {i: s.reason for i, s in enumerate(seen) if isinstance(s, Unreadable)}
    left_out(listing, broken, options, "recordings")
    sound, notes = _chosen([s for s in seen if isinstance(s, Heard)], listing, options)
    x = new_array(folder, "x", "int16", (total, sound.samples))
    waves = shown_while(
        "reading recordings", in_order(partial(decode, sound=sound), listing.files), total
    )
    for number, wave in enumerate(waves):
        if isinstance(wave, Unreadable):
            broken.setdefault(number, wave.reason)
        else:
            x[number] = wave
    notes += left_out(listing, broken, options, "recordings")
    _keep(x, [i for i in range(total) if i not in broken])
    return {"sound": asdict(sound), "left_out": sorted(broken), "notes": notes}


def _keep(x: Any, at: list[int]) -> None:
    """The rows of those numbers come first."""
    if len(at) < len(x):
        for place, row in enumerate(at):
            x[place] = x[row]
    x.flush()


def _chosen(heard: list[Heard], listing: Listing, options: Options) -> tuple[Sound, list[str]]:
    """In which rate and length recordings are read, and notes."""
    if not heard:
        raise TaskError(f"{listing.path}: none of its files is a readable recording")
    rates = Counter(h.rate for h in heard)
    rate = options.rate or min(USUAL, rates.most_common(1)[0][0])
    seconds = options.seconds or SECONDS
    if not 0 < seconds <= LONGEST:
        raise TaskError(f"{listing.path}: seconds = {seconds:g}: above 0 and at most {LONGEST}")
    sound = Sound(rate, round(seconds * rate), options.trim)
    if sound.fault:
        raise TaskError(f"{listing.path}: {sound.fault}")
    notes = list[str]()
    if other := sum(n for r, n in rates.items() if r != rate):
        notes.append(f"{other} recordings of other rates are resampled to {rate} Hz")
    if several := sum(h.channels > 1 for h in heard):
        notes.append(f"{several} recordings of several channels are their mean")
    long = sum(h.seconds > seconds for h in heard)
    short = sum(h.seconds < seconds for h in heard)
    if long or short:
        notes.append(
            f"{long} recordings are longer and cut to their middle, {short} shorter and repeated; "
            "another length: ?seconds=3"
        )
    return sound, notes


def _trials(path: Path) -> Iterator[tuple[bool, str, str]]:
    """The lines of a list of trials as VoxCeleb has it: 1 for one speaker, 0 for two, two files."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: is no list of trials in UTF-8: {error}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or words[0] not in TRIAL:
            raise TaskError(
                f"{path}:{number}: {line[:80]!r} is no trial; a line is 1 (one speaker) or 0 (two) "
                "and two files: 1 id10270/a.wav id10270/b.wav"
            )
        yield words[0] == "1", words[1], words[2]


def _with_trials(
    listing: Listing, trials: Iterator[tuple[bool, str, str]]
) -> tuple[Listing, list[list[str]]]:
    """The same with the recordings that trials name as its test, and for each recording the numbers
    within test of those it is compared with. Others of their speakers are left out."""
    names = {_below(file, listing.path): i for i, file in enumerate(listing.files)}
    if "test" in listing.splits:
        at = listing.splits.index("test")
        names = {_below(f, listing.path, 1): at + i for i, f in enumerate(listing.files[at:])}
    compared = dict[int, list[int]]()
    for same, *files in trials:
        for file in files:
            if file not in names:
                raise TaskError(
                    f"{listing.path}: a trial names {file}, and there is no such recording; files "
                    "are named from the folder (or its test) on: add it, or correct the list"
                )
        first, second = (names[file] for file in files)
        if (listing.classes[first] == listing.classes[second]) != same:
            raise TaskError(
                f"{listing.path}: a trial says {'one speaker' if same else 'two speakers'} of "
                f"{' and '.join(files)}, and the folders say otherwise: correct either"
            )
        ends = [compared.setdefault(number, []) for number in (first, second)]
        one_sided = len(ends[0]) > len(ends[1])  # of one that is compared with many
        ends[one_sided].append(first if one_sided else second)
    if not compared:
        raise TaskError(f"{listing.path}: the list of trials is empty")
    speakers = {listing.classes[i] for i in compared}
    rest = [i for i in range(len(listing.files)) if listing.classes[i] not in speakers]
    rest = [i for i in rest if listing.splits[i] != "test"]
    if not rest:
        raise TaskError(f"{listing.path}: trials name all speakers, and none is left to learn")
    tested = sorted(compared)
    place = {number: i for i, number in enumerate(tested)}
    widest = max(map(len, compared.values()))
    order = [*rest, *tested]
    partners = [[""] * widest for _ in rest] + [
        [*(str(place[i]) for i in compared[number]), *[""] * (widest - len(compared[number]))]
        for number in tested
    ]
    splits = tuple(listing.splits[i] for i in rest) + ("test",) * len(tested)
    dropped = len(listing.files) - len(order)
    note = f"test is {len(tested)} recordings of {len(speakers)} speakers, as trials say"
    more = f"{note}; {dropped} others of theirs are left out" if dropped else note
    return (
        Listing(
            listing.path,
            tuple(listing.files[i] for i in order),
            splits,
            tuple(listing.classes[i] for i in order),
            notes=(*listing.notes, more),
        ),
        partners,
    )


def _below(file: Path, folder: Path, deeper: int = 0) -> str:
    """A file's name from a folder, or so many below it, on."""
    return "/".join(file.relative_to(folder).parts[deeper:])
