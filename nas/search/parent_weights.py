"""The weights that children of a run's trials may go on from, a file a derivation."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from nas.files import sweep, write


class ParentWeights:
    """A folder of trained weights by derivation text; it is made when it is first written to."""

    def __init__(self, folder: Path):
        self.folder = folder

    def put(self, derivation: str, data: bytes) -> None:
        """Keep the weights of a derivation; on disk when this returns."""
        self.folder.mkdir(exist_ok=True)
        write(self._path(derivation), data)

    def of(self, derivations: Sequence[str]) -> tuple[bytes, ...]:
        """The weights of some derivations; none where any has none."""
        paths = [self._path(text) for text in derivations]
        return tuple(p.read_bytes() for p in paths) if all(p.exists() for p in paths) else ()

    def keep(self, derivations: Collection[str]) -> None:
        """Remove the weights of all others, and what was left half written."""
        if not self.folder.exists():
            return
        sweep(self.folder)
        kept = {self._path(text) for text in derivations}
        for path in self.folder.glob("*.safetensors"):
            if path not in kept:
                path.unlink()

    def _path(self, derivation: str) -> Path:
        digest = hashlib.sha256(derivation.encode()).hexdigest()[:24]
        return self.folder / f"{digest}.safetensors"
