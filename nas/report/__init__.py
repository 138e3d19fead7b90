"""The report: one offline HTML page of a run, and figures for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import loaded_late

if TYPE_CHECKING:
    from nas.report.figures import figure
    from nas.report.page import render, report
    from nas.report.plots import plot_architecture, plot_front, plot_history

__getattr__ = loaded_late(
    __name__,
    {
        "figure": "figures",
        "plot_architecture": "plots",
        "plot_front": "plots",
        "plot_history": "plots",
        "render": "page",
        "report": "page",
    },
)

__all__ = ["figure", "plot_architecture", "plot_front", "plot_history", "render", "report"]


def __dir__() -> list[str]:
    return sorted(__all__)
