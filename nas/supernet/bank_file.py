"""A bank as a file: safetensors, with the optimizer's state in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nas.files import metadata, replacing
from nas.op import Param
from nas.supernet.bank import Bank
from nas.supernet.slots import BankError, boxes, put, smallest, take

STATE = "/"  # begins the names of the optimizer's state in a file, and never a slot's


def save_bank(
    bank: Bank, path: Path, *, state: bool = False, facts: Mapping[str, str] | None = None
) -> None:
    """Write the tensors (and the optimizer's state), version and facts, as safetensors;
    atomically."""
    tensors = dict(bank.tensors)
    for name, kept in bank.state.items() if state else ():
        tensors |= {f"{STATE}{name}/{key}": value for key, value in kept.items()}
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    own = {
        "version": str(bank.version),
        "seed": str(bank.seed),
        "share": bank.share,
        "state": " ".join(bank.state) if state else "",
    }
    if bank.grows:
        own["slots"] = json.dumps(bank.params)
    if segments := {key: p.segments for key, p in bank.params.items() if p.segments}:
        own["segments"] = json.dumps(segments)
    try:
        with replacing(path) as part:
            from safetensors.torch import save_file

            save_file(whole, part, metadata={**(facts or {}), **own})
    except (SafetensorError, OSError) as error:
        raise OSError(f"{path} cannot be written: {error}; is the disk full?") from None


def load_bank(bank: Bank, path: Path) -> None:
    """Read tensors (and the optimizer's state, where the file has it) and the version.

    Raises BankError where the file is damaged, another bank's, or shares weights otherwise.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts, names = file.metadata() or {}, set(file.keys())
            _agree(bank, path, facts)
            states = [f"{STATE}{name}/" for name in facts.get("state", "").split()]
            if not any(name.startswith(STATE) for name in names):  # as they once were named
                states = [prefix.removeprefix(STATE) for prefix in states]
            _match(
                bank,
                path,
                {
                    key: tuple(file.get_slice(key).get_shape())
                    for key in names
                    if not key.startswith(tuple(states))
                },
            )
            for key, tensor in bank.tensors.items():
                tensor.copy_(file.get_tensor(key))
                for prefix in states:
                    state = bank.state.get(prefix.removeprefix(STATE).rstrip("/"))
                    if state is not None:
                        state[key].copy_(file.get_tensor(prefix + key))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise BankError(f"{path} is not this space's bank, or damaged: {error}") from None
    version = facts.get("version", "0")
    if not version.isdecimal():
        raise BankError(f"{path} is damaged: its version is {version[:60]!r}")
    bank.version = int(version)


def check_names(path: Path, slots: Iterable[str]) -> list[str]:
    """Those of a bank's slots that a file has. Raises BankError where it has none or is damaged."""
    slots = list(slots)
    try:
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
    except (SafetensorError, OSError, RuntimeError) as error:
        raise BankError(f"{path} cannot be read as a bank: {error}") from None
    if not there & set(slots):
        raise BankError(
            f"{path} has none of this space's slots, as {', '.join(slots[:2])}: give the "
            "bank.safetensors of a run of the same space"
        )
    return [key for key in slots if key in there]


def begin_bank(bank: Bank, path: Path) -> str:
    """Take from another bank's file what has the same name, as far as sizes go, and the head of
    another task where a task has none there and it is of the same sizes; what came of it, in words.
    Raises BankError where that is nothing, or the file is damaged."""
    if bank.grows:
        _agree(bank, path, facts_of(path))
    names = {key: key for key in check_names(path, bank.tensors)}
    segments = _segments(facts_of(path), path)
    with safe_open(path, framework="pt") as file:
        there = list(file.keys())
        names |= _other_heads(bank, {key: file.get_slice(key).get_shape() for key in there})
        for key, other in names.items():
            theirs, mine = file.get_tensor(other), bank.tensors[key]
            if theirs.dim() != mine.dim():
                continue
            own = bank.params[key]
            other_param = own._replace(shape=tuple(theirs.shape), segments=segments.get(other, ()))
            common = smallest([(own, key), (other_param, key)])[key]
            part = take(theirs, *boxes(common, other_param)).to(mine.device)
            put(mine, part, *boxes(common, own))
    return f"{len(names)} of {len(bank.tensors)} slots begin with weights of {path}"


def _segments(facts: Mapping[str, str], path: Path) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The segments of a file's slots, by key."""
    try:
        given = json.loads(facts.get("segments", "{}"))
        return {
            str(key): tuple(tuple(map(int, sizes)) for sizes in axes) for key, axes in given.items()
        }
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BankError(f"{path} is damaged: its segments cannot be read: {error}") from None


def _other_heads(bank: Bank, shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """For slots of heads that a file has not, by task, those of a task that it has with all of the
    same sizes, where there is one."""
    there, mine = _by_head(shapes), _by_head(bank.tensors)
    found = dict[str, str]()
    for task, slots in mine.items():
        sizes = {rest: tuple(bank.tensors[key].shape) for rest, key in slots.items()}
        alike = [
            other
            for other in there.values()
            if {rest: tuple(shapes[key]) for rest, key in other.items()} == sizes
        ]
        if task not in there and len(alike) == 1:
            found |= {key: alike[0][rest] for rest, key in slots.items()}
    return found


def _by_head(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """The slots of each task's head, by what follows its name."""
    heads: dict[str, dict[str, str]] = {}
    for key in keys:
        word, _, rest = key.partition("/")
        if word == "head":
            task, _, place = rest.partition("/")
            heads.setdefault(task, {})[place] = key
    return heads


def _agree(bank: Bank, path: Path, facts: Mapping[str, str]) -> None:
    """Make the slots that a file says, where the bank grows; raise BankError where the file
    is of a bank that shares weights otherwise."""
    share = facts.get("share", "path")
    if share != bank.share:
        raise BankError(f"{path} shares weights by {share}, and this space by {bank.share}")
    if bank.grows:
        try:
            slots: dict[str, Any] = json.loads(facts.get("slots", "{}"))
            for key, (name, shape, *rest) in slots.items():  # of such a bank none has segments
                bank.hold({key: Param(name, tuple(map(int, shape)), *rest[:4])})
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise BankError(f"{path} is damaged: its slots cannot be read: {error}") from None


def _match(bank: Bank, path: Path, there: Mapping[str, tuple[int, ...]]) -> None:
    """Raise BankError, before anything is read, where a file's tensors are not this bank's."""
    mine = {key: tuple(value.shape) for key, value in bank.tensors.items()}
    for key in sorted(mine.keys() | there.keys()):
        if mine.get(key) != there.get(key):
            raise BankError(
                f"{path} is another bank's: {key} is {there.get(key, 'missing')} there and "
                f"{mine.get(key, 'missing')} in this space"
            )


def facts_of(path: Path) -> dict[str, str]:
    """The facts a bank's file was saved with; raises BankError where it is damaged."""
    try:
        return metadata(path)
    except ValueError as error:
        raise BankError(str(error)) from None
