"""Word lists by language: aspell's dictionaries, or text files of the user's own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from nas.task.task import TaskError

PUBLISHED = ("en", "nl", "de", "es", "fr", "pt_PT", "sw", "zu", "fi", "sv")
STAND_INS = ("da", "cy", "hr", "eo", "nb", "pl", "ro", "ca")  # in this order, where those lack
MOST = 10
WORD = re.compile("[a-x]{6}")  # as published: no capital, no accent, no y and no z

GET = (
    "install dictionaries (Debian: aspell aspell-en aspell-nl aspell-de aspell-es aspell-fr "
    "aspell-pt-pt aspell-sv aspell-da aspell-cy aspell-hr), or write a definition with "
    '[data] kind = "language", path = "FOLDER" that holds LANGUAGE.txt files, a word a line'
)


def languages(folder: str) -> tuple[str, ...]:
    """The languages at hand, before any word is read: those of the folder, or ten of aspell's.

    The published ten where there are not even two, so that the task can still be listed.
    """
    found = _at_hand(folder)
    if not folder:
        found = tuple(code for code in (*PUBLISHED, *STAND_INS) if code in found)[:MOST]
    return found if len(found) > 1 else PUBLISHED


def words(
    chosen: tuple[str, ...],  # languages, in the order of the classes
    folder: str,  # of LANGUAGE.txt files; "" for aspell
) -> dict[str, list[str]]:
    """Each language's words of six letters from a to x, sorted; raises TaskError for want of any.

    Words with accents, capitals, y or z are left out and not rewritten (Geada et al. 2024).
    """
    found = _at_hand(folder)
    lacking = [code for code in chosen if code not in found]
    if lacking:
        raise TaskError(
            f"{folder or 'aspell'}: there are no words of {', '.join(lacking)}, only of "
            f"{', '.join(found) or 'no language'}; images of words need two languages or more: "
            + (f"add {lacking[0]}.txt, a word a line, or name others as classes" if folder else GET)
        )
    texts = {c: _text(Path(folder) / f"{c}.txt") if folder else _expanded(c) for c in chosen}
    return {c: sorted({w for w in text.split() if WORD.fullmatch(w)}) for c, text in texts.items()}


def _at_hand(folder: str) -> tuple[str, ...]:
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
