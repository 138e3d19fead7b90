"""One line of a journal: a checksum and an event as canonical JSON.

A line is a crc32 in eight hex digits, a space, the JSON with sorted keys, a newline. The checksum
is of the JSON, going on from that of the line before: so a line that is gone is noticed too.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | None"


class ArchiveError(ValueError):
    """A run's journal that cannot be read, written or understood; the message says what to do."""


_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """A text of somebody else's without what would steer a terminal: escapes, bells, returns."""
    return _STEERING.sub("\ufffd", text)


def write_line(event: Mapping[str, JSON], before: int = 0) -> bytes:
    """The line of an event; `before` is the checksum that it goes on from."""
    try:
        plain = _escape(event)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArchiveError(f"an event of kind {event['kind']!r} is no JSON: {error}") from error
    body = text.encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(body, before), body)


def checksum(line: bytes) -> int:
    """The checksum that a line says it has."""
    return int(line[:8], 16)


def read_line(line: bytes, before: int = 0) -> dict[str, Any] | None:
    """The event, or None if the line is not exactly what was written after `before`."""
    if line[:9] != b"%08x " % zlib.crc32(line[9:], before):
        return None
    try:
        event = _unescape(json.loads(line[9:]))
    except (ValueError, RecursionError):
        return None
    known = isinstance(event, dict) and isinstance(event.get("kind"), str)
    return cast("dict[str, Any]", event) if known else None


def holds_event(line: bytes, before: int = 0) -> bool:
    """Whether a whole event stands before other bytes: then a newline was lost, nothing torn."""
    text = line.rstrip(b"\n").decode("ascii", "replace")  # one character a byte
    try:
        _, end = json.JSONDecoder().raw_decode(text, 9)
    except (ValueError, RecursionError):
        return False
    return end < len(text) and read_line(line[:end], before) is not None


def finite(value: Any, otherwise: Callable[[float], JSON]) -> Any:
    """A value for JSON, which has no NaN or infinity: what stands for these is said."""
    if isinstance(value, Mapping):
        return {name: finite(inner, otherwise) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner, otherwise) for inner in value]
    wrong = isinstance(value, float) and not math.isfinite(value)
    return otherwise(value) if wrong else value


_NUMBERS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_LIKE_NUMBER = re.compile(r"=*(nan|inf|-inf)")


def _escape(value: JSON) -> JSON:
    """JSON has no NaN or infinity: they are the texts nan, inf, -inf; the text nan is =nan."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return f"={value}" if _LIKE_NUMBER.fullmatch(value) else value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"the keys of {value!r} are not all text")
        return {key: _escape(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(inner) for inner in value]
    return value


def _unescape(value: JSON) -> JSON:
    if isinstance(value, str):
        if value in _NUMBERS:
            return _NUMBERS[value]
        return value[1:] if _LIKE_NUMBER.fullmatch(value) else value
    if isinstance(value, dict):
        return {key: _unescape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unescape(inner) for inner in value]
    return value
