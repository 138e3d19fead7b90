"""The page of settings: every one with its default and meaning."""

from __future__ import annotations

import inspect

from pydantic import BaseModel

from nas.search.parts import Strict
from nas.search.settings import Settings


def page() -> str:
    """Every setting with its default and meaning, as Markdown: what docs/settings.md holds."""
    lines = ["# Settings", "", Settings.__doc__ or "", "", *_rows(Settings)]
    lines += ["Written as TOML for `--config`, or as keywords of `nas.search`. This page is what"]
    lines += ["`nas settings` prints.", ""]
    for name, field in Settings.model_fields.items():
        if (part := _part(field.default)) is not None:
            lines += [f"## {name}", "", inspect.getdoc(part) or "", "", *_rows(part)]
    return "\n".join(lines).rstrip() + "\n"


def _part(default: object) -> type[Strict] | None:
    """The settings that a setting holds, one or several times; None where it is a value."""
    first = default[0] if isinstance(default, tuple) and default else default
    return type(first) if isinstance(first, Strict) else None


def _rows(part: type[BaseModel]) -> list[str]:
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name, field in part.model_fields.items():
        if _part(field.default) is None:
            default = "" if field.is_required() else f"`{field.default!r}`"
            rows.append(f"| `{name}` | {default} | {field.description} |")
    return [*rows, ""]
