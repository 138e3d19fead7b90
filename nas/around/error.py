"""What is raised for a module that cannot be read."""

from __future__ import annotations


class UnreadError(ValueError):
    """A module around which no space can be written; the message names where, why and what to
    do."""


class TooManyError(UnreadError):
    """A space that holds too much to be worked out."""
