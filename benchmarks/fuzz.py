"""Whatever the files of a run or network hold, they are read or refused in words.

Valid run.toml, architecture.json, recipe.toml and journal records are changed at random: values of
other types, keys removed, added or renamed, numbers that are huge or none, texts cut short. Each is
read as the verbs read it; what is raised must be one of the errors that the command says in a line.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import tempfile
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from nas.archive import Archive
from nas.export import facts, load
from nas.grammar import Grammar
from nas.search import search
from nas.search.run import Run

COUNT = 100_000
SAID = (ValueError, OSError, RuntimeError)  # what the command says in one line
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    3,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    -0.5,
    "",
    "x",
    "nan",
    "../..",
    "a\nb",
    "\ud800",
    "0" * 70,
    [],
    [1],
    [[]],
    ["a", None],
    {},
    {"a": 1},
    {"": {}},
]


def changed(value: Any, rng: random.Random) -> Any:
    """A copy of a document with one to three changes somewhere in it."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return rng.choice(ODD)
        holder, key = rng.choice(places)
        act = rng.random()
        if act < 0.6:
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif act < 0.8:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice(["extra", "id", "kind", "format", ""])] = rng.choice(ODD)
        elif isinstance(holder[key], str):
            holder[key] = holder[key][: rng.randrange(len(holder[key]) + 1)]
        else:
            holder.append(copy.deepcopy(rng.choice(ODD)))
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    todo = [value]
    for each in todo:
        items = each.items() if isinstance(each, dict) else enumerate(each)
        for key, inner in list(items):
            found.append((each, key))
            if isinstance(inner, dict | list):
                todo.append(inner)
    return found


def journal(records: list[Any]) -> bytes:
    """Records as a journal whose checksums are right."""
    data, before = b"", 0
    for record in records:
        body = json.dumps(record).encode()
        before = zlib.crc32(body, before)
        data += b"%08x %s\n" % (before, body)
    return data


def made(folder: Path) -> tuple[Path, Path]:
    """A run and a network with everything that the readers read."""
    space = Grammar.parse("net = conv({4, 8}, stride=2) relu output(coarse)", name="small")
    run = search(
        space,
        "digits",
        out=folder / "run",
        trials=2,
        generation=2,
        listener=lambda *_: None,
        supernet={"steps": 2, "samples": 8},
        objectives=("accuracy", "flops"),
    )
    run.save(run.pick(), folder / "net")
    return folder / "run", folder / "net"


def readers(run: Path, net: Path) -> dict[str, tuple[Path, Any, Callable[[Any], bytes], Any]]:
    """Of each kind of file: where it is, what it holds, how that is written, and who reads it."""
    lines = [json.loads(line[9:]) for line in (run / "journal.jsonl").read_bytes().splitlines()]
    paths = run / "run.toml", net / "recipe.toml"
    toml = {path: tomllib.loads(path.read_text()) for path in paths}

    def of_run() -> None:
        found = Run(run)
        repr([found, found.named, found.objectives, found.limits, found.trust, found.trivial])

    def of_journal() -> None:
        with Archive.open(run) as archive:
            for trial in archive.trials:
                trial.columns()
            for note in archive.notes("bank"):
                float(str(note["seconds"]))

    return {
        "run.toml": (run / "run.toml", toml[run / "run.toml"], _toml, of_run),
        "recipe.toml": (net / "recipe.toml", toml[net / "recipe.toml"], _toml, lambda: load(net)),
        "architecture.json": (
            net / "architecture.json",
            json.loads((net / "architecture.json").read_text()),
            lambda value: json.dumps(value).encode(),
            lambda: (facts(net), load(net)),
        ),
        "journal.jsonl": (run / "journal.jsonl", lines, journal, of_journal),
    }


def _toml(value: Any) -> bytes:
    return tomli_w.dumps(value).encode()


def fuzz(kind: str, count: int, seed: int, run: Path, net: Path) -> Counter[str]:
    """How often reading changed files of a kind gave what; anything uncaught is raised."""
    path, value, write, read = readers(run, net)[kind]
    rng, found, before = random.Random(seed), Counter[str](), path.read_bytes()
    try:
        while sum(found.values()) < count:
            given = changed(value, rng)
            try:
                data = write(given)
            except (TypeError, ValueError, AttributeError):
                continue  # no file can hold it
            path.write_bytes(data)
            try:
                read()
                found["read"] += 1
            except RecursionError:
                raise
            except SAID as error:
                found[type(error).__name__] += 1
            except Exception:
                sys.stderr.write(f"{kind}: {given!r}\n")
                raise
    finally:
        path.write_bytes(before)
    return found


def main() -> None:
    from measure import report

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run, net = made(Path(folder))
        for kind in readers(run, net):
            found = fuzz(kind, COUNT, 0, run, net)
            rows.append({"file": kind, "inputs": sum(found.values()), "uncaught": 0, **found})
    figure = f"0 uncaught of {sum(row['inputs'] for row in rows):,}, 100,000 of each of four files"
    report("fuzz", __doc__, aim="0 uncaught", figure=figure, rows=rows, seeds=[0])


if __name__ == "__main__":
    main()
