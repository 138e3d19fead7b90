"""A journal's lines after others were cut: their checksums go on from each other again."""

from __future__ import annotations

from collections.abc import Iterable

from nas.journal import checksum, read_line, write_line


def chained(lines: Iterable[bytes]) -> bytes:
    """Lines of a journal, some of which were left out, as a journal of their own."""
    whole, before = b"", 0
    for line in lines:
        event = _event(line)
        written = write_line(event, before)
        before, whole = checksum(written), whole + written
    return whole


def _event(line: bytes) -> dict[str, object]:
    import zlib

    body = line[9:-1]
    event = read_line(b"%08x %s" % (zlib.crc32(body), body))
    assert event is not None
    return event
