"""What cannot be done with a run."""

from __future__ import annotations


class RunError(ValueError):
    """A run folder that is none, of a newer version, or in the way."""
