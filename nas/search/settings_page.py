"""The page of settings: every one with its default and meaning."""

from __future__ import annotations

from pydantic import BaseModel

from nas.search.settings import Settings, Strict


def page() -> str:
    """Every setting with its default and meaning, as Markdown: what docs/settings.md holds."""
    lines = ["# Settings", "", Settings.__doc__ or "", "", *_rows(Settings)]
    lines += ["Written as TOML for `--config`, or as keywords of `nas.search`. This page is what"]
    lines += ["`nas settings` prints.", ""]
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, Strict):
            part = type(field.default)
            lines += [f"## {name}", "", part.__doc__ or "", "", *_rows(part)]
    return "\n".join(lines).rstrip() + "\n"


def _rows(part: type[BaseModel]) -> list[str]:
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name, field in part.model_fields.items():
        if not isinstance(field.default, Strict):
            default = "" if field.is_required() else f"`{field.default!r}`"
            rows.append(f"| `{name}` | {default} | {field.description} |")
    return [*rows, ""]
