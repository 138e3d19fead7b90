"""The report: one offline HTML page of a run."""

from __future__ import annotations

from pathlib import Path

from nas.files import write
from nas.report.figures import figure
from nas.report.page import render
from nas.search import Run

__all__ = ["figure", "render", "report"]


def report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, by default to its folder's report.html; what comes back is where.

    The file is whole or not there: an older page stays until the new one is complete.
    """
    path = run.folder / "report.html" if path is None else Path(path)
    page = render(run).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, page)
    return path
