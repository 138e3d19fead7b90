"""What cannot leave, or cannot be read back."""

from __future__ import annotations


class ExportError(ValueError):
    """A network that cannot leave as asked; the message names the value, the rule and the fix."""
